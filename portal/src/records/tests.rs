//! Searching records and verifying packs, through the routes of both sides.

use std::collections::BTreeMap;
use std::io::Read as _;

use http::StatusCode;
use time::Duration;

use super::pack::{INDEX, MANIFEST, SUMS, Signer};
use super::verify::{VerifyError, verify};
use super::*;
use crate::custody;
use crate::db::Db;
use crate::ids::NoticeId;
use crate::testing::world::World;
use crate::testing::{NOW, worlds};

/// A notice about an amount, issued on a day.
async fn issue(world: &World, at: OffsetDateTime, yen: Option<i64>, title: &str) -> NoticeId {
    let sealed = custody::seal(
        &world.app,
        world.alpha,
        "n.pdf",
        title.as_bytes().to_vec(),
        1,
    )
    .await
    .unwrap();
    let mut tx = world.app.db.begin().await.unwrap();
    let document = custody::store::record(&mut tx, sealed, at).await.unwrap();
    let id = NoticeId::new();
    sqlx::query(
        "INSERT INTO notices (id, number, kind, establishment_id, document_id, title, issued_ms,
                              issued_by, amount_yen)
         SELECT $1, $1, 'payment', $2, $3, $4, $5, MIN(s.id), $6 FROM staff s",
    )
    .bind(id.to_string())
    .bind(world.alpha.to_string())
    .bind(document.to_string())
    .bind(title.to_owned())
    .bind(crate::clock::unix_ms(at))
    .bind(yen)
    .execute(&mut *tx)
    .await
    .unwrap();
    Db::commit(tx).await.unwrap();
    id
}

async fn three(world: &World) {
    issue(
        world,
        NOW - Duration::days(60),
        Some(53_700),
        "一月の納入告知書",
    )
    .await;
    issue(
        world,
        NOW - Duration::days(30),
        Some(110_000),
        "=二月の納入告知書",
    )
    .await;
    issue(world, NOW, None, "三月のお知らせ").await;
}

#[test]
fn what_cannot_be_searched_for_is_told_by_field() {
    let typed = Typed {
        from: "2026-02-30".into(),
        until: "昨日".into(),
        least: "-1".into(),
        most: "1.5".into(),
        counterparty: "あ".repeat(101),
    };
    let errors = typed.read().unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["from", "until", "least", "most", "counterparty"]);
    let typed = Typed {
        from: "2026-03-02".into(),
        until: "2026-03-01".into(),
        least: "１０，０００".into(),
        most: "9999".into(),
        ..Typed::default()
    };
    let errors = typed.read().unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["until", "most"]);
}

#[tokio::test]
async fn date_amount_and_counterparty_are_searched_together_and_only_in_ones_own() {
    for world in worlds().await {
        three(&world).await;
        for (query, found) in [
            ("", 3),
            ("?from=2026-01-01", 3),
            ("?from=2026-02-01&until=2026-02-28", 1),
            ("?until=2026-02-11", 2),
            ("?least=53700&most=53700", 1),
            ("?least=53701", 1),
            (
                "?from=2026-02-01&least=1&counterparty=%E8%A6%8B%E6%9C%AC",
                1,
            ),
            ("?from=2026-02-01&most=100000", 0),
            ("?counterparty=%E5%88%A5%E3%81%AE%E5%9F%BA%E9%87%91", 0),
        ] {
            let (status, page) = world.alice.get(&format!("/records{query}")).await;
            assert_eq!(status, 200);
            assert!(
                page.contains(&format!("検索の結果（{found}件）")),
                "{query}: {page}"
            );
        }
        let (_, page) = world.bob.get("/records").await;
        assert!(page.contains("検索の結果（0件）"));
        // The office searches by number or part of a name; % is no wildcard.
        for (query, found) in [
            ("0123", 3),
            ("000124", 0),
            ("%E8%A3%BD%E4%BD%9C", 3),
            ("%25", 0),
            ("_", 0),
        ] {
            let (_, page) = world
                .sato
                .get(&format!("/records?counterparty={query}"))
                .await;
            assert!(
                page.contains(&format!("検索の結果（{found}件）")),
                "{query}"
            );
        }
        assert_eq!(world.admin.get("/records").await.0, 404);
        let (status, page) = world.alice.get("/records?from=x").await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains("value=\"x\""));
    }
}

