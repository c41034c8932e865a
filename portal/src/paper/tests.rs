//! Paper from the printed cover sheet to the decision on it, and what a code leads to.

use http::StatusCode;

use super::*;
use crate::audit;
use crate::testing::world::World;
use crate::testing::worlds;

#[test]
fn a_code_is_read_however_it_is_typed() {
    let code: Code = "K7M29QXA".parse().unwrap();
    assert_eq!(code.to_string(), "K7M2-9QXA");
    for text in ["k7m2-9qxa", " K7M2 9QXA ", "Ｋ７Ｍ２－９ＱＸＡ"] {
        assert_eq!(text.parse(), Ok(code.clone()), "{text}");
    }
    for text in ["", "K7M2", "K7M2-9QXAA", "K7M2-9QX!", "漢字漢字漢字漢字"] {
        assert_eq!(text.parse::<Code>(), Err(NotACode), "{text}");
    }
    let made = Code::generate();
    assert_eq!(made.to_string().parse(), Ok(made));
}

/// Makes a cover sheet as alice; its code.
async fn cover(world: &World) -> String {
    let form = [
        ("kind", "bank-transfer"),
        ("filed_on", "2026-03-12"),
        ("sheets", "３"),
    ];
    let (status, _, page) = world.alice.post("/paper", &form).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    let (_, page) = world.alice.get("/paper").await;
    let at = page.find("data-code=\"").unwrap() + "data-code=\"".len();
    page[at..at + 9].to_owned()
}

#[tokio::test]
async fn paper_goes_from_its_cover_sheet_to_the_same_desk_and_history() {
    for world in worlds().await {
        let code = cover(&world).await;
        let (_, page) = world.alice.get("/paper").await;
        let at = page.find("/paper/0").unwrap();
        let path = &page[at..at + "/paper/".len() + 36 + "/cover.pdf".len()];
        let (status, _, pdf) = world.alice.download(path).await;
        assert_eq!(status, StatusCode::OK);
        crate::testing::archive::assert_archivable(&pdf);
        // Another establishment's sheet does not exist.
        assert_eq!(world.bob.get(path).await.0, StatusCode::NOT_FOUND);

        let find = format!("/paper?code={}", code.to_lowercase());
        let (status, page) = world.sato.get(&find).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("value=\"0123\"") && page.contains("value=\"2026-03-12\""));
        let form = [
            ("code", code.as_str()),
            ("establishment", "0123"),
            ("kind", "bank-transfer"),
            ("filed_on", "2026-03-12"),
            ("arrived", "2026-03-13"),
            ("sheets", "3"),
        ];
        let (status, filing, page) = world.sato.post("/paper", &form).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        // Scanned again, the code leads to the filing; recorded again, it is refused.
        let request = world.sato.request(http::Method::GET, &find);
        let response = world
            .sato
            .send(request.body(axum::body::Body::empty()).unwrap())
            .await;
        assert_eq!(response.headers()["location"], filing.as_str());
        let (status, _, page) = world.sato.post("/paper", &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains("すでに記録されています"));

        // Both sides see it in their lists, and it goes the ordinary way.
        let (_, list) = world.sato.get("/filings").await;
        assert!(list.contains(&filing) && list.contains("20260312_0123_預金口座振替依頼書"));
        let (_, list) = world.alice.get("/filings").await;
        assert!(list.contains(&filing));
        let (status, _, png) = world.sato.download(&format!("{filing}/pages/1.png")).await;
        assert_eq!((status, &png[1..4]), (StatusCode::OK, &b"PNG"[..]));
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let given = world
            .sato
            .post(&format!("{filing}/return"), &[("code", "illegible")])
            .await;
        assert_eq!(given.0, StatusCode::SEE_OTHER, "{}", given.2);
        let (_, page) = world.alice.get(&filing).await;
        assert!(page.contains("紙の届書を受け付けました") && page.contains("判読不能"));
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
        crate::history::tests::nothing_is_forgotten(&world.app.db).await;
    }
}

