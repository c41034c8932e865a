//! A thousand filings of 200 KB, uploaded and handed in by many people at once, with every
//! check: the PDF itself, a real clamd, the guard against individual numbers, duplicates.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use zip::write::SimpleFileOptions;
use zip::{AesMode, CompressionMethod, ZipWriter};

use super::cost::{Cost, Meter};
use super::door::Door;
use crate::bench::{noise, now};
use crate::job::{large_pdf, upload_id};
use crate::scanner::virus;

/// People who file at the same time.
const PEOPLE: usize = 50;
/// Pixels of the picture that makes a filing as large as a scan: one byte each.
const WIDTH: usize = 400;
const HEIGHT: usize = 500;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) filings: usize,
    pub(super) all: Duration,
    /// Medians of one filing: beginning the upload, its bytes, handing it in.
    pub(super) steps: [Duration; 3],
    pub(super) cost: Cost,
    /// The largest file that is taken.
    pub(super) largest: Largest,
}

/// How it went with the largest file.
#[derive(Debug)]
pub(super) struct Largest {
    /// Its bytes, handing it in.
    pub(super) steps: [Duration; 2],
    pub(super) cost: Cost,
}

/// Files `count` filings; fails if one of them is not accepted, or if one that must not be is.
pub(super) async fn file(
    doors: &mut Vec<Door>,
    numbers: &[String],
    count: usize,
    processes: BTreeMap<&'static str, u32>,
    folder: &Path,
) -> Result<Found> {
    let picture: Arc<[u8]> = noise(WIDTH * HEIGHT).into();
    let people = PEOPLE.min(doors.len()).min(count);
    let today = OffsetDateTime::from_unix_timestamp(unix_s())? + Duration::from_secs(9 * 3600);
    let today = today.date().to_string().replace('-', "");
    let meter = Meter::start(processes.clone(), folder)?;
    let begun = now();
    let mut going = JoinSet::new();
    for (at, door) in doors.drain(..people).enumerate() {
        let (picture, number) = (Arc::clone(&picture), numbers[at].clone());
        let today = today.clone();
        going.spawn(async move {
            let csrf = door.pages.csrf().await?;
            let mut took = Vec::new();
            for index in (at..count).step_by(people) {
                let name = format!("{today}_{number}_資格取得届.pdf");
                let words = format!("Kakuyo acquisition {index} of {count} at {number}");
                let pdf = document(&words, &picture, b"");
                let (status, answer, steps) = hand_in(&door, &csrf, &name, pdf).await?;
                ensure!(status == StatusCode::CREATED, "{status} {answer:#}");
                took.push(steps);
            }
            anyhow::Ok((door, number, took))
        });
    }
    let (mut took, mut back) = (Vec::new(), Vec::new());
    while let Some(done) = going.join_next().await {
        let (door, number, steps) = done??;
        took.extend(steps);
        back.push((door, number));
    }
    let all = begun.elapsed();
    let cost = meter.stop()?;
    ensure!(took.len() == count, "{} of {count} accepted", took.len());
    let (door, number) = back.first().context("somebody who filed")?;
    must_be_refused(door, &format!("{today}_{number}_資格取得届.pdf"), &picture).await?;
    let meter = Meter::start(processes, folder)?;
    let steps = largest(door, number, &today).await?;
    let largest = Largest {
        steps,
        cost: meter.stop()?,
    };
    doors.extend(back.into_iter().map(|(door, _)| door));
    Ok(Found {
        filings: count,
        all,
        steps: [0, 1, 2].map(|step| {
            let mut times: Vec<Duration> = took.iter().map(|steps| steps[step]).collect();
            times.sort();
            times[times.len() / 2]
        }),
        cost,
        largest,
    })
}

/// Files a zip with a password that is nearly as large as one may be, with four filings nearly
/// as large as a PDF may be.
async fn largest(door: &Door, number: &str, today: &str) -> Result<[Duration; 2]> {
    const PASSWORD: &str = "Kono-tegami-8-mai";
    let kinds = ["資格取得届", "資格喪失届", "氏名変更届", "訂正届"];
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (seed, kind) in (1..).zip(kinds) {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_aes_encryption(AesMode::Aes256, PASSWORD);
        writer.start_file(format!("{today}_{number}_{kind}.pdf"), options)?;
        writer.write_all(&large_pdf(47_500_000, seed)?)?;
    }
    let zip = writer.finish()?.into_inner();
    ensure!(zip.len() > 190_000_000, "{} bytes", zip.len());
    let begun = now();
    let upload = door.pages.upload("四件の届書.zip", &zip).await?;
    let sent = begun.elapsed();
    let (status, answer) = door.pages.hand_in(&[(upload, Some(PASSWORD))]).await?;
    ensure!(status == StatusCode::CREATED, "{status} {answer:#}");
    Ok([sent, begun.elapsed() - sent])
}

