//! A batch of the reference fund's size: three documents for each of 185 establishments,
//! checked, released by a second person and mailed to every admin.

use std::time::Duration;

use anyhow::{Context as _, Result};
use portal::notices::contribution::{Category, Contribution, Frame, Movement, payment, statement};
use time::macros::{date, datetime};

use super::fund::{Fund, Place};
use super::years::month_text;
use crate::OfficePages;
use crate::bench::now;
use crate::mailbox::Mail;
use crate::process::wait_for;
use crate::stage::Stage;

/// How long all of it may take.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// How often the mailbox is looked through.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was found, each from the moment before.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) notices: usize,
    pub(super) checked: Duration,
    pub(super) released: Duration,
    pub(super) mailed: Duration,
}

/// Issues one.
pub(super) async fn issue(
    stage: &Stage,
    fund: &Fund,
    office: &OfficePages,
    boss: &OfficePages,
) -> Result<Found> {
    let files = documents(fund.employers())?;
    let notices = files.len();
    let mails_of = |mails: &[Mail]| {
        let told = mails
            .iter()
            .filter(|mail| mail.subject.contains("新しい通知書"));
        told.count()
    };
    let before = mails_of(&stage.mailbox().mails()?);

    let begun = now();
    // The months before have their batches already.
    let month = month_text(fund.now.year(), fund.now.month());
    let batch = office.drop_batch("files", &month, files).await?;
    batch.must_say(&format!("{notices}件（{}事業所）", fund.employers().len()))?;
    let checked = begun.elapsed();
    office.propose_batch(&batch).await?;
    boss.approve_proposal().await?;
    let released = begun.elapsed();
    // Everybody who may fetch is told: the three users of each employer.
    let people = fund.clerks().len();
    wait_for("every mail", 120, async || {
        // Reading them all is work too, on the same two cores.
        tokio::time::sleep(LOOK_EVERY).await;
        let mails = mails_of(&stage.mailbox().mails()?) - before;
        Ok((mails >= people).then_some(()))
    })
    .await?;
    let mailed = begun.elapsed();
    Ok(Found {
        notices,
        checked,
        released: released - checked,
        mailed: mailed - released,
    })
}

/// Three PDFs for each employer, with their text.
fn documents(employers: &[Place]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for place in employers {
        let (establishment, number) = (place.number, place.number.as_u16());
        let frame = Frame {
            fund: "計測用企業年金基金".into(),
            number: format!("計測第{number}号"),
            issued_on: date!(2026 - 11 - 12),
            establishment,
            establishment_name: place.name.clone(),
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
