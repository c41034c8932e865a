//! Filing as an establishment does it, from the uploaded file to the fetched notice, through
//! the routes of both sides.

use std::io::{Cursor, Read as _};

use http::StatusCode;
use serde_json::{Value, json};

use crate::audit;
use crate::testing::world::{Browser, World, ZIP_PASSWORD, corpus, read};
use crate::testing::worlds;

async fn objects(world: &World) -> usize {
    let far = time::macros::datetime!(2100-01-01 0:00 UTC);
    world.app.vault.put_before(far).await.unwrap().len()
}

async fn count(world: &World, sql: &'static str) -> i64 {
    use sqlx::Row as _;
    let row = sqlx::query(sql).fetch_one(world.app.db.pool()).await;
    row.unwrap().try_get("n").unwrap()
}

async fn hand_in(browser: &Browser, body: Value) -> (StatusCode, Value) {
    browser.post_json("/filings", &body).await
}

fn sentences(answer: &Value) -> String {
    answer.to_string()
}

/// Files that a later rule refuses: nothing else than a scanner or a reader of numbers finds
/// anything wrong with them.
const LATER: [&str; 5] = [
    "bad/eicar_attached.zip",
    "bad/eicar.zip",
    "bad/my_number.zip",
    "bad/my_number_spaced.zip",
    "bad/my_number_fullwidth.zip",
];

