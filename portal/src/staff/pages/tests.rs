//! The system administrator keeps the accounts of staff, of whom the last ones stay.

use http::StatusCode;

use super::*;
use crate::testing::world::{Browser, World, worlds};

async fn in_role(world: &World, role: StaffRole) -> Vec<StaffId> {
    let lines = store::list(&world.app.db).await.unwrap();
    lines
        .into_iter()
        .filter(|line| line.role == role && line.disabled.is_none())
        .map(|line| line.id)
        .collect()
}

#[tokio::test]
async fn the_last_supervisor_and_oneself_stay() {
    for world in worlds().await {
        let supervisor = in_role(&world, StaffRole::Supervisor).await[0];
        for (path, form) in [("disable", &[][..]), ("role", &[("role", "reviewer")])] {
            let path = format!("/staff/{supervisor}/{path}");
            let (status, _, text) = world.admin.post(&path, form).await;
            assert_eq!(status, StatusCode::CONFLICT);
            assert!(text.contains("責任者が1名もいなくなる"), "{text}");
        }
        let own = world.admin.as_staff().await.id();
        world.staff("次", StaffRole::SystemAdmin).await;
        let (_, _, text) = world
            .admin
            .post(&format!("/staff/{own}/disable"), &[])
            .await;
        assert!(text.contains("ご自分のアカウント"), "{text}");
        world.staff("次", StaffRole::Supervisor).await;
        let (status, ..) = world
            .admin
            .post(&format!("/staff/{supervisor}/disable"), &[])
            .await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert_eq!(
            world.tanaka.get("/approvals").await.0,
            StatusCode::UNAUTHORIZED
        );
    }
}

#[tokio::test]
async fn two_administrators_who_disable_each_other_at_once_leave_one() {
    for world in worlds().await {
        let other = world.staff("次", StaffRole::SystemAdmin).await;
        let (first, second) = (world.admin.clone(), other);
        let (one, two) = (first.as_staff().await.id(), second.as_staff().await.id());
        let a =
            tokio::spawn(async move { first.post(&format!("/staff/{two}/disable"), &[]).await.0 });
        let b =
            tokio::spawn(async move { second.post(&format!("/staff/{one}/disable"), &[]).await.0 });
        let answers = [a.await.unwrap(), b.await.unwrap()];
        let done = answers
            .iter()
            .filter(|status| **status == StatusCode::SEE_OTHER);
        assert_eq!(done.count(), 1, "{answers:?}");
        assert_eq!(in_role(&world, StaffRole::SystemAdmin).await.len(), 1);
    }
}

