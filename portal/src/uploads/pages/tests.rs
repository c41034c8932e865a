//! The upload protocol as a browser and as a careless or hostile client speak it, on both
//! databases.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::*;
use crate::testing::world::{Browser, World, read};
use crate::testing::{NOW, worlds};
use crate::uploads::{FILE_LIMIT_BYTES, LIFETIME, OPEN_LIMIT, PART_LIMIT_BYTES};
use crate::web::forms::CSRF_HEADER;

async fn content(browser: &Browser, path: &str) -> Vec<u8> {
    let (app, member) = (browser.app(), browser.as_member().await);
    let id = path.strip_prefix("/uploads/").unwrap().parse().unwrap();
    let upload = store::find(&app.db, &member, id, app.clock.now())
        .await
        .unwrap()
        .unwrap();
    let bytes = crate::uploads::content(app, &member, &upload).await;
    bytes.unwrap().to_vec()
}

async fn objects(world: &World) -> usize {
    let far = time::macros::datetime!(2100-01-01 0:00 UTC);
    world.app.vault.put_before(far).await.unwrap().len()
}

#[tokio::test]
async fn a_file_arrives_in_parts_and_lies_sealed() {
    for world in worlds().await {
        let alice = &world.alice;
        let file: Vec<u8> = (0..50_000_u32).flat_map(u32::to_be_bytes).collect();
        let path = alice.begun("届書.zip", file.len() as u64).await;
        assert_eq!(alice.offset(&path).await, Some(0));
        for (start, end) in [(0, 70_000), (70_000, 70_001), (70_001, file.len())] {
            let response = alice
                .part(&path, start as u64, file[start..end].to_vec())
                .await;
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            assert_eq!(response.headers()[UPLOAD_OFFSET], end.to_string().as_str());
        }
        assert_eq!(alice.offset(&path).await, Some(file.len() as u64));
        assert_eq!(content(alice, &path).await, file);
    }
}

#[tokio::test]
async fn a_part_at_a_wrong_offset_is_refused_with_the_right_one() {
    for world in worlds().await {
        let alice = &world.alice;
        let path = alice.begun("a.zip", 10).await;
        alice.part(&path, 0, "12345").await;
        for offset in [0, 4, 6, 10] {
            let response = alice.part(&path, offset, "678").await;
            assert_eq!(response.status(), StatusCode::CONFLICT);
            assert_eq!(response.headers()[UPLOAD_OFFSET], "5");
        }
        alice.part(&path, 5, "67890").await;
        assert_eq!(content(alice, &path).await, b"1234567890");
        assert_eq!(objects(&world).await, 2);
    }
}

#[tokio::test]
async fn of_two_parts_at_once_exactly_one_counts() {
    for world in worlds().await {
        let alice = &world.alice;
        let path = alice.begun("a.zip", 100).await;
        let rivals: Vec<_> = (0..8_u8)
            .map(|n| {
                let (alice, path) = (alice.clone(), path.clone());
                tokio::spawn(async move { alice.part(&path, 0, vec![n; 10]).await.status() })
            })
            .collect();
        let mut taken = 0;
        for rival in rivals {
            match rival.await.unwrap() {
                StatusCode::NO_CONTENT => taken += 1,
                status => assert_eq!(status, StatusCode::CONFLICT),
            }
        }
        assert_eq!(taken, 1);
        assert_eq!(alice.offset(&path).await, Some(10));
        assert_eq!(objects(&world).await, 1);
    }
}

#[tokio::test]
async fn nothing_of_a_part_that_was_cut_is_kept() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = alice.begun("a.zip", 100).await;
    let cut = stream::iter([
        Ok(Bytes::from_static(b"half of a part")),
        Err(std::io::Error::other("connection lost")),
    ]);
    let response = alice.part(&path, 0, Body::from_stream(cut)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(alice.offset(&path).await, Some(0));
    assert_eq!(objects(&world).await, 0);
}