#[tokio::test]
async fn every_file_of_the_corpus_gets_its_verdict_and_a_refused_one_leaves_nothing() {
    let world = World::new().await;
    let table = String::from_utf8(corpus("expected.csv")).unwrap();
    let mut accepted = 0;
    for line in table.lines().skip(1) {
        let file = line.split(',').next().unwrap();
        let mut rest = line[file.len() + 1..].splitn(3, ',');
        let (password, verdict) = (rest.next().unwrap(), rest.next().unwrap());
        if file.starts_with("registration/") || LATER.contains(&file) {
            continue;
        }
        let entries: Vec<&str> = match line.rsplit(',').next().unwrap() {
            "" => Vec::new(),
            entries => entries.split('|').collect(),
        };
        let name = file.rsplit('/').next().unwrap();
        let upload = world.alice.upload(name, corpus(file)).await;
        let kept = objects(&world).await;
        let password = (!password.is_empty()).then_some(password);
        let body = json!({
            "files": [{ "upload": upload, "password": password }],
            "duplicates_confirmed": true,
            "duplicate_reason": "訂正のため",
        });
        let (status, answer) = hand_in(&world.alice, body).await;
        if verdict == "accept" {
            assert_eq!(status, StatusCode::CREATED, "{file}: {answer}");
            let (status, page) = world.alice.get(answer["receipt"].as_str().unwrap()).await;
            assert_eq!(status, StatusCode::OK);
            for entry in &entries {
                assert!(page.contains(entry), "{file}: {entry}");
            }
            accepted += entries.len();
            // The part went, the filings came.
            assert_eq!(objects(&world).await, kept - 1 + entries.len(), "{file}");
        } else {
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{file}: {answer}");
            assert!(
                !answer["files"][0]["problems"]
                    .as_array()
                    .unwrap()
                    .is_empty()
            );
            assert_eq!(objects(&world).await, kept, "{file}");
            let request = world
                .alice
                .request(http::Method::DELETE, &format!("/uploads/{upload}"))
                .header(crate::web::forms::CSRF_HEADER, &world.alice.csrf)
                .body(axum::body::Body::empty());
            world.alice.send(request.unwrap()).await;
        }
    }
    let filings = count(&world, "SELECT COUNT(*) AS n FROM filings").await;
    assert_eq!(filings, i64::try_from(accepted).unwrap());
    assert_eq!(objects(&world).await, accepted);
    assert!(accepted > 10);
    audit::verify(&world.app.db, &world.app.keys).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once_and_the_upload_stays_for_the_right_one() {
    for world in worlds().await {
        let file = corpus("good/20240524_0123_資格取得届.zip");
        let upload = world.alice.upload("届.zip", file).await;
        for wrong in [None, Some("wrong")] {
            let body = json!({ "files": [{ "upload": upload, "password": wrong }] });
            let (status, answer) = hand_in(&world.alice, body).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            let problem = &answer["files"][0]["problems"][0];
            assert_eq!(problem["remedy"], "password", "{answer}");
        }
        let body = json!({ "files": [{ "upload": upload, "password": "Rene52hsqx3ca4q2" }] });
        let (status, _) = hand_in(&world.alice, body).await;
        assert_eq!(status, StatusCode::CREATED);
        // Two refusals and one submission stand in the audit log.
        assert_eq!(
            count(
                &world,
                "SELECT COUNT(*) AS n FROM audit_log WHERE act = 'upload_refused'"
            )
            .await,
            2
        );
    }
}

#[tokio::test]
async fn a_suggested_name_can_be_accepted() {
    for world in worlds().await {
        let file = corpus("bad/20240524-0123-資格取得届.pdf");
        let upload = world
            .alice
            .upload("20240524-0123-資格取得届.pdf", file)
            .await;
        let body = json!({ "files": [{ "upload": upload }] });
        let (_, answer) = hand_in(&world.alice, body).await;
        let problem = &answer["files"][0]["problems"][0];
        assert_eq!(problem["remedy"], "name");
        let suggestion = &problem["suggestion"];
        assert_eq!(suggestion["name"], "20240524_0123_資格取得届.pdf");
        let name = json!({ "date": suggestion["date"], "kind": suggestion["kind"] });
        let body = json!({ "files": [{ "upload": upload, "names": [name] }] });
        let (status, answer) = hand_in(&world.alice, body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let (_, page) = world.alice.get(answer["receipt"].as_str().unwrap()).await;
        assert!(page.contains("20240524_0123_資格取得届.pdf"));
        assert!(page.contains("元のファイル名：20240524-0123-資格取得届.pdf"));
    }
}

#[tokio::test]
async fn of_several_files_one_bad_one_keeps_all_of_them_out() {
    let world = World::new().await;
    let good = world
        .alice
        .upload(
            "20240229_0123_資格喪失届.pdf",
            corpus("good/20240229_0123_資格喪失届.pdf"),
        )
        .await;
    let bad = world.alice.upload("a.pdf", b"not a PDF".to_vec()).await;
    let body = json!({ "files": [{ "upload": good }, { "upload": bad }] });
    let (status, answer) = hand_in(&world.alice, body).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer["files"].as_array().unwrap().len(), 1);
    assert_eq!(answer["files"][0]["upload"], bad.as_str());
    assert_eq!(count(&world, "SELECT COUNT(*) AS n FROM filings").await, 0);
    assert_eq!(objects(&world).await, 2);
}

#[tokio::test]
async fn asking_twice_or_at_once_gives_one_filing_and_one_receipt() {
    for world in worlds().await {
        let file = corpus("good/20240229_0123_資格喪失届.pdf");
        let upload = world
            .alice
            .upload("20240229_0123_資格喪失届.pdf", file)
            .await;
        let requests: Vec<_> = (0..4)
            .map(|_| {
                let (alice, upload) = (world.alice.clone(), upload.clone());
                tokio::spawn(async move {
                    hand_in(&alice, json!({ "files": [{ "upload": upload }] })).await
                })
            })
            .collect();
        let mut receipts = Vec::new();
        for request in requests {
            let (status, answer) = request.await.unwrap();
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            receipts.extend(answer["receipt"].as_str().map(str::to_owned));
        }
        let (status, answer) =
            hand_in(&world.alice, json!({ "files": [{ "upload": upload }] })).await;
        assert_eq!(status, StatusCode::CREATED);
        receipts.extend(answer["receipt"].as_str().map(str::to_owned));
        receipts.dedup();
        assert_eq!(receipts.len(), 1);
        assert_eq!(count(&world, "SELECT COUNT(*) AS n FROM filings").await, 1);
        assert_eq!(objects(&world).await, 1);
    }
}

#[tokio::test]
async fn the_same_content_is_asked_about_before_it_is_filed_again() {
    for world in worlds().await {
        let file = corpus("good/20240229_0123_資格喪失届.pdf");
        let name = "20240229_0123_資格喪失届.pdf";
        let first = world.alice.upload(name, file.clone()).await;
        let (status, _) = hand_in(&world.alice, json!({ "files": [{ "upload": first }] })).await;
        assert_eq!(status, StatusCode::CREATED);
        let again = world.alice.upload(name, file.clone()).await;
        let body = json!({ "files": [{ "upload": again }] });
        let (status, answer) = hand_in(&world.alice, body).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(sentences(&answer).contains("20260313-0001"), "{answer}");
        let link = answer["duplicates"][0]["link"].as_str().unwrap();
        assert_eq!(world.alice.get(link).await.0, StatusCode::OK);
        // The content of another establishment is nobody's business.
        let other = world.bob.upload("20240229_0124_資格喪失届.pdf", file).await;
        let (status, answer) = hand_in(&world.bob, json!({ "files": [{ "upload": other }] })).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        // Without a reason, and with one that no timeline may hold, nothing is filed.
        let with = |reason: &str| {
            json!({
                "files": [{ "upload": again }],
                "duplicates_confirmed": true,
                "duplicate_reason": reason,
            })
        };
        let (status, _) = hand_in(&world.alice, with(" ")).await;
        assert_eq!(status, StatusCode::CONFLICT);
        let (status, _) = hand_in(&world.alice, with("番号は1234 5678 9018です")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let (status, answer) = hand_in(&world.alice, with("押印欄を直したため")).await;
        assert_eq!(status, StatusCode::CREATED);
        let (_, receipt) = world.alice.get(answer["receipt"].as_str().unwrap()).await;
        let at = receipt.find("/filings/0").unwrap();
        let (_, page) = world
            .alice
            .get(&receipt[at..at + "/filings/".len() + 36])
            .await;
        assert!(page.contains("理由：押印欄を直したため"), "{page}");
    }
}

#[tokio::test]
async fn a_filing_goes_its_whole_way_and_both_sides_read_one_timeline() {
    for world in worlds().await {
        let (alice, sato) = (&world.alice, &world.sato);
        let filing = alice.file("20260313_0123_資格取得届.pdf").await;

        // Returned, with a reason.
        sato.post(&format!("{filing}/take"), &[]).await;
        let empty = sato
            .post(&format!("{filing}/return"), &[("code", "incomplete")])
            .await;
        assert_eq!(empty.0, StatusCode::UNPROCESSABLE_ENTITY);
        let fields = [("code", "incomplete"), ("text", "基準給与が空欄です。")];
        let returned = sato.post(&format!("{filing}/return"), &fields).await;
        assert_eq!(returned.0, StatusCode::SEE_OTHER, "{}", returned.2);
        let (_, page) = alice.get(&filing).await;
        assert!(page.contains("記載不備") && page.contains("基準給与が空欄です。"));
        assert!(!page.contains("佐藤"));
        let (_, home) = alice.get("/").await;
        assert!(home.contains("差戻しの届書が1件あります"));

        // Corrected, and linked.
        let id = filing.trim_start_matches("/filings/");
        let (status, page) = alice.get(&format!("/filings/new?replaces={id}")).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("基準給与が空欄です。"));
        let file = corpus("good/20250402_0123_資格取得届.pdf");
        let upload = alice.upload("20250402_0123_資格取得届.pdf", file).await;
        let body = json!({ "files": [{ "upload": upload }], "replaces": id });
        let (status, answer) = hand_in(alice, body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let (_, receipt) = alice.get(answer["receipt"].as_str().unwrap()).await;
        let at = receipt.find("/filings/0").unwrap();
        let corrected = receipt[at..at + 45].to_owned();
        let (_, page) = alice.get(&filing).await;
        assert!(page.contains(&corrected));
        let (_, home) = alice.get("/").await;
        assert!(!home.contains("差戻しの届書が"));

        // Decided: form, draft, issue.
        sato.post(&format!("{corrected}/take"), &[]).await;
        let path = format!("{corrected}/determination");
        let (status, page) = sato.get(&path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("option value=\"acquisition\" selected"));
        let wrong = sato.post(&path, &[("member_number", "1001")]).await;
        assert_eq!(wrong.0, StatusCode::UNPROCESSABLE_ENTITY);
        let person = [
            ("member_number", "1001"),
            ("name", "髙﨑 花子"),
            ("event", "acquisition"),
            ("event_on", "2025-04-01"),
            ("salary", "300,000"),
        ];
        let (status, draft, body) = sato.post(&path, &person).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{body}");
        let (status, page) = sato.get(&draft).await;
        assert_eq!(status, StatusCode::OK);
        let at = page.find("name=\"draft\" value=\"").unwrap() + 20;
        let draft = &page[at..at + 36];
        let (status, headers, png) = sato.download(&format!("{path}/pages/1.png")).await;
        assert_eq!(
            (status, &headers["content-type"] == "image/png"),
            (StatusCode::OK, true)
        );
        assert!(png.starts_with(b"\x89PNG"));
        // Nothing is issued yet, and nobody else can issue what Sato looks at.
        assert!(!alice.get("/notices").await.1.contains("決定通知書（"));
        let rival = world
            .suzuki
            .post(&format!("{path}/issue"), &[("draft", draft)])
            .await;
        assert_eq!(rival.0, StatusCode::CONFLICT);
        let (status, _, body) = sato
            .post(&format!("{path}/issue"), &[("draft", draft)])
            .await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{body}");
        assert_eq!(count(&world, "SELECT COUNT(*) AS n FROM notices").await, 1);
        let mails = count(&world, "SELECT COUNT(*) AS n FROM outbox").await;
        assert_eq!(mails, 2);

        // Fetched.
        let (_, home) = alice.get("/").await;
        assert!(home.contains("新しい通知書が1件届いています"));
        let at = home.find("/notices/0").unwrap();
        let notice = home[at..at + 46].trim_end_matches('"').to_owned();
        let (status, page) = alice.get(&notice).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("まだ受け取られていません"));
        let (status, headers, pdf) = alice.download(&format!("{notice}.pdf")).await;
        assert_eq!(status, StatusCode::OK);
        let name = headers["content-disposition"].to_str().unwrap();
        assert!(
            name.contains("filename*=UTF-8''20260313_0123_%E6%B1%BA"),
            "{name}"
        );
        assert!(pdf.starts_with(b"%PDF-"));
        let (status, _, zip) = alice.download(&format!("{notice}.zip")).await;
        assert_eq!(status, StatusCode::OK);
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let mut inside = Vec::new();
        let mut entry = archive
            .by_index_decrypt(0, ZIP_PASSWORD.as_bytes())
            .unwrap();
        entry.read_to_end(&mut inside).unwrap();
        assert_eq!(inside, pdf);
        let (_, page) = sato.get(&notice).await;
        assert!(page.contains("髙﨑 花子") && page.contains("zip（パスワード付き）"));

        // One timeline.
        let (_, theirs) = alice.get(&corrected).await;
        let (_, ours) = sato.get(&corrected).await;
        for sentence in [
            "受け付けました",
            "審査を始めました",
            "決定しました",
            "決定通知書を発行しました",
            "決定通知書を受け取りました",
        ] {
            assert_eq!(theirs.matches(sentence).count(), 1, "{sentence}");
            assert_eq!(ours.matches(sentence).count(), 1, "{sentence}");
        }
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_reviewers_at_once_one_takes_the_case() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let path = format!("{filing}/take");
        let rivals: Vec<_> = [
            &world.sato,
            &world.suzuki,
            &world.tanaka,
            &world.sato,
            &world.suzuki,
        ]
        .into_iter()
        .map(|browser| {
            let (browser, path) = (browser.clone(), path.clone());
            tokio::spawn(async move { browser.post(&path, &[]).await.0 })
        })
        .collect();
        let mut taken = 0;
        for rival in rivals {
            match rival.await.unwrap() {
                StatusCode::SEE_OTHER => taken += 1,
                status => assert_eq!(status, StatusCode::CONFLICT),
            }
        }
        assert_eq!(taken, 1);
        let events = "SELECT COUNT(*) AS n FROM filing_events WHERE event = 'taken'";
        assert_eq!(count(&world, events).await, 1);
    }
}

#[tokio::test]
async fn issuing_the_same_draft_at_once_issues_one_notice() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格喪失届.pdf").await;
        let path = format!("{filing}/determination");
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let person = [
            ("member_number", "1"),
            ("name", "山田 太郎"),
            ("event", "loss"),
            ("event_on", "2026-03-01"),
        ];
        world.sato.post(&path, &person).await;
        let (_, page) = world.sato.get(&format!("{path}/draft")).await;
        let at = page.find("name=\"draft\" value=\"").unwrap() + 20;
        let draft = page[at..at + 36].to_owned();
        let rivals: Vec<_> = (0..4)
            .map(|_| {
                let (sato, path, draft) =
                    (world.sato.clone(), format!("{path}/issue"), draft.clone());
                tokio::spawn(async move { sato.post(&path, &[("draft", &draft)]).await.0 })
            })
            .collect();
        let mut issued = 0;
        for rival in rivals {
            issued += i32::from(rival.await.unwrap() == StatusCode::SEE_OTHER);
        }
        assert_eq!(issued, 1);
        assert_eq!(count(&world, "SELECT COUNT(*) AS n FROM notices").await, 1);
        let decided = "SELECT COUNT(*) AS n FROM filing_events WHERE event = 'decided'";
        assert_eq!(count(&world, decided).await, 1);
    }
}

