//! Ten years of the reference fund: filings with their documents, receipts, timelines and
//! decisions, the monthly batches, who fetched what, and the audit rows of all that.
//!
//! Rows only: the bytes of the documents are not there, for no list reads them.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portal::db::{Db, Tx};
use portal::receipts::store::signing_key;
use portal::receipts::{SigningKey, StatedFile, Statement, code_of};
use time::{Date, Duration, Month, OffsetDateTime};

use super::audit::{Audit, Who};
use super::bulk::{Cell, Dice, Table, ms, row};
use super::fund::{Fund, Person, Place};
use crate::stage::FUND_NAME;

/// Filings that are written in one go.
const CHUNK: usize = 4_000;
/// Filings of which nobody has decided yet.
const OPEN: usize = 400;
/// Months with a batch each.
const MONTHS: i32 = 120;
/// Documents that each establishment gets in a batch.
const KINDS: [(&str, &str, &str); 3] = [
    ("contribution", "掛金計算書", "掛計"),
    ("payment", "納入告知書", "納告"),
    ("other", "お知らせ", "お知"),
];
/// Kinds of filings, with how often they come in a hundred.
const FILINGS: [(&str, &str, usize); 6] = [
    ("acquisition", "資格取得届", 35),
    ("loss", "資格喪失届", 30),
    ("salary-change", "基準給与変更届", 20),
    ("name-change", "氏名変更届", 9),
    ("correction", "訂正届", 4),
    ("suspension", "中断者届", 2),
];
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The tables, in an order in which each finds what it refers to.
struct Books {
    sessions: Table,
    web_sessions: Table,
    codes: Table,
    outbox: Table,
    submissions: Table,
    submission_files: Table,
    receipts: Table,
    documents: Table,
    filings: Table,
    events: Table,
    marks: Table,
    comments: Table,
    batches: Table,
    items: Table,
    notices: Table,
    fetches: Table,
    mails: Table,
    destructions: Table,
    history: Table,
}

impl Books {
    fn new() -> Self {
        Self {
            sessions: Table::new(
                "tunnel_sessions",
                "id, device_id, establishment_id, gateway, generation, device_certificate_sha256, \
                 wireguard_public_key, inner_address, opened_ms, deadline_ms, deadline_reason, \
                 ended_ms, end_reason, bytes_in, bytes_out, changed_ms",
            ),
            web_sessions: Table::new(
                "web_sessions",
                "token_hash, kind, account_id, tunnel_session_id, created_ms, seen_ms, factor_ms, ended_ms",
            ),
            codes: Table::new(
                "one_time_codes",
                "id, user_id, device_id, session_id, code_hash, mail_id, created_ms, expires_ms, tries, used_ms",
            ),
            outbox: Table::new(
                "outbox",
                "id, purpose, message_sealed, created_ms, not_before_ms, expires_ms, tries, sent_ms",
            ),
            submissions: Table::new(
                "submissions",
                "id, receipt_number, establishment_id, user_id, device_id, session_id, received_ms",
            ),
            submission_files: Table::new(
                "submission_files",
                "submission_id, position, file_name, sha256, size_bytes, warning",
            ),
            receipts: Table::new(
                "receipts",
                "submission_id, key_id, content, signature, code, accepted_on, counts_month",
            ),
            documents: Table::new(
                "documents",
                "id, establishment_id, file_name, sha256, size_bytes, pages, stored_ms, destroyed_ms",
            ),
            filings: Table::new(
                "filings",
                "id, submission_id, establishment_id, document_id, name, original_name, kind, \
                 filed_on, state, reviewer_id, received_ms, changed_ms, return_code, \
                 return_reason, replaces_id, due_on, content_sha256",
            ),
            events: Table::new(
                "filing_events",
                "id, filing_id, at_ms, event, actor_kind, actor_name, note",
            ),
            marks: Table::new("filing_marks", "filing_id, page"),
            comments: Table::new(
                "filing_comments",
                "id, filing_id, at_ms, audience, actor_kind, actor_name, text_sealed",
            ),
            batches: Table::new(
                "notice_batches",
                "id, number, source, month, edition, state, made_by, made_ms, released_by, \
                 released_ms, mailed_ms, reminded_ms",
            ),
            items: Table::new(
                "notice_batch_items",
                "id, batch_id, establishment_id, kind, number, title, amount_yen, origin, document_id, remark",
            ),
            notices: Table::new(
                "notices",
                "id, number, kind, establishment_id, filing_id, document_id, title, issued_ms, \
                 issued_by, first_fetched_ms, batch_id, month, amount_yen",
            ),
            fetches: Table::new(
                "notice_fetches",
                "id, notice_id, user_id, device_id, form, at_ms",
            ),
            mails: Table::new("notice_mails", "batch_id, user_id, round, queued_ms"),
            destructions: Table::new(
                "destructions",
                "id, notice_id, document_id, sha256, years, destroyed_ms",
            ),
            history: Table::new(
                "history",
                "id, at_ms, establishment_id, entry, kind, title, number, side, person, reason, \
                 filing_id, notice_id",
            ),
        }
    }

