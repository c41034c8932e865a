//! Filing by a form without scripts, as a browser with scripts off does it.

use super::*;
use crate::testing::world::{Browser, World, corpus};
use crate::testing::worlds;

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const PATH: &str = "/filings/plain";
const CORPUS_PASSWORD: &str = "Rene52hsqx3ca4q2";

/// The id of the upload that the form carries.
fn carried(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"upload\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

async fn hand_in(
    browser: &Browser,
    fields: &[(&str, &str)],
    file: Option<(&str, Vec<u8>)>,
) -> (StatusCode, String, String) {
    let files: Vec<_> = file.into_iter().collect();
    browser.post_files(PATH, fields, &files).await
}

#[tokio::test]
async fn a_pdf_is_named_by_the_form_and_leads_to_the_same_receipt() {
    for world in worlds().await {
        let (status, page) = world.alice.get(PATH).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!page.contains("upload.js"), "{page}");
        let pdf = corpus("good/20240229_0123_資格喪失届.pdf");
        let fields = [("date", "2026-03-12"), ("kind", "loss")];
        let (status, receipt, page) = hand_in(&world.alice, &fields, Some(("scan.pdf", pdf))).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        let (_, page) = world.alice.get(&receipt).await;
        assert!(page.contains("20260312_0123_資格喪失届"), "{page}");
        assert!(page.contains("2026年3月") && page.contains("受付番号"));
        let (_, queue) = world.sato.get("/filings").await;
        assert!(queue.contains("20260312_0123_資格喪失届"), "{queue}");
        // Nothing is left over.
        let (_, page) = world.alice.get("/filings/new").await;
        assert!(!page.contains("送信の途中のファイル"), "{page}");
    }
}

#[tokio::test]
async fn what_is_wrong_stands_beside_its_field_and_the_file_need_not_be_chosen_again() {
    for world in worlds().await {
        let (status, _, page) = hand_in(&world.alice, &[], None).await;
        assert_eq!(status, WRONG);
        assert!(page.contains("href=\"#files\""), "{page}");

        // A password zip: first without the password, then with it and without the file.
        let zip = corpus("good/20240524_0123_資格取得届.zip");
        let (status, _, page) = hand_in(&world.alice, &[], Some(("a.zip", zip))).await;
        assert_eq!(status, WRONG);
        assert!(page.contains("href=\"#password\""), "{page}");
        let upload = carried(&page);
        assert!(!upload.is_empty() && page.contains("いまのファイル"));
        let fields = [("upload", upload.as_str()), ("password", "wrong")];
        let (status, _, page) = hand_in(&world.alice, &fields, None).await;
        assert_eq!((status, carried(&page)), (WRONG, upload.clone()));
        // Nobody else's upload is one's own.
        let fields = [("upload", upload.as_str()), ("password", CORPUS_PASSWORD)];
        let (status, _, _) = hand_in(&world.bob, &fields, None).await;
        assert_eq!(status, WRONG);
        let (status, receipt, page) = hand_in(&world.alice, &fields, None).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        // Sent twice, it is the same receipt.
        let (_, again, _) = hand_in(&world.alice, &fields, None).await;
        assert_eq!(again, receipt);
    }
}

#[tokio::test]
async fn a_date_a_kind_and_a_reason_are_asked_for_where_they_are_missing() {
    for world in worlds().await {
        let pdf = corpus("good/20240229_0123_資格喪失届.pdf");
        let named = ("20240229_0123_資格喪失届.pdf", pdf.clone());
        let (status, ..) = hand_in(&world.alice, &[], Some(named.clone())).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "its name says all");
        let unnamed = ("scan.pdf", pdf.clone());
        let (status, _, page) = hand_in(&world.alice, &[], Some(unnamed.clone())).await;
        assert_eq!(status, WRONG);
        assert!(page.contains("href=\"#kind\""), "{page}");
        let fields = [("date", "x"), ("kind", "nothing")];
        let (_, _, page) = hand_in(&world.alice, &fields, Some(unnamed)).await;
        assert!(page.contains("href=\"#date\"") && page.contains("href=\"#kind\""));

        // The same once more needs a reason.
        let (status, _, page) = hand_in(&world.alice, &[], Some(named)).await;
        assert_eq!(status, WRONG);
        assert!(
            page.contains("href=\"#reason\"") && page.contains("と同じ内容です"),
            "{page}"
        );
        let upload = carried(&page);
        let fields = [
            ("upload", upload.as_str()),
            ("reason", "前回の届書を取り下げるため"),
        ];
        let (status, ..) = hand_in(&world.alice, &fields, None).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn what_must_not_be_received_is_not_kept_for_a_second_try() {
    for world in worlds().await {
        let zip = corpus("bad/my_number.zip");
        let fields = [("password", CORPUS_PASSWORD)];
        let (status, _, page) = hand_in(&world.alice, &fields, Some(("a.zip", zip))).await;
        assert_eq!(status, WRONG);
        assert!(
            page.contains("個人番号") && carried(&page).is_empty(),
            "{page}"
        );
        let name = ("1234-5678-9018.pdf", b"%PDF-1.7".to_vec());
        let (status, _, page) = hand_in(&world.alice, &fields, Some(name)).await;
        assert_eq!((status, carried(&page)), (WRONG, String::new()));
        let empty = ("empty.pdf", Vec::new());
        let (status, _, page) = hand_in(&world.alice, &fields, Some(empty)).await;
        assert_eq!(status, WRONG);
        assert!(page.contains("空です"), "{page}");
    }
}

#[tokio::test]
async fn a_file_of_many_parts_arrives_whole_and_one_too_large_is_refused() {
    let world = World::new().await;
    let mut pdf = corpus("good/20240229_0123_資格喪失届.pdf");
    let length = usize::try_from(uploads::PART_LIMIT_BYTES).unwrap() * 2 + 3;
    pdf.resize(length, b'\n');
    let name = FileName::parse("20240229_0123_資格喪失届.pdf").unwrap();
    let (member, now) = (world.alice.as_member().await, world.app.clock.now());
    let upload = uploads::take_whole(&world.app, &member, &name, &pdf, now)
        .await
        .unwrap()
        .unwrap();
    let content = uploads::content(&world.app, &member, &upload)
        .await
        .unwrap();
    assert!(*content == pdf, "as it was sent");
    let large = vec![0; usize::try_from(FILE_LIMIT_BYTES).unwrap() + 1];
    let refused = uploads::take_whole(&world.app, &member, &name, &large, now).await;
    assert_eq!(refused.unwrap(), Err(uploads::CreateError::TooLarge));
}