#[tokio::test]
async fn a_determination_of_the_reviewers_own_is_checked_and_issued_as_it_is() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格喪失届.pdf").await;
        let path = format!("{filing}/determination");
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let send = async |bytes: Vec<u8>| {
            let request = world
                .sato
                .request(http::Method::POST, &format!("{path}/file"))
                .header(crate::web::forms::CSRF_HEADER, &world.sato.csrf)
                .body(axum::body::Body::from(bytes));
            let (status, body) = read(world.sato.send(request.unwrap()).await).await;
            (status, String::from_utf8(body).unwrap())
        };
        let (status, answer) = send(b"no PDF".to_vec()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.contains("PDF"), "{answer}");
        let own = corpus("good/20250402_0123_資格取得届.pdf");
        let (status, answer) = send(own.clone()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let (_, page) = world.sato.get(&format!("{path}/draft")).await;
        let at = page.find("name=\"draft\" value=\"").unwrap() + 20;
        let draft = [("draft", &page[at..at + 36])];
        let (status, ..) = world.sato.post(&format!("{path}/issue"), &draft).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (_, page) = world.alice.get(&filing).await;
        let at = page.find("/notices/0").unwrap();
        let notice = format!("{}.pdf", &page[at..at + 45]);
        assert_eq!(world.alice.download(&notice).await.2, own);
    }
}

