//! What else ten years leave behind: announcements and who read them, inquiries, tasks,
//! proposals and their decisions, applications, held files, reminders.

use anyhow::Result;
use portal::db::{Db, Tx};
use portal::keys::Purpose;
use time::Duration;

use super::bulk::{Cell, Dice, Table, ms, row};
use super::fund::Fund;

const DAY_MS: i64 = 24 * 60 * 60_000;
/// Announcements in ten years, one every two months, and one that is shown now.
const ANNOUNCEMENTS: i64 = 60;
/// Inquiries in ten years; the last dozen waits.
const INQUIRIES: i64 = 2_000;
const WAITING: i64 = 12;
/// Mails that came back in ten years; the last ten are open tasks.
const TASKS: i64 = 300;
/// Files that the virus scanner held in ten years.
const HELD: i64 = 40;
/// Applications of establishments, PCs that ask to be let in.
const REQUESTS: i64 = 200;
const ENROLMENTS: i64 = 700;
/// Deadlines that users were reminded of, twice each.
const REMINDERS: i64 = 120;

/// Writes it all.
pub(super) async fn write(db: &Db, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut tx = db.begin().await?;
    announcements(&mut tx, fund, dice).await?;
    inquiries(&mut tx, fund, dice).await?;
    tasks(&mut tx, fund, dice).await?;
    proposals(&mut tx, fund, dice).await?;
    arrivals(&mut tx, fund, dice).await?;
    held_files(&mut tx, fund, dice).await?;
    reminders(&mut tx, fund).await?;
    Db::commit(tx).await?;
    Ok(())
}

async fn announcements(tx: &mut Tx, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut announcements = Table::new(
        "announcements",
        "id, title, body, audience, shown_from_ms, shown_until_ms, written_by, written_ms",
    );
    let mut reads = Table::new("announcement_reads", "announcement_id, user_id, read_ms");
    for number in 0..=ANNOUNCEMENTS {
        let from = ms(fund.now) - (ANNOUNCEMENTS - number) * 60 * DAY_MS;
        let id = dice.id(from).to_string();
        announcements.push(row![
            &id,
            format!("受付時間のお知らせ（第{number}回）"),
            "年末年始は12月29日から1月3日まで休みます。お急ぎの届書は前日までにお送りください。",
            "all",
            from,
            from + 30 * DAY_MS,
            &fund.staff[0].0,
            from,
        ]);
        for person in fund.clerks() {
            if number < ANNOUNCEMENTS && dice.happens(70) {
                reads.push(row![&id, &person.id, from + DAY_MS]);
            }
        }
    }
    announcements.write(tx).await?;
    reads.write(tx).await
}

async fn inquiries(tx: &mut Tx, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut inquiries = Table::new(
        "inquiries",
        "id, establishment_id, user_id, subject, state, opened_ms, changed_ms",
    );
    let mut messages = Table::new(
        "inquiry_messages",
        "id, inquiry_id, at_ms, side, person, text_sealed",
    );
    for number in 0..INQUIRIES {
        let at_ms = ms(fund.now) - (INQUIRIES - number) * 3_650 * DAY_MS / INQUIRIES;
        let person = &fund.clerks()[dice.below(fund.clerks().len())];
        let (id, waits) = (dice.id(at_ms).to_string(), number >= INQUIRIES - WAITING);
        inquiries.push(row![
            &id,
            &fund.places[person.at].id,
            &person.id,
            "filing",
            if waits { "waiting" } else { "closed" },
            at_ms,
            at_ms + if waits { 0 } else { DAY_MS },
        ]);
        let words = [
            (
                "member",
                &person.name,
                "資格取得届の添付書類について教えてください。",
            ),
            (
                "staff",
                &fund.staff[0].1,
                "雇用契約書の写しを添えてください。",
            ),
        ];
        for (after, (side, name, text)) in words.into_iter().enumerate() {
            if after > 0 && waits {
                continue;
            }
            let message = dice.id(at_ms).to_string();
            let place = format!("inquiry_messages/{message}");
            let sealed = fund.keys.seal(Purpose::Inquiry, &place, text.as_bytes());
            let after = i64::try_from(after)?;
            messages.push(row![
                message,
                &id,
                at_ms + after * DAY_MS,
                side,
                name,
                sealed
            ]);
        }
    }
    inquiries.write(tx).await?;
    messages.write(tx).await
}

async fn tasks(tx: &mut Tx, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut tasks = Table::new(
        "tasks",
        "id, kind, subject, detail, raised_ms, done_ms, done_by, outcome",
    );
    for number in 0..TASKS {
        let at_ms = ms(fund.now) - (TASKS - number) * 12 * DAY_MS;
        let subject = &fund.clerks()[usize::try_from(number)?].id;
        let done = number < TASKS - 10;
        tasks.push(row![
            dice.id(at_ms).to_string(),
            "mail_undelivered",
            subject,
            "5.1.1",
            at_ms,
            done.then_some(at_ms + DAY_MS),
            done.then(|| fund.staff[0].0.clone()),
            done.then(|| "address_confirmed".to_owned()),
        ]);
    }
    tasks.write(tx).await
}

