//! Gateways come, get a new certificate, and go, on both databases.

use super::*;
use crate::devices::tests::Fund;
use crate::testing::{NOW, databases};

#[tokio::test]
async fn a_renewed_certificate_takes_over_when_it_is_first_shown() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let old = &fund.gateway_identity.certificate;
        let name = &fund.gateway.name;
        let next = renew(&fund.app, name, &[], NOW).await.unwrap().certificate;
        for _ in 0..2 {
            assert!(find(&db, old).await.unwrap().is_some(), "not shown yet");
        }
        for _ in 0..2 {
            let found = find(&db, &next).await.unwrap();
            assert_eq!(found.unwrap().name, *name);
            assert!(find(&db, old).await.unwrap().is_none(), "taken over");
        }
        let hosts = ["vpn2.example.jp".to_owned()];
        let third = renew(&fund.app, name, &hosts, NOW).await.unwrap();
        let expected = ServerName::try_from("vpn2.example.jp").unwrap();
        let third = ParsedCertificate::try_from(&third.certificate).unwrap();
        assert!(verify_server_name(&third, &expected).is_ok());
        audit::verify(&db, &fund.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_retired_gateway_is_nobody_and_its_sessions_go_on_through_another() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let other = fund.further_gateway("osaka-1").await;
        let pc = fund.device("PC-1").await;
        let session = fund.connect(&pc).await.unwrap().grant.session;
        let name = &fund.gateway.name;
        assert_eq!(retire(&fund.app, name, NOW).await.unwrap(), 1);
        let old = &fund.gateway_identity.certificate;
        assert!(find(&db, old).await.unwrap().is_none());
        let found = tunnel_sessions::store::liveness(&db, session)
            .await
            .unwrap();
        assert!(
            found.unwrap().has_ended,
            "no connection by a retired gateway"
        );
        assert_eq!(
            store::urls(&db).await.unwrap(),
            ["https://osaka-1.example.jp"]
        );

        fund.move_to(&other, &pc, session).await.unwrap();
        let found = tunnel_sessions::store::liveness(&db, session)
            .await
            .unwrap();
        assert!(!found.unwrap().has_ended);
        let listed = list(&fund.app).await.unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|gateway| {
                (
                    &*gateway.name,
                    gateway.live_sessions,
                    gateway.retired.is_some(),
                )
            })
            .collect();
        assert_eq!(listed, [("osaka-1", 1, false), ("tokyo-1", 0, true)]);
        for refused in [
            retire(&fund.app, name, NOW).await.err(),
            renew(&fund.app, name, &[], NOW).await.err(),
        ] {
            assert!(matches!(refused, Some(ChangeError::NotInUse(_))));
        }
    }
}
