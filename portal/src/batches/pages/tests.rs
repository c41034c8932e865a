//! Batches as staff make them and establishments receive them, through the routes of both
//! sides.

use std::io::{Cursor, Write as _};

use http::StatusCode;
use sqlx::Row as _;
use time::Duration;
use zip::write::SimpleFileOptions;

use crate::audit;
use crate::batches::{mails, table};
use crate::documents::{Role, Sheet, Style};
use crate::ids::BatchId;
use crate::mail::outbox;
use crate::mail::{Outgoing, SendError, Transport};
use crate::testing::world::{Browser, World, ZIP_PASSWORD};
use crate::testing::{NOW, worlds};

mod twice;
mod whom;

/// A month's CSV for both establishments.
fn csv() -> String {
    let template = table::template();
    let line = template.lines().nth(1).unwrap();
    let second = line
        .replace("0123,見本製作所株式会社", "0124,例示物流（株）")
        .replace("例示物流（株）", "例示物流株式会社");
    format!("{template}{second}\r\n")
}

/// A letter with these pages.
fn letter(pages: &[&str]) -> Vec<u8> {
    let mut sheet = Sheet::new("お知らせ", "見本企業年金基金", NOW);
    for (index, text) in pages.iter().enumerate() {
        if index > 0 {
            sheet.need(f32::INFINITY);
        }
        sheet.paragraph(Role::Paragraph, text, Style::new(10.0));
    }
    sheet.finish().unwrap()
}

async fn drop_csv(staff: &Browser, csv: &str) -> String {
    let fields = [
        ("source", "csv"),
        ("month", "2026-02"),
        ("edition", "first"),
    ];
    drop_with(staff, &fields, &[("掛金.csv", csv.as_bytes().to_vec())]).await
}

async fn drop_with(staff: &Browser, fields: &[(&str, &str)], files: &[(&str, Vec<u8>)]) -> String {
    let (status, path, page) = staff.post_files("/batches/new", fields, files).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    path
}

async fn drop_files(staff: &Browser, files: &[(&str, Vec<u8>)]) -> String {
    let fields = [
        ("source", "files"),
        ("month", "2026-02"),
        ("edition", "first"),
    ];
    drop_with(staff, &fields, files).await
}

/// Proposes a batch; the path on which it is approved.
async fn propose(staff: &Browser, batch: &str) -> String {
    let reason = [("reason", "件数と合計を照合済み")];
    let (status, to, page) = staff.post(&format!("{batch}/propose"), &reason).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    assert_eq!(to, format!("{batch}?done=proposed"));
    let (_, page) = staff.get("/approvals").await;
    let at = page.find("/approvals/0").expect("an open proposal");
    format!("{}/approve", &page[at..at + "/approvals/".len() + 36])
}

/// Everything up to the release.
async fn released(world: &World, csv: &str) -> String {
    let batch = drop_csv(&world.sato, csv).await;
    let approve = propose(&world.sato, &batch).await;
    let (status, _, page) = world.tanaka.post(&approve, &[]).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    crate::history::tests::nothing_is_forgotten(&world.app.db).await;
    batch
}

async fn count(world: &World, sql: &'static str) -> i64 {
    let row = sqlx::query(sql).fetch_one(world.app.db.pool()).await;
    row.unwrap().try_get("n").unwrap()
}

async fn objects(world: &World) -> usize {
    let far = time::macros::datetime!(2100-01-01 0:00 UTC);
    world.app.vault.put_before(far).await.unwrap().len()
}

/// The paths of the notices that a member's list links to.
async fn notices(browser: &Browser) -> Vec<String> {
    let (_, page) = browser.get("/notices").await;
    let mut found: Vec<String> = page
        .match_indices("\"/notices/0")
        .map(|(at, _)| page[at + 1..at + 1 + "/notices/".len() + 36].to_owned())
        .collect();
    found.dedup();
    found
}