#[tokio::test]
async fn a_letter_that_bears_another_day_is_not_issued() {
    let world = World::new().await;
    let filing = world.alice.file("20260313_0123_資格喪失届.pdf").await;
    let path = format!("{filing}/determination");
    let now = world.app.clock.now();
    world
        .app
        .clock
        .set(now + time::Duration::hours(13) + time::Duration::minutes(50));
    let sato = world.sato_again().await;
    sato.post(&format!("{filing}/take"), &[]).await;
    let person = [
        ("member_number", "1"),
        ("name", "山田 太郎"),
        ("event", "loss"),
        ("event_on", "2026-03-01"),
    ];
    sato.post(&path, &person).await;
    let draft_of = |page: &str| {
        let at = page.find("name=\"draft\" value=\"").unwrap() + 20;
        page[at..at + 36].to_owned()
    };
    let draft = draft_of(&sato.get(&format!("{path}/draft")).await.1);
    world.app.clock.set(now + time::Duration::hours(14));
    let (status, ..) = sato
        .post(&format!("{path}/issue"), &[("draft", &draft)])
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(count(&world, "SELECT COUNT(*) AS n FROM notices").await, 0);
    // Made anew it keeps its number.
    sato.post(&path, &person).await;
    let (_, page) = sato.get(&format!("{path}/draft")).await;
    assert!(page.contains("決定第2025-00001号"));
    let draft = [("draft", draft_of(&page))];
    let draft = [(draft[0].0, draft[0].1.as_str())];
    let (status, ..) = sato.post(&format!("{path}/issue"), &draft).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_sender_withdraws_until_the_review_begins() {
    for world in worlds().await {
        let one = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let two = world.alice.file("20260313_0123_資格喪失届.pdf").await;
        let (status, ..) = world.alice.post(&format!("{one}/withdraw"), &[]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert!(world.alice.get(&one).await.1.contains("取り下げました"));
        world.sato.post(&format!("{two}/take"), &[]).await;
        let (status, _, body) = world.alice.post(&format!("{two}/withdraw"), &[]).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(body.contains("審査が始まっている"));
    }
}

#[tokio::test]
async fn what_another_establishment_owns_does_not_exist() {
    for world in worlds().await {
        let (alice, bob, sato) = (&world.alice, &world.bob, &world.sato);
        let filing = alice.file("20260313_0123_資格取得届.pdf").await;
        let path = format!("{filing}/determination");
        sato.post(&format!("{filing}/take"), &[]).await;
        let person = [
            ("member_number", "1"),
            ("name", "山田 太郎"),
            ("event", "acquisition"),
            ("event_on", "2026-03-01"),
        ];
        sato.post(&path, &person).await;
        let (_, page) = sato.get(&format!("{path}/draft")).await;
        let at = page.find("name=\"draft\" value=\"").unwrap() + 20;
        sato.post(&format!("{path}/issue"), &[("draft", &page[at..at + 36])])
            .await;
        let (_, page) = alice.get(&filing).await;
        let at = page.find("/notices/0").unwrap();
        let notice = page[at..at + 45].to_owned();
        let at = page.find("/submissions/0").unwrap();
        let receipt = page[at..at + 49].to_owned();
        for path in [
            filing.clone(),
            format!("{filing}/document.pdf"),
            receipt.clone(),
            format!("{receipt}/receipt.pdf"),
            notice.clone(),
            format!("{notice}.pdf"),
            format!("{notice}.zip"),
            filing.replace("/filings/", "/filings/new?replaces="),
        ] {
            let (status, _) = bob.get(&path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            // The path is right: its owner is not turned away like this.
            assert_ne!(alice.get(&path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
        let (status, ..) = bob.post(&format!("{filing}/withdraw"), &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        for list in ["/", "/filings", "/notices"] {
            let (_, page) = bob.get(list).await;
            assert!(
                !page.contains("20260313_0123") && !page.contains("決定通知書（"),
                "{list}"
            );
        }
        let foreign = alice.upload("a.pdf", b"x".to_vec()).await;
        let (status, _) = hand_in(bob, json!({ "files": [{ "upload": foreign }] })).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        // The system administrator reads nothing.
        for path in [filing.clone(), notice, "/filings".into(), "/notices".into()] {
            let (status, _) = world.admin.get(&path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        }
    }
}

#[tokio::test]
async fn the_history_is_searched_by_name_state_and_day() {
    for world in worlds().await {
        for day in 1..=21 {
            world
                .alice
                .file(&format!("202603{day:02}_0123_資格取得届.pdf"))
                .await;
        }
        let last = world.alice.file("20260301_0123_資格喪失届.pdf").await;
        world.alice.post(&format!("{last}/withdraw"), &[]).await;
        let found = async |query: &str| {
            let (status, page) = world.alice.get(&format!("/filings?{query}")).await;
            assert_eq!(status, StatusCode::OK);
            page.matches("data-label=\"届書\"").count()
        };
        assert_eq!(found("").await, 20);
        assert_eq!(found("page=2").await, 2);
        assert_eq!(found("text=%E5%96%AA%E5%A4%B1").await, 1);
        assert_eq!(found("text=2026%EF%BC%90305").await, 1);
        assert_eq!(found("text=%25").await, 0);
        assert_eq!(found("state=withdrawn").await, 1);
        assert_eq!(found("from=2026-03-13&to=2026-03-13").await, 20);
        assert_eq!(found("from=2026-03-14").await, 0);
        assert_eq!(found("to=2026-03-12").await, 0);
        let (_, page) = world
            .sato
            .get("/filings?establishment=0123&text=20260305")
            .await;
        assert_eq!(page.matches("data-label=\"届書\"").count(), 1);
        let (_, page) = world.sato.get("/filings?establishment=124").await;
        assert_eq!(page.matches("data-label=\"届書\"").count(), 0);
    }
}

/// The portal writes the name: by the file's own as far as it goes, else by what is in it.
#[tokio::test]
async fn a_file_of_any_name_gets_its_name_from_the_portal() {
    for world in worlds().await {
        let file = corpus("good/20240229_0123_資格喪失届.pdf");
        for (name, date, kind, is_right) in [
            ("20240229_0123_資格喪失届.pdf", "2024-02-29", "loss", true),
            ("R6.2.29 喪失届.pdf", "2024-02-29", "loss", false),
            ("スキャン_0001.pdf", "2026-03-13", "loss", false),
        ] {
            let upload = world.alice.upload(name, file.clone()).await;
            let path = format!("/uploads/{upload}/name");
            let (status, body) = world.alice.get(&path).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answer["kind"], kind, "{name}: {answer}");
            assert_eq!(answer["date"], date, "{name}: {answer}");
            assert_eq!(answer["is_right"], is_right, "{name}: {answer}");
            assert_eq!(world.bob.get(&path).await.0, StatusCode::NOT_FOUND);
        }
        let upload = world.alice.upload("スキャン_0001.pdf", file).await;
        let body = json!({ "files": [{
            "upload": upload,
            "names": [{ "entry": null, "date": "2026-03-13", "kind": "loss" }],
        }]});
        let (status, answer) = hand_in(&world.alice, body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let (_, page) = world.alice.get(answer["receipt"].as_str().unwrap()).await;
        assert!(page.contains("20260313_0123_資格喪失届.pdf"));
        assert!(page.contains("スキャン_0001.pdf"));
    }
}

/// The number stands in no row and no answer, wherever in a name it was written.
#[tokio::test]
async fn an_individual_number_in_a_name_is_refused_and_kept_nowhere() {
    for world in worlds().await {
        for name in [
            "1234 5678 9018.pdf",
            "20260313_0123_資格取得届_１２３４５６７８９０１８.pdf",
        ] {
            let response = world.alice.begin(name, 10).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name}");
        }
        let pdf = corpus("good/20240229_0123_資格喪失届.pdf");
        let zip = zip_of("1234-5678-9018_資格取得届.pdf", &pdf);
        let upload = world.alice.upload("届書.zip", zip).await;
        let body = json!({ "files": [{ "upload": upload, "password": "Rene52hsqx3ca4q2" }] });
        let (status, answer) = hand_in(&world.alice, body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let text = answer.to_string();
        assert!(
            text.contains("個人番号") && !text.contains("5678"),
            "{text}"
        );
    }
}

fn zip_of(name: &str, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .with_aes_encryption(zip::AesMode::Aes256, "Rene52hsqx3ca4q2");
    zip.start_file(name, options).unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap().into_inner()
}