#[tokio::test]
async fn a_new_account_is_shown_once_and_does_nothing_before_its_own_password() {
    for world in worlds().await {
        assert_eq!(world.tanaka.get("/staff").await.0, StatusCode::NOT_FOUND);
        let form = [
            ("user_id", "Ito"),
            ("name", "伊藤 三郎"),
            ("role", "supervisor"),
        ];
        let (status, _, text) = world.admin.post("/staff/new", &form).await;
        assert_eq!(status, StatusCode::OK);
        let at = text.find("/staff/0").unwrap();
        let picture = text[at..].split('"').next().unwrap().to_owned();
        assert_eq!(&world.admin.download(&picture).await.2[1..4], b"PNG");
        assert_eq!(world.tanaka.get(&picture).await.0, StatusCode::NOT_FOUND);
        let (status, _, text) = world.admin.post("/staff/new", &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            text.contains("すでに使われています") && text.contains("伊藤 三郎"),
            "{text}"
        );

        let id: StaffId = picture[7..43].parse().unwrap();
        let ito = world.signed_in_staff(id).await;
        let request = ito
            .request(Method::GET, "/filings")
            .body(axum::body::Body::empty());
        let answer = ito.send(request.unwrap()).await;
        assert_eq!(answer.headers()[header::LOCATION], "/first-password");
        let new = |text| [("new_password", text), ("new_password_again", text)];
        let (status, ..) = ito.post("/first-password", &new("short")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let (status, _, text) = ito
            .post("/first-password", &new("mori no naka no chiisana ie"))
            .await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{text}");
        assert_eq!(ito.get("/filings").await.0, StatusCode::OK);
        assert_eq!(ito.get("/first-password").await.0, StatusCode::NOT_FOUND);

        // Once a code of the authenticator was taken, its picture is gone.
        sqlx::query("UPDATE staff SET totp_last_step = 1")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        assert_eq!(world.admin.get(&picture).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn who_was_added_by_one_person_alone_can_neither_propose_nor_decide() {
    for world in worlds().await {
        let add = async |login: &str, role: &str| {
            let form = [("user_id", login), ("name", "架空 太郎"), ("role", role)];
            let (status, _, text) = world.admin.post("/staff/new", &form).await;
            assert_eq!(status, StatusCode::OK);
            assert!(text.contains("別の方の承認が必要です"), "{text}");
            let at = text.find("/staff/0").unwrap();
            let id: StaffId = text[at + 7..at + 43].parse().unwrap();
            let browser = world.signed_in_staff(id).await;
            let new = "mori no naka no chiisana ie";
            let new = [("new_password", new), ("new_password_again", new)];
            let (status, ..) = browser.post("/first-password", &new).await;
            assert_eq!(status, StatusCode::SEE_OTHER);
            (id, world.signed_in_staff(id).await)
        };
        let (_, boss) = add("boss", "supervisor").await;
        let (second_id, second) = add("second", "system_admin").await;

        // One person with three accounts gets nothing through.
        let own = world.sato.as_staff().await.id();
        let reset = format!("/staff/{own}/reset");
        let reason = [("reason", "スマートフォンの紛失")];
        let (status, _, text) = second.post(&reset, &reason).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(text.contains("まだ別の方に承認されていません"), "{text}");
        let (status, ..) = world.admin.post(&reset, &reason).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let approve = async |browser: &Browser, subject: &str| {
            let (_, page) = browser.get("/approvals").await;
            let page = &page[page.find(subject).unwrap()..];
            let page = &page[page.find("/approvals/0").unwrap()..];
            browser.post(&page[..47 + "/approve".len()], &[]).await
        };
        for browser in [&boss, &second] {
            let (status, _, text) = approve(browser, "職員のログインの再発行").await;
            assert_eq!(status, StatusCode::CONFLICT);
            assert!(text.contains("まだ別の方に承認されていません"), "{text}");
        }

        // Nor do they count as those whom the fund must have.
        let tanaka = world.tanaka.as_staff().await.id();
        let disable = format!("/staff/{tanaka}/disable");
        assert_eq!(
            world.admin.post(&disable, &[]).await.0,
            StatusCode::CONFLICT
        );

        // A second person knows one of them.
        let (status, ..) = approve(&world.tanaka, "（second）").await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (_, list) = world.admin.get("/staff").await;
        assert_eq!(list.matches("承認待ち").count(), 1, "{list}");
        let (status, ..) = approve(&second, "職員のログインの再発行").await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (status, ..) = approve(&boss, "（boss）").await;
        assert_eq!(status, StatusCode::CONFLICT, "nobody approves himself");

        // Refused, it can be proposed once more; what is approved cannot.
        let again = format!("/staff/{second_id}/propose");
        assert_eq!(world.admin.post(&again, &[]).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_lost_sign_in_of_staff_is_made_anew_by_two_and_never_ones_own() {
    for world in worlds().await {
        let id = world.sato.as_staff().await.id();
        let own = world.admin.as_staff().await.id();
        let reason = [("reason", "スマートフォンの紛失")];
        let (status, _, text) = world
            .admin
            .post(&format!("/staff/{own}/reset"), &reason)
            .await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(text.contains("ご自分のアカウント"), "{text}");

        let (path, issue) = (format!("/staff/{id}/reset"), format!("/staff/{id}/issue"));
        assert_eq!(
            world.tanaka.post(&path, &reason).await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(world.admin.post(&path, &[]).await.0, StatusCode::CONFLICT);
        assert_eq!(world.admin.post(&issue, &[]).await.0, StatusCode::CONFLICT);
        let (_, location, text) = world.admin.post(&path, &reason).await;
        assert_eq!(location, "/approvals?done=proposed", "{text}");
        let (_, page) = world.tanaka.get("/approvals").await;
        let at = page.find("/approvals/0").unwrap();
        let approve = page[at..].split('"').next().unwrap().to_owned();
        assert_eq!(
            world.admin.post(&approve, &[]).await.0,
            StatusCode::CONFLICT
        );
        assert_eq!(
            world.suzuki.post(&approve, &[]).await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            world.tanaka.post(&approve, &[]).await.0,
            StatusCode::SEE_OTHER
        );
        assert_eq!(world.sato.get("/filings").await.0, StatusCode::OK);

        let (one, two) = tokio::join!(world.admin.post(&issue, &[]), world.admin.post(&issue, &[]));
        let mut statuses = [one.0, two.0];
        statuses.sort();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::CONFLICT]);
        assert_eq!(world.sato.get("/filings").await.0, StatusCode::UNAUTHORIZED);
        let picture = format!("/staff/{id}/authenticator.png");
        assert_eq!(world.admin.get(&picture).await.0, StatusCode::OK);
        let acts: Vec<String> =
            sqlx::query_scalar("SELECT act FROM audit_log WHERE object_id = $1")
                .bind(id.to_string())
                .fetch_all(world.app.db.pool())
                .await
                .unwrap();
        assert!(acts.contains(&"staff_reset".to_owned()), "{acts:?}");
    }
}