/// The checks are on: a virus, an individual number and the same once more do not pass.
async fn must_be_refused(door: &Door, name: &str, picture: &[u8]) -> Result<()> {
    let csrf = door.pages.csrf().await?;
    // Invented, with the right check digit.
    let number = "Individual number 123456789018";
    for (what, pdf) in [
        ("a virus", document("one", picture, &virus())),
        ("an individual number", document(number, picture, b"")),
    ] {
        let (status, answer, _) = hand_in(door, &csrf, name, pdf).await?;
        ensure!(
            status == StatusCode::UNPROCESSABLE_ENTITY,
            "{what}: {status} {answer:#}"
        );
    }
    let twice = document("the same twice", picture, b"");
    let (status, answer, _) = hand_in(door, &csrf, name, twice.clone()).await?;
    ensure!(status == StatusCode::CREATED, "{status} {answer:#}");
    let (status, answer, _) = hand_in(door, &csrf, name, twice).await?;
    ensure!(
        status == StatusCode::CONFLICT,
        "the same twice: {status} {answer:#}"
    );
    Ok(())
}

/// Uploads a file and hands it in; says how long each of the three steps took.
async fn hand_in(
    door: &Door,
    csrf: &str,
    name: &str,
    pdf: Vec<u8>,
) -> Result<(StatusCode, Value, [Duration; 3])> {
    let (pages, begun) = (&door.pages, now());
    let location = pages.begin_upload_with(csrf, name, pdf.len()).await?;
    let created = begun.elapsed();
    let sent = pages.send_part(&location, csrf, 0, pdf).await?;
    ensure!(
        sent.status() == StatusCode::NO_CONTENT,
        "part: {}",
        sent.status()
    );
    let uploaded = begun.elapsed();
    let file = json!({ "upload": upload_id(&location) });
    let request = pages
        .site
        .request(Method::POST, "/filings")
        .header("renkei-csrf", csrf)
        .json(&json!({ "files": [file] }));
    let answer = pages.site.send(request).await?;
    let status = answer.status();
    let answer = answer.json().await?;
    let steps = [created, uploaded - created, begun.elapsed() - uploaded];
    Ok((status, answer, steps))
}

/// A PDF with one page: words, and a picture like a scan's; `behind` lies where no page shows it.
fn document(words: &str, picture: &[u8], behind: &[u8]) -> Vec<u8> {
    let content = format!("q 500 0 0 700 40 40 cm /I Do Q BT /F 12 Tf 60 780 Td ({words}) Tj ET");
    let stream = |head: &str, bytes: &[u8]| {
        let head = format!("<< {head} /Length {} >>\nstream\n", bytes.len());
        [head.as_bytes(), bytes, b"\nendstream"].concat()
    };
    let image = format!(
        "/Type /XObject /Subtype /Image /Width {WIDTH} /Height {HEIGHT} \
         /ColorSpace /DeviceGray /BitsPerComponent 8"
    );
    let objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources \
          << /Font << /F 5 0 R >> /XObject << /I 6 0 R >> >> >>"
            .to_vec(),
        stream("", content.as_bytes()),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_vec(),
        stream(&image, picture),
        stream("", behind),
    ];
    let mut pdf = b"%PDF-1.4\n%\xE2\xE3\xCF\xD3\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        places.push(pdf.len());
        pdf.extend_from_slice(format!("{number} 0 obj\n").as_bytes());
        pdf.extend_from_slice(object);
        pdf.extend_from_slice(b"\nendobj\n");
    }
    let start = pdf.len();
    let entries: String = places
        .iter()
        .map(|at| format!("{at:010} 00000 n \n"))
        .collect();
    let size = objects.len() + 1;
    pdf.extend_from_slice(
        format!(
            "xref\n0 {size}\n0000000000 65535 f \n{entries}trailer\n<< /Size {size} /Root 1 0 R >>\n\
             startxref\n{start}\n%%EOF\n"
        )
        .as_bytes(),
    );
    pdf
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark runs on the machine's clock"
)]
fn unix_s() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
