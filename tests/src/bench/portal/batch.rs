//! A batch of the reference fund's size: three documents for each of 185 establishments,
//! checked, released and mailed, on SQLite and on PostgreSQL.
//!
//! Prints a table in Markdown. The limit that it holds itself to is one minute.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portal::notices::contribution::{Category, Contribution, Frame, Movement, payment, statement};
use time::macros::{date, datetime};

use super::{now, seconds};
use crate::batches::supervisor;
use crate::process::wait_for;
use crate::{Database, OfficePages, Stage, StageOptions, postgres};

/// The reference fund's establishments.
const ESTABLISHMENTS: u16 = 185;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs it.
pub(super) fn run() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        println!("| database | checked and sealed | released | last mail sent | together |");
        println!("|---|---|---|---|---|");
        measure("SQLite", Database::Sqlite).await?;
        measure("PostgreSQL", Database::Postgres(postgres::database()?)).await
    })
}

fn name(number: u16) -> String {
    format!("計測用事業所第{number}号株式会社")
}

async fn measure(what: &str, database: Database) -> Result<()> {
    let folder = std::env::current_dir()?.join("var/bench");
    let options = StageOptions {
        database,
        log: "warn".into(),
        ..StageOptions::default()
    };
    let stage = Stage::start_in(&folder, options).await?;
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    for number in 1..=ESTABLISHMENTS {
        let (user, email) = (
            format!("kanri{number}"),
            format!("kanri{number}@jigyosho.example"),
        );
        let digits = format!("{number:04}");
        office
            .register_as(&digits, &name(number), &user, "計測 花子", &email)
            .await?;
    }
    let told = |mails: &[crate::mailbox::Mail]| {
        let notices = mails
            .iter()
            .filter(|mail| mail.subject.contains("新しい通知書"));
        notices.count()
    };
    let files = documents()?;
    let boss = supervisor(&stage).await?;

    let begun = now();
    let batch = office.drop_batch("files", "2026-10", files).await?;
    let items = usize::from(ESTABLISHMENTS) * 3;
    batch.must_say(&format!("{items}件（{ESTABLISHMENTS}事業所）"))?;
    let checked = begun.elapsed();
    office.propose_batch(&batch).await?;
    let proposed = now();
    boss.approve_proposal().await?;
    let released = proposed.elapsed();
    wait_for("every mail", 120, async || {
        let mails = stage.mailbox().mails()?;
        Ok((told(&mails) >= usize::from(ESTABLISHMENTS)).then_some(()))
    })
    .await?;
    let (mailed, whole) = (proposed.elapsed(), begun.elapsed());
    println!(
        "| {what} | {:.1} s | {:.1} s | {:.1} s | {:.1} s |",
        seconds(checked),
        seconds(released),
        seconds(mailed),
        seconds(whole)
    );
    ensure!(whole < LIMIT, "{what}: slower than {} s", LIMIT.as_secs());
    Ok(())
}

/// Three PDFs for each establishment, with their text.
fn documents() -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for number in 1..=ESTABLISHMENTS {
        let establishment = protocol::EstablishmentNumber::new(number)?;
        let frame = Frame {
            fund: "計測用企業年金基金".into(),
            number: format!("計測第{number}号"),
            issued_on: date!(2026 - 11 - 12),
            establishment,
            establishment_name: name(number),
            month: "令和8年10月分".into(),
            correction: false,
            contact: "計測用 業務課".into(),
            made_at: datetime!(2026-11-12 10:00 +9),
        };
        let yen = i64::from(number) * 2_400;
        let movement = Movement {
            before_yen: yen,
            yen,
            ..Movement::default()
        };
        let sums = Contribution {
            movements: vec![(Category::Standard, movement)],
            total_yen: yen,
            due_on: date!(2026 - 11 - 30),
            pay_at: "計測銀行 本店".into(),
        };
        sums.check().context("sums")?;
        let first = statement(&frame, &sums)?;
        files.push((format!("{establishment}_掛金計算書.pdf"), first.clone()));
        files.push((
            format!("{establishment}_納入告知書.pdf"),
            payment(&frame, &sums)?,
        ));
        files.push((format!("{establishment}_お知らせ.pdf"), first));
    }
    Ok(files)
}