    fn tables(&mut self) -> [&mut Table; 19] {
        [
            &mut self.sessions,
            &mut self.web_sessions,
            &mut self.codes,
            &mut self.outbox,
            &mut self.submissions,
            &mut self.submission_files,
            &mut self.receipts,
            &mut self.documents,
            &mut self.filings,
            &mut self.events,
            &mut self.marks,
            &mut self.comments,
            &mut self.batches,
            &mut self.items,
            &mut self.notices,
            &mut self.fetches,
            &mut self.mails,
            &mut self.destructions,
            &mut self.history,
        ]
    }
}

/// Whoever writes the ten years down.
struct Writer<'a> {
    fund: &'a Fund,
    dice: &'a mut Dice,
    books: Books,
    audit: Audit,
    key: SigningKey,
}

/// A session in which something is handed in.
struct Visit<'a> {
    place: &'a Place,
    person: &'a Person,
    session: String,
}

/// Writes ten years with `filings` filings; returns how many rows they take.
pub(super) async fn write(db: &Db, fund: &Fund, filings: usize, dice: &mut Dice) -> Result<usize> {
    let mut tx = db.begin().await?;
    let mut writer = Writer {
        fund,
        dice,
        books: Books::new(),
        audit: Audit::open(&mut tx, &fund.keys).await?,
        key: signing_key(&mut tx, &fund.keys, fund.now).await?,
    };
    Db::commit(tx).await?;
    for from in (0..filings).step_by(CHUNK) {
        for pair in (from..filings.min(from + CHUNK)).step_by(2) {
            writer.submission(pair, (pair + 2).min(filings), filings);
        }
        writer.flush(db).await?;
    }
    for months_ago in (0..MONTHS).rev() {
        writer.batch(months_ago);
        if months_ago % 12 == 0 {
            writer.flush(db).await?;
        }
    }
    let tables: usize = writer.books.tables().iter().map(|table| table.len()).sum();
    Ok(tables + writer.audit.len())
}

