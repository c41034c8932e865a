//! A receipt is checked by its file and by what stands on paper.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};

use crate::testing::world::{Browser, World, read};
use crate::testing::worlds;

async fn receipt_of(browser: &Browser) -> (String, Vec<u8>) {
    let filing = browser.file("20260313_0123_資格取得届.pdf").await;
    let (_, page) = browser.get(&filing).await;
    let at = page.find("/submissions/").expect("a receipt");
    let path = page[at..at + "/submissions/".len() + 36].to_owned();
    let (status, _, pdf) = browser.download(&format!("{path}/receipt.pdf")).await;
    assert_eq!(status, StatusCode::OK);
    (path, pdf)
}

async fn checked(browser: &Browser, file: Option<&[u8]>, fields: &[(&str, &str)]) -> String {
    const EDGE: &str = "edge-of-a-part";
    let mut body = Vec::new();
    let csrf = browser.csrf.clone();
    for (name, value) in [("csrf", csrf.as_str())].iter().chain(fields) {
        let part = format!(
            "--{EDGE}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(part.as_bytes());
    }
    if let Some(file) = file {
        let part = format!(
            "--{EDGE}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"r.pdf\"\r\n\r\n"
        );
        body.extend_from_slice(part.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{EDGE}--\r\n").as_bytes());
    let request: Request<Body> = browser
        .request(Method::POST, "/receipts/verify")
        .header(
            header::CONTENT_TYPE,
            format!("multipart/form-data; boundary={EDGE}"),
        )
        .body(Body::from(body))
        .expect("a request");
    let (status, bytes) = read(browser.send(request).await).await;
    assert_eq!(status, StatusCode::OK);
    String::from_utf8(bytes).expect("a page")
}

fn code_on(page: &str) -> (String, String) {
    let after = |mark: &str| {
        let at = page.find(mark).expect(mark) + mark.len();
        let end = page[at..].find('<').expect("an end");
        page[at..at + end].to_owned()
    };
    (
        after("<strong class=\"big-code\">"),
        after("<dt>確認コード</dt><dd>"),
    )
}

#[tokio::test]
async fn a_receipt_as_it_was_issued_is_true_and_an_edited_copy_is_not() {
    for world in worlds().await {
        let (path, pdf) = receipt_of(&world.alice).await;
        for browser in [&world.alice, &world.bob, &world.sato] {
            let page = checked(browser, Some(&pdf), &[]).await;
            assert!(page.contains("正しい受付票です"), "{page}");
            assert!(page.contains("2026年3月分"));
        }
        for at in (0..pdf.len()).step_by(pdf.len() / 40) {
            let mut edited = pdf.clone();
            edited[at] ^= 0x20;
            let page = checked(&world.alice, Some(&edited), &[]).await;
            assert!(page.contains("正しくありません"), "{at}");
        }
        let page = checked(&world.alice, Some(b"%PDF-1.7\n"), &[]).await;
        assert!(page.contains("受付票ではありません"));
        // Made again, it is true again, and says the same.
        let (_, _, again) = world.alice.download(&format!("{path}/receipt.pdf")).await;
        assert!(
            checked(&world.alice, Some(&again), &[])
                .await
                .contains("正しい受付票です")
        );
    }
}

#[tokio::test]
async fn number_and_code_off_paper_belong_together_or_not() {
    for world in worlds().await {
        let (path, _) = receipt_of(&world.alice).await;
        let (_, page) = world.alice.get(&path).await;
        let (number, code) = code_on(&page);
        let typed = code.to_lowercase().replace('-', " ");
        for browser in [&world.alice, &world.sato] {
            let page = checked(browser, None, &[("number", &number), ("code", &typed)]).await;
            assert!(
                page.contains("一致しました") && page.contains("髙﨑 花子"),
                "{page}"
            );
        }
        // Another establishment's is not there at all.
        let page = checked(&world.bob, None, &[("number", &number), ("code", &code)]).await;
        assert!(page.contains("見つかりません") && !page.contains("髙﨑"));
        let wrong = [("number", &*number), ("code", "AAAA-AAAA-AAAA")];
        assert!(
            checked(&world.alice, None, &wrong)
                .await
                .contains("見つかりません")
        );
        let page = checked(&world.alice, None, &[]).await;
        assert!(page.contains("href=\"#file\""));
        let page = checked(&world.alice, None, &[("number", "2026"), ("code", "A")]).await;
        assert!(page.contains("href=\"#number\""));
    }
}

#[tokio::test]
async fn a_changed_row_is_no_true_receipt() {
    let world = World::new().await;
    let (path, _) = receipt_of(&world.alice).await;
    let (_, page) = world.alice.get(&path).await;
    let (number, code) = code_on(&page);
    sqlx::query(
        "UPDATE receipts SET content = REPLACE(content, 'counts: 2026-03', 'counts: 2026-02')",
    )
    .execute(world.app.db.pool())
    .await
    .unwrap();
    let page = checked(&world.sato, None, &[("number", &number), ("code", &code)]).await;
    assert!(page.contains("見つかりません"));
}