/// R23: sent through the portal and on paper, in either order.
#[tokio::test]
async fn a_filing_that_came_both_ways_is_pointed_out_to_whoever_handles_it() {
    for world in worlds().await {
        let sent = world.alice.file("20240229_0123_資格喪失届.pdf").await;
        let form = [
            ("code", ""),
            ("establishment", "0123"),
            ("kind", "loss"),
            ("filed_on", "2024-02-29"),
            ("arrived", "2026-03-13"),
            ("sheets", "1"),
        ];
        let (status, _, page) = world.sato.post("/paper", &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{page}");
        assert!(
            page.contains(&sent) && page.contains("に電子で届きました"),
            "{page}"
        );
        assert!(page.contains("href=\"#another\""), "{page}");
        // Compared and found to be another one, or to be recorded all the same.
        let mut compared = form.to_vec();
        compared.push(("another", "yes"));
        let (status, recorded, page) = world.sato.post("/paper", &compared).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        // Whoever handles one of the two sees the other.
        for (here, there, came) in [
            (&sent, &recorded, "に紙で届きました"),
            (&recorded, &sent, "に電子で届きました"),
        ] {
            let (_, page) = world.sato.get(here).await;
            assert!(page.contains("同じ届書かもしれません"), "{page}");
            assert!(
                page.contains(there.as_str()) && page.contains(came),
                "{page}"
            );
        }
        // The establishment's own page says nothing of it.
        let (_, page) = world.alice.get(&sent).await;
        assert!(!page.contains("同じ届書かもしれません"));
        // A returned one is no twin any more.
        world.sato.post(&format!("{recorded}/take"), &[]).await;
        let back = [("code", "illegible")];
        let given = world.sato.post(&format!("{recorded}/return"), &back).await;
        assert_eq!(given.0, StatusCode::SEE_OTHER, "{}", given.2);
        let (_, page) = world.sato.get(&sent).await;
        assert!(!page.contains("同じ届書かもしれません"));
    }
}

#[tokio::test]
async fn of_two_who_record_one_cover_sheet_at_once_one_wins() {
    for world in worlds().await {
        let code = cover(&world).await;
        let tries: Vec<_> = [&world.sato, &world.suzuki]
            .map(|browser| {
                let (browser, code) = (browser.clone(), code.clone());
                tokio::spawn(async move {
                    let form = [
                        ("code", code.as_str()),
                        ("establishment", "0123"),
                        ("kind", "bank-transfer"),
                        ("filed_on", "2026-03-12"),
                        ("arrived", "2026-03-13"),
                        ("sheets", "3"),
                    ];
                    browser.post("/paper", &form).await.0
                })
            })
            .into();
        let mut won = 0;
        for one in tries {
            won += usize::from(one.await.unwrap() == StatusCode::SEE_OTHER);
        }
        assert_eq!(won, 1);
        let (_, list) = world.sato.get("/filings").await;
        assert_eq!(list.matches("class=\"filing-name\"").count(), 1);
    }
}

#[tokio::test]
async fn what_is_no_arrival_is_refused_with_its_field_and_stays_in_the_form() {
    let world = World::new().await;
    let code = cover(&world).await;
    let good = [
        ("code", ""),
        ("establishment", "0123"),
        ("kind", "acquisition"),
        ("filed_on", "2026-03-12"),
        ("arrived", "2026-03-13"),
        ("sheets", "1"),
    ];
    for (name, value, field) in [
        ("establishment", "9999", "establishment"),
        ("establishment", "x", "establishment"),
        ("kind", "nothing", "kind"),
        ("filed_on", "2026-02-30", "filed_on"),
        ("arrived", "2026-03-14", "arrived"),
        ("arrived", "2020-01-01", "arrived"),
        ("sheets", "0", "sheets"),
        ("sheets", "501", "sheets"),
        ("code", "K7M2-9QXA", "find-code"),
    ] {
        let form = good.map(|(known, text)| (known, if known == name { value } else { text }));
        let (status, _, page) = world.sato.post("/paper", &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}={value}");
        assert!(page.contains(&format!("href=\"#{field}\"")), "{page}");
    }
    // Another establishment's cover sheet.
    let form = good.map(|(name, text)| match name {
        "code" => (name, code.as_str()),
        "establishment" => (name, "0124"),
        _ => (name, text),
    });
    let (status, _, page) = world.sato.post("/paper", &form).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.contains("送付状の事業所と違います"));
    // Without a cover sheet.
    let (status, filing, _) = world.sato.post("/paper", &good).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(filing.starts_with("/filings/"));
    let (status, page) = world.sato.get("/paper?code=ZZZZZZZZ").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.contains("この照会コードの送付状はありません"));
    let (status, _, _) = world.alice.post("/paper", &[("sheets", "x")]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}