/// R24: the line is cut a thousand times, anywhere in a part or just before its answer.
#[tokio::test]
async fn a_thousand_cuts_change_no_byte_and_lose_nothing_that_counted() {
    const CUTS: usize = 1_000;
    let mut runner = TestRunner::deterministic();
    let mut below = |limit: usize| (0..limit).new_tree(&mut runner).unwrap().current();
    for world in worlds().await {
        let alice = &world.alice;
        let file: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
        let path = alice.begun("a.zip", file.len() as u64).await;
        let (mut cuts, mut offset) = (0, 0);
        while offset < file.len() {
            let end = file.len().min(offset + 1 + below(4_096));
            let part = Bytes::copy_from_slice(&file[offset..end]);
            let at = offset as u64;
            match below(3) {
                // Until the line was cut often enough, it is when the end is near.
                _ if end == file.len() && cuts < CUTS => {
                    cuts += cut(alice, &path, at, part, 0).await
                }
                0 => {
                    let status = alice.part(&path, at, part).await.status();
                    assert_eq!(status, StatusCode::NO_CONTENT);
                    offset = end;
                }
                1 => {
                    // It arrived, its answer did not: who sends it again is told.
                    alice.part(&path, at, part.clone()).await;
                    let again = alice.part(&path, at, part).await;
                    assert_eq!(again.status(), StatusCode::CONFLICT);
                    cuts += 1;
                    offset = end;
                }
                _ => {
                    let length = below(part.len());
                    cuts += cut(alice, &path, at, part, length).await;
                }
            }
            assert_eq!(alice.offset(&path).await, Some(offset as u64));
        }
        assert!(cuts >= CUTS, "{cuts}");
        assert!(content(alice, &path).await == file);
    }
}

/// A part of which only `length` bytes arrive; the number of cuts that this is.
async fn cut(alice: &Browser, path: &str, offset: u64, part: Bytes, length: usize) -> usize {
    let lost = std::io::Error::other("connection lost");
    let body = Body::from_stream(stream::iter([Ok(part.slice(..length)), Err(lost)]));
    let response = alice.part(path, offset, body).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    1
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_is_let_go() {
    let body = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"begun")) });
    let silent = futures_util::StreamExt::chain(body, stream::pending());
    let received = receive(Body::from_stream(silent), 100, Duration::from_millis(10)).await;
    assert!(matches!(received, Err(Unreceived::Slow)));
}

#[tokio::test]
async fn a_part_that_is_too_large_is_refused_before_it_fills_the_memory() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = alice.begun("a.zip", 10).await;
    let response = alice.part(&path, 0, vec![0; 11]).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);

    // Without a length, as chunked bodies come: read no further than the limit.
    let large = alice.begun("b.zip", 3 * PART_LIMIT_BYTES).await;
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 20])));
    let response = alice.part(&large, 0, Body::from_stream(endless)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(alice.offset(&large).await, Some(0));
    assert_eq!(objects(&world).await, 0);
}

#[tokio::test]
async fn files_and_numbers_of_uploads_have_limits() {
    for world in worlds().await {
        let alice = &world.alice;
        let status = async |length| alice.begin("a.zip", length).await.status();
        assert_eq!(status(0).await, StatusCode::BAD_REQUEST);
        assert_eq!(
            status(FILE_LIMIT_BYTES + 1).await,
            StatusCode::PAYLOAD_TOO_LARGE
        );
        for _ in 0..OPEN_LIMIT {
            assert_eq!(status(1).await, StatusCode::CREATED);
        }
        let full = alice.begin("a.zip", 1).await;
        assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);
        let text = full.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains("20個"));
        // One's own limit is not a colleague's.
        let colleague = world.colleague().await;
        assert_eq!(
            colleague.begin("a.zip", 1).await.status(),
            StatusCode::CREATED
        );
    }
}

#[tokio::test]
async fn an_establishments_uploads_have_a_quota_together() {
    for world in worlds().await {
        let colleague = world.colleague().await;
        let mut begun = 0;
        for browser in [&world.alice, &colleague] {
            for _ in 0..OPEN_LIMIT {
                let status = browser.begin("a.zip", FILE_LIMIT_BYTES).await.status();
                begun += u64::from(status == StatusCode::CREATED);
            }
        }
        assert_eq!(begun, 2 * 1024 / 100);
    }
}

#[tokio::test]
async fn nobody_else_sees_or_moves_an_upload() {
    for world in worlds().await {
        let path = world.alice.begun("a.zip", 10).await;
        for stranger in [world.bob.clone(), world.colleague().await] {
            assert_eq!(stranger.offset(&path).await, None);
            let status = stranger.part(&path, 0, "12345").await.status();
            assert_eq!(status, StatusCode::NOT_FOUND);
            let request = stranger
                .request(Method::DELETE, &path)
                .header(CSRF_HEADER, &stranger.csrf)
                .body(Body::empty());
            let status = stranger.send(request.unwrap()).await.status();
            assert_eq!(status, StatusCode::NOT_FOUND);
        }
        assert_eq!(world.alice.offset(&path).await, Some(0));
    }
}