impl Writer<'_> {
    async fn flush(&mut self, db: &Db) -> Result<()> {
        let mut tx: Tx = db.begin().await?;
        for table in self.books.tables() {
            table.write(&mut tx).await?;
        }
        self.audit.write(&mut tx).await?;
        Db::commit(tx).await?;
        Ok(())
    }

    fn id(&mut self, at_ms: i64) -> String {
        self.dice.id(at_ms).to_string()
    }

    /// One session, in which the filings from `first` to before `end` are handed in together.
    fn submission(&mut self, first: usize, end: usize, all: usize) {
        let fund = self.fund;
        let span = 3_650 * DAY_MS;
        let at_ms = ms(fund.now) - span
            + i64::try_from(first).unwrap_or(0) * (span - DAY_MS / 2)
                / i64::try_from(all).unwrap_or(1);
        let employer = self.dice.skewed(fund.employers().len());
        let people = fund.people_of(employer);
        let person = &people[self.dice.below(people.len())];
        let session = self.id(at_ms);
        let visit = Visit {
            place: &fund.employers()[employer],
            person,
            session,
        };
        self.visit(&visit, at_ms);

        let (submission, day) = (self.id(at_ms), day_of(at_ms));
        let number = format!("{}-{:07}", digits(day), first / 2);
        self.books.submissions.push(row![
            &submission,
            &number,
            &visit.place.id,
            &person.id,
            &person.device,
            &visit.session,
            at_ms,
        ]);
        let mut stated = Vec::new();
        for (position, index) in (first..end).enumerate() {
            let file = self.filing(&visit, &submission, &number, at_ms, index, all);
            self.books.submission_files.push(row![
                &submission,
                i64::try_from(position).unwrap_or(0),
                &file.name,
                &file.sha256,
                i64::try_from(file.size_bytes).unwrap_or(0),
                "",
            ]);
            stated.push(file);
        }
        self.receipt(&visit, &submission, number, at_ms, stated);
        let who = visit.who();
        self.audit
            .record(at_ms, who, "submitted", "submission", &submission);
    }

    /// The session itself, with its one-time password and its end.
    fn visit(&mut self, visit: &Visit<'_>, at_ms: i64) {
        let (person, opened) = (visit.person, at_ms - 10 * MINUTE_MS);
        let ended = at_ms + 5 * MINUTE_MS;
        let bytes = self.dice.bytes();
        let inner = self.dice.id(at_ms);
        self.books.sessions.push(row![
            &visit.session,
            &person.device,
            &visit.place.id,
            "demo",
            1,
            STANDARD.encode(bytes),
            STANDARD.encode(self.dice.bytes()),
            inner.to_string(),
            opened,
            opened + 90 * MINUTE_MS,
            "time_limit",
            ended,
            "disconnected",
            400_000,
            300_000,
            ended,
        ]);
        let token = self.dice.hash();
        self.books.web_sessions.push(row![
            token,
            "member",
            &person.id,
            &visit.session,
            opened,
            opened,
            opened,
            ended,
        ]);
        let (code, mail, hash) = (self.id(opened), self.id(opened), self.dice.hash());
        self.books.codes.push(row![
            code,
            &person.id,
            &person.device,
            &visit.session,
            hash,
            &mail,
            opened,
            opened + 10 * MINUTE_MS,
            0,
            opened,
        ]);
        self.books.outbox.push(row![
            mail,
            "one_time_code",
            "",
            opened,
            opened,
            opened + 10 * MINUTE_MS,
            1,
            opened,
        ]);
        let who = visit.who();
        for (at_ms, act, kind, id) in [
            (opened, "session_opened", "session", &visit.session),
            (opened, "code_sent", "user", &person.id),
            (opened, "signed_in", "user", &person.id),
            (ended, "session_ended", "session", &visit.session),
        ] {
            self.audit.record(at_ms, who, act, kind, id);
        }
    }

    /// A filing with all that became of it; what its receipt says of it.
    fn filing(
        &mut self,
        visit: &Visit<'_>,
        submission: &str,
        number: &str,
        at_ms: i64,
        index: usize,
        all: usize,
    ) -> StatedFile {
        let (kind, title) = self.kind();
        let day = day_of(at_ms);
        let name = format!("{}_{}_{title}", digits(day), visit.place.number);
        let is_open = index + OPEN >= all;
        let roll = self.dice.below(100);
        let state = match (is_open, roll) {
            (true, 0..70) => "received",
            (true, _) => "in_review",
            (false, 0..90) => "decided",
            (false, 90..96) => "returned",
            (false, _) => "withdrawn",
        };
        let staff = &self.fund.staff[self.dice.below(self.fund.staff.len())];
        let changed_ms = match state {
            "received" => at_ms,
            _ => (at_ms + self.dice_ms(5 * DAY_MS)).min(ms(self.fund.now)),
        };
        let (filing, document) = (self.id(at_ms), self.id(at_ms));
        let sha256 = self.document(visit.place, &document, &name, at_ms, None);
        let content = self.dice.hash();
        let due_on = day + Duration::days(self.dice_ms(7));
        let is_returned = state == "returned";
        self.books.filings.push(row![
            &filing,
            submission,
            &visit.place.id,
            &document,
            &name,
            format!("スキャン_{index:07}.pdf"),
            kind,
            day.to_string(),
            state,
            match state {
                "received" | "withdrawn" => None,
                _ => Some(staff.0.clone()),
            },
            at_ms,
            changed_ms,
            is_returned.then(|| "incomplete".to_owned()),
            is_returned.then(|| "生年月日の欄が空いています。".to_owned()),
            Cell::NoText,
            due_on.to_string(),
            content,
        ]);
        let filed = Step {
            filing: &filing,
            place: visit.place,
            kind: title,
            name: &name,
            number,
        };
        self.step(
            &filed,
            at_ms,
            "received",
            Some("filed"),
            &visit.person.name,
            "member",
        );
        let who = Who::staff(&staff.0);
        if matches!(state, "in_review" | "decided" | "returned") {
            self.step(&filed, changed_ms - 1, "taken", None, &staff.1, "staff");
            for act in ["filing_taken", "filing_read"] {
                self.audit.record(changed_ms, who, act, "filing", &filing);
            }
        }
        match state {
            "decided" => {
                self.step(
                    &filed,
                    changed_ms,
                    "decided",
                    Some("decided"),
                    &staff.1,
                    "staff",
                );
                self.audit
                    .record(changed_ms, who, "filing_decided", "filing", &filing);
                self.determination(visit, &filed, staff, changed_ms, index);
            }
            "returned" => {
                self.step(
                    &filed,
                    changed_ms,
                    "returned",
                    Some("returned"),
                    &staff.1,
                    "staff",
                );
                self.audit
                    .record(changed_ms, who, "filing_returned", "filing", &filing);
                self.books.marks.push(row![&filing, 1]);
                self.comment(&filing, staff, changed_ms);
            }
            "withdrawn" => {
                let person = &visit.person.name;
                self.step(
                    &filed,
                    changed_ms,
                    "withdrawn",
                    Some("withdrawn"),
                    person,
                    "member",
                );
                let who = visit.who();
                self.audit
                    .record(changed_ms, who, "filing_withdrawn", "filing", &filing);
            }
            _ => {}
        }
        StatedFile {
            name: format!("{name}.pdf"),
            size_bytes: 200_000,
            sha256,
        }
    }

    fn kind(&mut self) -> (&'static str, &'static str) {
        let mut roll = self.dice.below(100);
        for (code, title, often) in FILINGS {
            if roll < often {
                return (code, title);
            }
            roll -= often;
        }
        (FILINGS[0].0, FILINGS[0].1)
    }

    fn dice_ms(&mut self, limit: i64) -> i64 {
        i64::try_from(self.dice.below(usize::try_from(limit).unwrap_or(1))).unwrap_or(0)
    }

    fn document(
        &mut self,
        place: &Place,
        id: &str,
        name: &str,
        at_ms: i64,
        destroyed_ms: Option<i64>,
    ) -> String {
        let sha256 = self.dice.hash();
        self.books.documents.push(row![
            id,
            &place.id,
            format!("{name}.pdf"),
            &sha256,
            200_000,
            1,
            at_ms,
            destroyed_ms,
        ]);
        sha256
    }

    fn comment(&mut self, filing: &str, staff: &(String, String), at_ms: i64) {
        let id = self.id(at_ms);
        let text = "電話で確認済みです。再提出を待ちます。";
        let place = format!("filing_comments/{id}");
        let purpose = portal::keys::Purpose::FilingComment;
        let sealed = self.fund.keys.seal(purpose, &place, text.as_bytes());
        self.books
            .comments
            .push(row![id, filing, at_ms, "office", "staff", &staff.1, sealed]);
    }

    /// A step on a filing's timeline, in the history too if it is an exchange.
    fn step(
        &mut self,
        of: &Step<'_>,
        at_ms: i64,
        event: &str,
        entry: Option<&str>,
        person: &str,
        side: &str,
    ) {
        let id = self.id(at_ms);
        self.books
            .events
            .push(row![id, of.filing, at_ms, event, side, person, ""]);
        let Some(entry) = entry else { return };
        let id = self.id(at_ms);
        self.books.history.push(row![
            id,
            at_ms,
            &of.place.id,
            entry,
            of.kind,
            of.name,
            of.number,
            side,
            person,
            if entry == "returned" {
                "incomplete"
            } else {
                ""
            },
            of.filing,
            Cell::NoText,
        ]);
    }

    /// The notice of a decision, fetched by the one who filed, unless it is of these days.
    fn determination(
        &mut self,
        visit: &Visit<'_>,
        of: &Step<'_>,
        staff: &(String, String),
        at_ms: i64,
        index: usize,
    ) {
        let (notice, document) = (self.id(at_ms), self.id(at_ms));
        let number = format!("企年決第{index}号");
        let name = format!("決定通知書_{number}");
        self.document(visit.place, &document, &name, at_ms, None);
        let is_recent = at_ms > ms(self.fund.now) - 20 * DAY_MS;
        let fetched_ms =
            (!is_recent || self.dice.happens(50)).then(|| at_ms + self.dice_ms(2 * DAY_MS));
        self.books.notices.push(row![
            &notice,
            &number,
            "determination",
            &visit.place.id,
            of.filing,
            &document,
            "決定通知書",
            at_ms,
            &staff.0,
            fetched_ms,
            Cell::NoText,
            Cell::NoText,
            Cell::NoNumber,
        ]);
        self.step(of, at_ms, "noticed", None, &staff.1, "staff");
        self.issued(
            visit.place,
            &notice,
            "決定通知書",
            "決定通知書",
            &number,
            staff,
            at_ms,
        );
        if let Some(fetched_ms) = fetched_ms {
            let titles = ("決定通知書", "決定通知書");
            self.fetched(
                visit.place,
                visit.person,
                &notice,
                titles,
                &number,
                fetched_ms,
            );
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of one row")]
    fn issued(
        &mut self,
        place: &Place,
        notice: &str,
        kind: &str,
        title: &str,
        number: &str,
        staff: &(String, String),
        at_ms: i64,
    ) {
        let id = self.id(at_ms);
        self.books.history.push(row![
            id,
            at_ms,
            &place.id,
            "issued",
            kind,
            title,
            number,
            "staff",
            &staff.1,
            "",
            Cell::NoText,
            notice,
        ]);
        let who = Who::staff(&staff.0);
        self.audit
            .record(at_ms, who, "notice_issued", "notice", notice);
    }

    fn fetched(
        &mut self,
        place: &Place,
        person: &Person,
        notice: &str,
        (kind, title): (&str, &str),
        number: &str,
        at_ms: i64,
    ) {
        let (fetch, id) = (self.id(at_ms), self.id(at_ms));
        self.books.fetches.push(row![
            fetch,
            notice,
            &person.id,
            &person.device,
            "pdf",
            at_ms
        ]);
        self.books.history.push(row![
            id,
            at_ms,
            &place.id,
            "fetched",
            kind,
            title,
            number,
            "member",
            &person.name,
            "",
            Cell::NoText,
            notice,
        ]);
        let who = Who {
            kind: "member",
            id: &person.id,
            device: &person.device,
            session: "",
        };
        let object = format!("{notice}/pdf");
        self.audit
            .record(at_ms, who, "notice_fetched", "notice", &object);
    }

    fn receipt(
        &mut self,
        visit: &Visit<'_>,
        submission: &str,
        number: String,
        at_ms: i64,
        files: Vec<StatedFile>,
    ) {
        let day = day_of(at_ms);
        let month = month_text(day.year(), day.month());
        let Ok(counts) = month.parse() else { return };
        let statement = Statement {
            number,
            fund: FUND_NAME.to_owned(),
            establishment: visit.place.number,
            establishment_name: visit.place.name.clone(),
            received: portal::clock::from_unix_ms(at_ms),
            counts,
            sender: visit.person.name.clone(),
            device: format!("PC-{}", visit.person.login),
            filings: files.clone(),
            files,
        };
        let content = statement.canonical();
        let signature = self.key.sign(content.as_bytes());
        self.books.receipts.push(row![
            submission,
            "receipts-1",
            content,
            STANDARD.encode(&signature),
            code_of(&signature),
            day.to_string(),
            month,
        ]);
    }

    /// The batch of a month: three documents for each employer, those of the first years
    /// destroyed by now.
    fn batch(&mut self, months_ago: i32) {
        let fund = self.fund;
        let made = fund.now - Duration::days(i64::from(months_ago) * 30 + 8);
        let (made_ms, about) = (ms(made), made.date().replace_day(1).unwrap_or(made.date()));
        let about = about.previous_day().unwrap_or(about);
        let month = month_text(about.year(), about.month());
        let batch = self.id(made_ms);
        let number = format!("{}-{:03}", made.year(), MONTHS - months_ago);
        let staff = &fund.staff[0];
        let released_by = &fund.staff[1 % fund.staff.len()].0;
        self.books.batches.push(row![
            &batch,
            &number,
            "csv",
            &month,
            "first",
            "released",
            &staff.0,
            made_ms,
            released_by,
            made_ms,
            made_ms,
            made_ms,
        ]);
        let who = Who::staff(&staff.0);
        self.audit
            .record(made_ms, who, "batch_released", "batch", &batch);
        for (at, place) in fund.employers().iter().enumerate() {
            let person = &fund.people_of(at)[self.dice.below(3)];
            for (kind, title, word) in KINDS {
                let (item, document) = (self.id(made_ms), self.id(made_ms));
                let notice = format!("{word}第{number}-{}号", place.number);
                let is_old = months_ago >= 96 && kind == "other";
                let destroyed_ms = is_old.then(|| made_ms + 2_922 * DAY_MS);
                let name = format!("{title}_{notice}");
                let sha256 = self.document(place, &document, &name, made_ms, destroyed_ms);
                let yen = (kind != "other").then(|| i64::from(place.number.as_u16()) * 24_000);
                self.books.items.push(row![
                    &item, &batch, &place.id, kind, &notice, title, yen, "1行目", &document,
                    "none",
                ]);
                let is_fetched = months_ago > 0 || self.dice.happens(70);
                let fetched_ms = is_fetched.then(|| made_ms + self.dice_ms(6 * DAY_MS));
                self.books.notices.push(row![
                    &item,
                    &notice,
                    kind,
                    &place.id,
                    Cell::NoText,
                    &document,
                    title,
                    made_ms,
                    released_by,
                    fetched_ms,
                    &batch,
                    &month,
                    yen,
                ]);
                self.issued(place, &item, title, title, &notice, staff, made_ms);
                if let Some(at_ms) = fetched_ms {
                    self.fetched(place, person, &item, (title, title), &notice, at_ms);
                }
                if let Some(at_ms) = destroyed_ms {
                    let id = self.id(at_ms);
                    self.books
                        .destructions
                        .push(row![id, &item, &document, sha256, 8, at_ms]);
                }
            }
            for person in fund.people_of(at) {
                self.books
                    .mails
                    .push(row![&batch, &person.id, "issued", made_ms]);
            }
        }
    }
}

/// A filing whose timeline goes on.
struct Step<'a> {
    filing: &'a str,
    place: &'a Place,
    kind: &'a str,
    name: &'a str,
    number: &'a str,
}

impl Visit<'_> {
    fn who(&self) -> Who<'_> {
        Who {
            kind: "member",
            id: &self.person.id,
            device: &self.person.device,
            session: &self.session,
        }
    }
}

impl<'a> Who<'a> {
    fn staff(id: &'a str) -> Self {
        Self {
            kind: "staff",
            id,
            device: "",
            session: "",
        }
    }
}

fn day_of(at_ms: i64) -> Date {
    let at: OffsetDateTime = portal::clock::from_unix_ms(at_ms);
    (at + Duration::hours(9)).date()
}

/// `20240524`
fn digits(day: Date) -> String {
    day.to_string().replace('-', "")
}

pub(super) fn month_text(year: i32, month: Month) -> String {
    format!("{year}-{:02}", u8::from(month))
}