#[tokio::test]
async fn a_pack_verifies_and_every_change_to_it_is_found() {
    let world = World::new().await;
    three(&world).await;
    let fields = [("least", "1")];
    let (status, _, zip) = world.alice.post_for_file("/records/pack", &fields).await;
    assert_eq!(status, 200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pack.zip");
    std::fs::write(&path, &zip).unwrap();
    let key = Signer::of(&world.app.keys).unwrap().public_key();
    let manifest = verify(&path, &key).unwrap();
    assert_eq!(manifest.files.len(), 3);
    assert_eq!(manifest.search, [("least".to_owned(), "1".to_owned())]);
    assert!(manifest.holder.contains("0123"));

    // Unpacked, and with the tax agency's names.
    let unpacked = folder.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&zip)).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        std::fs::write(unpacked.join(&name), &bytes).unwrap();
        files.insert(name, bytes);
    }
    verify(&unpacked, &key).unwrap();
    let name = files.keys().find(|name| name.contains("_110000_")).unwrap();
    assert!(
        name.starts_with("20260211_見本企業年金基金_110000_納入告知書_"),
        "{name}"
    );
    let index = String::from_utf8(files[INDEX].clone()).unwrap();
    assert!(index.starts_with('\u{FEFF}') && index.contains("'=二月の納入告知書"));
    let sums = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", SUMS])
        .current_dir(&unpacked)
        .status()
        .unwrap();
    assert!(sums.success());

    // Whatever is changed is found.
    let other = Signer::of(&crate::keys::MasterKey::generate())
        .unwrap()
        .public_key();
    assert!(matches!(verify(&path, &other), Err(VerifyError::Signature)));
    assert!(matches!(verify(&path, "x"), Err(VerifyError::Key)));
    let spoilt = |name: &str, bytes: Option<&[u8]>| {
        let at = unpacked.join(name);
        match bytes {
            Some(bytes) => std::fs::write(&at, bytes).unwrap(),
            None => std::fs::remove_file(&at).unwrap(),
        }
        let verdict = verify(&unpacked, &key);
        match files.get(name) {
            Some(bytes) => std::fs::write(&at, bytes).unwrap(),
            None => std::fs::remove_file(&at).unwrap(),
        }
        verdict.unwrap_err()
    };
    assert!(matches!(spoilt(name, Some(b"x")), VerifyError::Changed(_)));
    assert!(matches!(spoilt(name, None), VerifyError::Missing(_)));
    assert!(matches!(spoilt(INDEX, Some(b"")), VerifyError::Changed(_)));
    assert!(matches!(
        spoilt("more.pdf", Some(b"x")),
        VerifyError::Foreign(_)
    ));
    let manifest = String::from_utf8(files[MANIFEST].clone()).unwrap();
    let changed = manifest.replace("0123", "0124");
    assert!(matches!(
        spoilt(MANIFEST, Some(changed.as_bytes())),
        VerifyError::Signature
    ));
    verify(&unpacked, &key).unwrap();
}

#[tokio::test]
async fn taking_a_pack_is_fetching_and_what_was_recalled_is_only_the_offices() {
    let world = World::new().await;
    three(&world).await;
    let recalled = issue(&world, NOW, Some(5), "取り消すもの").await;
    let reason = [("reason", "誤り")];
    let path = format!("/notices/{recalled}/recall");
    assert_eq!(
        world.sato.post(&path, &reason).await.0,
        StatusCode::SEE_OTHER
    );
    let (status, _, zip) = world.alice.post_for_file("/records/pack", &[]).await;
    assert_eq!(status, 200);
    assert_eq!(
        zip::ZipArchive::new(std::io::Cursor::new(zip))
            .unwrap()
            .len(),
        3 + 5
    );
    let (_, page) = world.alice.get("/notices").await;
    assert!(!page.contains("未読の通知書が"), "{page}");
    let (_, page) = world.sato.get(&format!("/notices/{recalled}")).await;
    assert!(page.contains("まだ受け取られていません"), "{page}");
    let (status, _, zip) = world.sato.post_for_file("/records/pack", &[]).await;
    assert_eq!(status, 200);
    assert_eq!(
        zip::ZipArchive::new(std::io::Cursor::new(zip))
            .unwrap()
            .len(),
        4 + 5
    );
    let (status, _, _) = world.bob.post_for_file("/records/pack", &[]).await;
    assert_eq!(status, 409);
}