#[tokio::test]
async fn one_csv_becomes_two_documents_for_each_establishment_when_a_second_person_says_so() {
    for world in worlds().await {
        let batch = drop_csv(&world.sato, &csv()).await;
        let (status, page) = world.sato.get(&batch).await;
        assert_eq!(status, 200);
        for words in [
            "4件（2事業所）",
            "掛金計算書 107,400円",
            "0124 例示物流株式会社",
            "2行目",
            "掛金第2025-001-0123号",
            "納入告知書（令和8年2月分）",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        let at = page.find("/items/0").unwrap();
        let item = format!("{batch}{}", &page[at..at + "/items/".len() + 36]);
        assert_eq!(world.sato.get(&item).await.0, 200);
        // Nothing is out yet, and nobody but another supervisor lets it out.
        let approve = propose(&world.sato, &batch).await;
        assert!(notices(&world.alice).await.is_empty());
        assert_eq!(count(&world, "SELECT COUNT(*) AS n FROM outbox").await, 0);
        for (nobody, status) in [
            (&world.suzuki, 404),
            (&world.admin, 404),
            (&world.sato, 409),
        ] {
            assert_eq!(nobody.post(&approve, &[]).await.0, status);
        }
        let (status, _, page) = world.tanaka.post(&approve, &[]).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        assert_ne!(
            world.tanaka.post(&approve, &[]).await.0,
            StatusCode::SEE_OTHER
        );

        // Each has two, and only its own.
        let (own, other) = (notices(&world.alice).await, notices(&world.bob).await);
        assert_eq!((own.len(), other.len()), (2, 2));
        assert_eq!(world.bob.get(&own[0]).await.0, 404);
        let (_, page) = world.alice.get("/notices").await;
        assert!(page.contains("53,700円") && page.contains("未読の通知書が2件あります"));
        let (status, headers, pdf) = world.alice.download(&format!("{}.pdf", own[0])).await;
        assert_eq!(status, 200);
        assert!(pdf.starts_with(b"%PDF-"));
        let name = headers["content-disposition"].to_str().unwrap().to_owned();
        assert!(name.contains("20260313_0123_"), "{name}");
        // One mail for each person, however many documents.
        assert_eq!(count(&world, "SELECT COUNT(*) AS n FROM outbox").await, 2);
        let (_, page) = world.sato.get(&batch).await;
        assert!(page.contains("受取済 1件、未受領 3件"), "{page}");
        let (_, page) = world.sato.get(&format!("{batch}?show=unfetched")).await;
        assert!(page.contains("0124 例示物流株式会社"));
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn another_establishments_page_stops_the_whole_batch_and_is_named() {
    let world = World::new().await;
    let good = letter(&["事業所番号 0123", "見本製作所株式会社 御中"]);
    let strayed = letter(&["事業所番号 0124", "内訳", "見本製作所株式会社 御中"]);
    let files = [
        ("20260313_0123_掛金計算書.pdf", good.clone()),
        ("20260313_0124_掛金計算書.pdf", strayed),
    ];
    let batch = drop_files(&world.sato, &files).await;
    let (_, page) = world.sato.get(&batch).await;
    assert!(
        page.contains("20260313_0124_掛金計算書.pdf の3ページ目"),
        "{page}"
    );
    assert!(
        page.contains("別の事業所（0123 見本製作所株式会社）の名称"),
        "{page}"
    );
    assert_eq!(objects(&world).await, 0);
    let reason = [("reason", "x")];
    assert_eq!(
        world
            .sato
            .post(&format!("{batch}/propose"), &reason)
            .await
            .0,
        409
    );

    // Everything that is wrong is told at once.
    sqlx::query("UPDATE establishments SET suspended_ms = 1 WHERE number = 124")
        .execute(world.app.db.pool())
        .await
        .unwrap();
    let files = [
        ("0124_掛金計算書.pdf", good.clone()),
        ("0999_掛金計算書.pdf", good.clone()),
        ("掛金計算書.pdf", good.clone()),
        ("0123_掛金計算書.pdf", b"no pdf".to_vec()),
        ("0123_納入告知書.pdf", good.clone()),
        ("20260313_0123_納入告知書.pdf", good.clone()),
    ];
    let batch = drop_files(&world.sato, &files).await;
    let (_, page) = world.sato.get(&batch).await;
    for words in [
        "0124は利用停止中",
        "0999は登録されていません",
        "事業所番号（4桁または6桁）がありません",
        "「納入告知書」が2つあります",
        "問題が5件",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(objects(&world).await, 0);
    let (status, _, page) = world.sato.post(&format!("{batch}/discard"), &[]).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
}

#[tokio::test]
async fn a_zip_of_pdfs_is_taken_apart_and_scans_are_pointed_out() {
    let world = World::new().await;
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in [
        ("0123_お知らせ.pdf", "事業所番号 0123"),
        ("0124_お知らせ.pdf", "加入者の皆さまへ"),
    ] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&letter(&[text])).unwrap();
    }
    let zip = zip.finish().unwrap().into_inner();
    let batch = drop_files(&world.sato, &[("一式.zip", zip)]).await;
    let (_, page) = world.sato.get(&batch).await;
    assert!(page.contains("2件（2事業所）"), "{page}");
    assert!(page.contains("番号も名称も見つかりません"), "{page}");
    assert_eq!(objects(&world).await, 2);
    let (status, to, _) = world.sato.post(&format!("{batch}/discard"), &[]).await;
    assert_eq!((status, to.as_str()), (StatusCode::SEE_OTHER, "/batches"));
    assert_eq!(objects(&world).await, 0);
    assert_eq!(
        count(&world, "SELECT COUNT(*) AS n FROM documents").await,
        0
    );
}

#[tokio::test]
async fn a_month_is_issued_once_and_corrected_by_a_second_edition_that_leaves_the_first() {
    let world = World::new().await;
    let first = csv();
    released(&world, &first).await;
    let batch = drop_csv(&world.sato, &first).await;
    let (_, page) = world.sato.get(&batch).await;
    assert!(page.contains("すでに発行しています"), "{page}");

    let own = notices(&world.alice).await;
    world.alice.download(&format!("{}.pdf", own[0])).await;
    let fields = [
        ("source", "csv"),
        ("month", "2026-02"),
        ("edition", "correction"),
    ];
    let files = [("訂正.csv", first.clone().into_bytes())];
    let batch = drop_with(&world.sato, &fields, &files).await;
    let approve = propose(&world.sato, &batch).await;
    assert_eq!(
        world.tanaka.post(&approve, &[]).await.0,
        StatusCode::SEE_OTHER
    );
    let (_, page) = world.alice.get(&own[0]).await;
    assert!(page.contains("この通知書には訂正版があります"), "{page}");
    assert_eq!(notices(&world.alice).await.len(), 4);
    // Of a month that was never issued there is nothing to correct.
    let fields = [
        ("source", "csv"),
        ("month", "2026-01"),
        ("edition", "correction"),
    ];
    let batch = drop_with(&world.sato, &fields, &files).await;
    let (_, page) = world.sato.get(&batch).await;
    assert!(page.contains("訂正版にできません"), "{page}");
}

#[tokio::test]
async fn what_is_typed_wrong_is_told_and_stays_in_the_form() {
    let world = World::new().await;
    let csv = [("x.csv", csv().into_bytes())];
    for (fields, files, words) in [
        (
            vec![("source", "csv"), ("month", "2026")],
            &csv[..],
            "対象の月を",
        ),
        (vec![("month", "2026-02")], &csv[..], "発行するもの"),
        (
            vec![("source", "csv"), ("month", "2026-02")],
            &[],
            "ファイルを選んで",
        ),
    ] {
        let (status, _, page) = world.sato.post_files("/batches/new", &fields, files).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains(words), "{words}");
        let month = fields.iter().find(|(name, _)| *name == "month").unwrap().1;
        assert!(page.contains(&format!("value=\"{month}\"")));
    }
    let (status, headers, template) = world.sato.download("/batches/template.csv").await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
    assert!(template.starts_with(b"\xEF\xBB\xBF"));
    for path in ["/batches", "/batches/new"] {
        assert_eq!(world.sato.get(path).await.0, 200);
        assert_eq!(world.admin.get(path).await.0, 404, "{path}");
    }
    assert_eq!(
        world
            .sato
            .get(&format!("/batches/{}", BatchId::new()))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn a_crash_between_mails_forgets_nobody_and_repeats_nobody() {
    for world in worlds().await {
        let colleague = world.colleague().await;
        let batch = released(&world, &csv()).await;
        let id: BatchId = batch.trim_start_matches("/batches/").parse().unwrap();
        let queued = "SELECT COUNT(*) AS n FROM outbox";
        assert_eq!(count(&world, queued).await, 3);
        // As if the portal had died after the first of them.
        for sql in [
            "UPDATE notice_batches SET mailed_ms = NULL",
            "DELETE FROM outbox WHERE id <> (SELECT MIN(id) FROM outbox)",
            "DELETE FROM notice_mails WHERE user_id <> (SELECT MIN(user_id) FROM notice_mails)",
        ] {
            sqlx::query(sql).execute(world.app.db.pool()).await.unwrap();
        }
        let now = world.app.clock.now();
        let (one, two) = tokio::join!(
            mails::tidy(&world.app, now),
            mails::tell(&world.app, id, now)
        );
        one.unwrap();
        two.unwrap();
        assert_eq!(count(&world, queued).await, 3);
        mails::tidy(&world.app, now).await.unwrap();
        assert_eq!(count(&world, queued).await, 3);

        // Reminders go to those who have something left, once a day.
        for notice in notices(&world.bob).await {
            world.bob.download(&format!("{notice}.pdf")).await;
        }
        drop(colleague);
        let remind = format!("{batch}/remind");
        assert_eq!(world.sato.post(&remind, &[]).await.0, StatusCode::SEE_OTHER);
        assert_eq!(count(&world, queued).await, 5);
        let (status, _, page) = world.sato.post(&remind, &[]).await;
        assert_eq!(status, 409);
        assert!(page.contains("今日はすでに"), "{page}");
        // On the fifth working day by themselves.
        mails::tidy(&world.app, NOW + Duration::days(6))
            .await
            .unwrap();
        assert_eq!(count(&world, queued).await, 5);
        for _ in 0..2 {
            mails::tidy(&world.app, NOW + Duration::days(10))
                .await
                .unwrap();
            assert_eq!(count(&world, queued).await, 7);
        }
    }
}

#[tokio::test]
async fn mails_about_a_batch_say_nothing_of_whom_or_what() {
    struct Kept(tokio::sync::Mutex<Vec<Outgoing>>);
    impl Transport for Kept {
        async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
            self.0.lock().await.push(mail.clone());
            Ok(())
        }
    }
    let world = World::new().await;
    released(&world, &csv()).await;
    let kept = Kept(tokio::sync::Mutex::new(Vec::new()));
    while outbox::send_next(&world.app, &kept, world.app.clock.now())
        .await
        .unwrap()
    {}
    let mails = kept.0.lock().await;
    assert_eq!(mails.len(), 2);
    for mail in mails.iter() {
        for word in [
            "見本製作所",
            "例示物流",
            "0123",
            "0124",
            "53,700",
            "掛金",
            "髙﨑",
        ] {
            assert!(
                !mail.body.contains(word) && !mail.subject.contains(word),
                "{word}"
            );
        }
    }
}

#[tokio::test]
async fn a_notice_is_recalled_until_somebody_has_it_and_leaves_a_trace() {
    for world in worlds().await {
        released(&world, &csv()).await;
        let own = notices(&world.alice).await;
        let reason = [("reason", "金額の誤り")];
        assert_eq!(
            world
                .sato
                .post(&format!("{}/recall", own[0]), &[("reason", " ")])
                .await
                .0,
            422
        );
        let (status, _, page) = world
            .sato
            .post(&format!("{}/recall", own[0]), &reason)
            .await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        for path in [
            own[0].clone(),
            format!("{}.pdf", own[0]),
            format!("{}.zip", own[0]),
        ] {
            assert_eq!(world.alice.get(&path).await.0, 404, "{path}");
        }
        assert_eq!(notices(&world.alice).await, own[1..].to_vec());
        let (_, page) = world.alice.get("/notices").await;
        assert!(page.contains("基金が取消し") && !page.contains("金額の誤り"));
        let (_, page) = world.sato.get(&own[0]).await;
        assert!(page.contains("金額の誤り"), "{page}");
        assert_eq!(
            world
                .sato
                .post(&format!("{}/recall", own[0]), &reason)
                .await
                .0,
            409
        );

        world.alice.download(&format!("{}.pdf", own[1])).await;
        let (status, _, page) = world
            .sato
            .post(&format!("{}/recall", own[1]), &reason)
            .await;
        assert_eq!(status, 409);
        assert!(page.contains("受け取っているため取り消せません"), "{page}");
        assert_eq!(world.alice.get(&own[1]).await.0, 200);
        crate::history::tests::nothing_is_forgotten(&world.app.db).await;
    }
}

#[tokio::test]
async fn of_a_recall_and_a_fetch_at_once_exactly_one_happens() {
    for world in worlds().await {
        released(&world, &csv()).await;
        let mut all = notices(&world.alice).await;
        all.extend(notices(&world.bob).await);
        for (index, notice) in all.iter().enumerate() {
            let browser = if index < 2 { &world.alice } else { &world.bob };
            let (recall, pdf) = (format!("{notice}/recall"), format!("{notice}.pdf"));
            let reason = [("reason", "誤り")];
            let (recalled, fetched) =
                tokio::join!(world.sato.post(&recall, &reason), browser.download(&pdf));
            let recalled = recalled.0 == StatusCode::SEE_OTHER;
            let fetched = fetched.0 == StatusCode::OK;
            assert!(
                recalled != fetched,
                "recalled {recalled}, fetched {fetched}"
            );
        }
        let both = "SELECT COUNT(*) AS n FROM notices
             WHERE (recalled_ms IS NULL) = (first_fetched_ms IS NULL)";
        assert_eq!(count(&world, both).await, 0);
        let strays =
            "SELECT COUNT(*) AS n FROM notice_fetches f JOIN notices n ON n.id = f.notice_id
             WHERE n.recalled_ms IS NOT NULL";
        assert_eq!(count(&world, strays).await, 0);
    }
}

#[tokio::test]
async fn everything_unread_comes_in_one_zip_and_is_fetched_by_that() {
    let world = World::new().await;
    released(&world, &csv()).await;
    let (status, headers, zip) = world.alice.post_for_file("/notices/unread", &[]).await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/zip");
    let password = archive::Password::new(ZIP_PASSWORD.to_owned());
    let opened = archive::open(&zip, Some(&password)).unwrap();
    assert_eq!(opened.entries.len(), 2);
    assert!(
        opened
            .entries
            .iter()
            .all(|entry| entry.bytes.starts_with(b"%PDF-"))
    );
    let fetched = "SELECT COUNT(*) AS n FROM notice_fetches";
    assert_eq!(count(&world, fetched).await, 2);
    let (status, _, page) = world.alice.post_for_file("/notices/unread", &[]).await;
    assert_eq!(status, 409);
    assert!(String::from_utf8_lossy(&page).contains("未読の通知書はありません"));
    // Bob's are still unread.
    let (_, page) = world.bob.get("/notices").await;
    assert!(page.contains("未読の通知書が2件あります"));
}

#[tokio::test]
async fn a_batch_that_nobody_released_goes_with_its_documents() {
    for world in worlds().await {
        let batch = drop_csv(&world.sato, &csv()).await;
        assert_eq!(objects(&world).await, 4);
        mails::tidy(&world.app, NOW + Duration::days(29))
            .await
            .unwrap();
        assert_eq!(objects(&world).await, 4);
        mails::tidy(&world.app, NOW + Duration::days(30))
            .await
            .unwrap();
        assert_eq!(objects(&world).await, 0);
        let (_, page) = world.sato.get(&batch).await;
        assert!(page.contains("破棄"), "{page}");
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}