/// Each batch's release was proposed and approved; applications were made and decided.
async fn proposals(tx: &mut Tx, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut approvals = Table::new(
        "approvals",
        "id, kind, subject, reason, proposed_by, proposed_ms, expires_ms, decided_by, decided_ms, decision",
    );
    for months_ago in 1..=120 {
        let at_ms = ms(fund.now) - months_ago * 30 * DAY_MS;
        approvals.push(row![
            dice.id(at_ms).to_string(),
            "batch_release",
            dice.id(at_ms).to_string(),
            "件数と合計金額を照合済み",
            &fund.staff[0].0,
            at_ms,
            at_ms + 7 * DAY_MS,
            &fund.staff[1 % fund.staff.len()].0,
            at_ms + DAY_MS / 24,
            "approved",
        ]);
    }
    let mut requests = Table::new(
        "admin_requests",
        "id, establishment_id, user_id, kind, wanted, reason, asked_ms, decided_ms, decided_by, decision, answer",
    );
    for number in 0..REQUESTS {
        let employer = usize::try_from(number)? % fund.employers().len();
        let at_ms = ms(fund.now) - (REQUESTS - number) * 18 * DAY_MS;
        let done = number < REQUESTS - 5;
        requests.push(row![
            dice.id(at_ms).to_string(),
            &fund.places[employer].id,
            &fund.people_of(employer)[0].id,
            "device_limit",
            "4",
            "担当者が増えるため",
            at_ms,
            done.then_some(at_ms + DAY_MS),
            done.then(|| fund.staff[0].0.clone()),
            done.then(|| "approved".to_owned()),
            done.then(String::new),
        ]);
    }
    approvals.write(tx).await?;
    requests.write(tx).await
}

/// PCs that asked to be let in; the last dozen still does.
async fn arrivals(tx: &mut Tx, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut codes = Table::new(
        "registration_codes",
        "id, establishment_id, user_id, code_hash, created_by, created_ms, expires_ms, used_ms",
    );
    let mut enrolments = Table::new(
        "enrolments",
        "id, establishment_id, user_id, registration_code_id, device_name, os, agent_version, \
         certificate_request, public_key, matching_code, poll_token_hash, requested_ms, \
         decided_ms, decided_by, decision, device_id",
    );
    for number in 0..ENROLMENTS {
        let person = &fund.clerks()[usize::try_from(number)? % fund.clerks().len()];
        let place = &fund.places[person.at].id;
        let waits = number >= ENROLMENTS - 12;
        let at_ms = ms(fund.now) - (ENROLMENTS - number) * if waits { 1_000 } else { 5 * DAY_MS };
        let code = dice.id(at_ms).to_string();
        codes.push(row![
            &code,
            place,
            &person.id,
            dice.hash(),
            "command_line",
            at_ms,
            at_ms + 30 * DAY_MS,
            at_ms,
        ]);
        enrolments.push(row![
            dice.id(at_ms).to_string(),
            place,
            &person.id,
            &code,
            format!("PC-{}", person.login),
            "Windows 11",
            "1.0.0",
            "",
            dice.hash(),
            "1234-5678",
            dice.hash(),
            at_ms,
            (!waits).then_some(at_ms + DAY_MS),
            (!waits).then(|| format!("staff/{}", fund.staff[0].0)),
            (!waits).then(|| "approved".to_owned()),
            (!waits).then(|| person.device.clone()),
        ]);
    }
    codes.write(tx).await?;
    enrolments.write(tx).await
}

async fn held_files(tx: &mut Tx, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut documents = Table::new(
        "documents",
        "id, establishment_id, file_name, sha256, size_bytes, pages, stored_ms",
    );
    let mut held = Table::new(
        "quarantine",
        "id, establishment_id, user_id, document_id, file_name, sha256, size_bytes, finding, \
         signature, state, held_ms, decided_ms, decided_by",
    );
    for number in 0..HELD {
        let at_ms = ms(fund.now) - (HELD - number) * 90 * DAY_MS;
        let person = &fund.clerks()[dice.below(fund.clerks().len())];
        let place = &fund.places[person.at].id;
        let (document, sha256) = (dice.id(at_ms).to_string(), dice.hash());
        let waits = number >= HELD - 3;
        documents.push(row![
            &document,
            place,
            "スキャン.pdf",
            &sha256,
            200_000,
            1,
            at_ms
        ]);
        held.push(row![
            dice.id(at_ms).to_string(),
            place,
            &person.id,
            &document,
            "スキャン.pdf",
            &sha256,
            200_000,
            "virus",
            "Renkei.Test",
            if waits { "held" } else { "destroyed" },
            at_ms,
            (!waits).then_some(at_ms + DAY_MS),
            match waits {
                true => Cell::NoText,
                false => Cell::from(&fund.staff[0].0),
            },
        ]);
    }
    documents.write(tx).await?;
    held.write(tx).await
}

async fn reminders(tx: &mut Tx, fund: &Fund) -> Result<()> {
    let mut reminders = Table::new("reminders", "user_id, deadline, step, queued_ms");
    for months_ago in 1..=REMINDERS {
        let deadline = fund.now - Duration::days(30 * months_ago);
        for person in fund.clerks() {
            for step in ["five_days", "one_day"] {
                reminders.push(row![
                    &person.id,
                    deadline.date().to_string(),
                    step,
                    ms(deadline)
                ]);
            }
        }
    }
    reminders.write(tx).await
}