#[tokio::test]
async fn an_upload_taken_back_or_expired_leaves_nothing() {
    for world in worlds().await {
        let alice = &world.alice;
        let (one, two) = (alice.begun("a", 10).await, alice.begun("b", 10).await);
        alice.part(&one, 0, "12345").await;
        alice.part(&two, 0, "12345").await;
        let request = alice
            .request(Method::DELETE, &one)
            .header(CSRF_HEADER, &alice.csrf)
            .body(Body::empty());
        let (status, _) = read(alice.send(request.unwrap()).await).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(alice.offset(&one).await, None);
        assert_eq!(objects(&world).await, 1);

        crate::uploads::purge(&world.app, NOW + LIFETIME - time::Duration::SECOND)
            .await
            .unwrap();
        assert_eq!(alice.offset(&two).await, Some(5));
        crate::uploads::purge(&world.app, NOW + LIFETIME)
            .await
            .unwrap();
        assert_eq!(alice.offset(&two).await, None);
        assert_eq!(objects(&world).await, 0);
    }
}

#[tokio::test]
async fn a_request_without_the_anti_forgery_token_changes_nothing() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = alice.begun("a.zip", 10).await;
    let request = alice
        .request(Method::PATCH, &path)
        .header(header::CONTENT_TYPE, PART_TYPE)
        .header(UPLOAD_OFFSET, 0)
        .body(Body::from("12345"));
    let status = alice.send(request.unwrap()).await.status();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(alice.offset(&path).await, Some(0));
}

async fn asked(
    alice: &Browser,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut request = alice.request(method, path).header(CSRF_HEADER, &alice.csrf);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    alice
        .send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

#[tokio::test]
async fn the_server_says_what_it_knows_of_the_protocol_and_takes_no_other_version() {
    let world = World::new().await;
    let alice = &world.alice;
    let known = asked(alice, Method::OPTIONS, "/uploads", &[], "").await;
    assert_eq!(known.status(), StatusCode::NO_CONTENT);
    assert_eq!(known.headers()["tus-version"], "1.0.0");
    assert_eq!(known.headers()["tus-extension"], EXTENSIONS);
    assert_eq!(
        known.headers()["tus-max-size"],
        FILE_LIMIT_BYTES.to_string().as_str()
    );
    let path = alice.begun("a.zip", 10).await;
    let old = [("tus-resumable", "0.2.2")];
    for (method, path) in [
        (Method::POST, "/uploads"),
        (Method::HEAD, path.as_str()),
        (Method::PATCH, path.as_str()),
    ] {
        let refused = asked(alice, method, path, &old, "").await;
        assert_eq!(refused.status(), StatusCode::PRECONDITION_FAILED);
        assert_eq!(refused.headers()["tus-version"], "1.0.0");
    }
    let deferred = [
        ("upload-defer-length", "1"),
        ("upload-metadata", "filename YQ=="),
    ];
    let refused = asked(alice, Method::POST, "/uploads", &deferred, "").await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_part_that_does_not_fit_its_checksum_is_not_kept() {
    for world in worlds().await {
        let alice = &world.alice;
        let path = alice.begun("a.zip", 10).await;
        let part = async |checksum: &str, body: &str| {
            let headers = [
                ("content-type", PART_TYPE),
                ("upload-offset", "0"),
                ("upload-checksum", checksum),
            ];
            asked(alice, Method::PATCH, &path, &headers, body)
                .await
                .status()
        };
        let sha1 = format!(
            "sha1 {}",
            STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"12345"))
        );
        let sha256 = format!(
            "sha256 {}",
            STANDARD.encode(digest::digest(&digest::SHA256, b"12345"))
        );
        assert_eq!(part(&sha256, "12346").await.as_u16(), 460);
        assert_eq!(part(&sha1, "12346").await.as_u16(), 460);
        assert_eq!(part("md5 AAAA", "12345").await, StatusCode::BAD_REQUEST);
        assert_eq!(alice.offset(&path).await, Some(0));
        assert_eq!(objects(&world).await, 0);
        assert_eq!(part(&sha256, "12345").await, StatusCode::NO_CONTENT);
        assert_eq!(alice.offset(&path).await, Some(5));
    }
}

#[tokio::test]
async fn half_done_uploads_are_listed_the_next_day_and_can_be_taken_back() {
    for world in worlds().await {
        let path = world.alice.begun("途中.zip", 100).await;
        world.alice.part(&path, 0, "12345678901234567890").await;
        let (_, page) = world.alice.get("/filings/new").await;
        assert!(
            page.contains("途中.zip（100バイトのうち20%を受信済み"),
            "{page}"
        );
        let remove = format!("{path}/remove");
        let (status, ..) = world.bob.post(&remove, &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let (status, to, _) = world.alice.post(&remove, &[]).await;
        assert_eq!(
            (status, &*to),
            (StatusCode::SEE_OTHER, "/filings/new?removed=1")
        );
        assert_eq!(world.alice.offset(&path).await, None);
        assert_eq!(objects(&world).await, 0);
    }
}
