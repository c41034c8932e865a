//! From what staff drop to a batch that is checked as a whole.
//!
//! Everything is looked at in memory, several files at a time; only a batch in which nothing
//! is wrong is sealed and kept. What is wrong with any of it is kept as sentences, so that the
//! page that names it can be opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use access::JST;
use archive::{Limits, Password, Plain};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use time::{Month, OffsetDateTime};

use super::guard::worker::Guard;
use super::guard::{By, Directory, Question, Stray, Verdict};
use super::store::{self, Item, Problem};
use super::table::{self, Line};
use super::{
    Batch, CORRECTED, DROP_LIMIT_BYTES, Edition, ITEM_LIMIT, Remark, Source, State, TargetMonth,
    names,
};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody::{self, CustodyError, Sealed};
use crate::db::{Db, StoreError, Tx, next_number};
use crate::documents::DocumentError;
use crate::establishments::{self, Establishment};
use crate::filings::pdf;
use crate::ids::{BatchId, EstablishmentId, NoticeId};
use crate::notices::Kind;
use crate::notices::contribution::{self, Frame};
use crate::web::principals::Reviewer;

/// Files that are looked at, made or sealed at the same time.
const AT_ONCE: usize = 4;
/// Of two batches that are dropped at once, the second waits: each is held in memory.
static INTAKE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);

/// What staff say about a batch.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// What month it is about.
    pub month: TargetMonth,
    /// First or correction.
    pub edition: Edition,
}

/// A file as it was dropped.
pub struct Dropped {
    /// Its name.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// What was dropped.
pub enum Material {
    /// PDFs and zips, with the password of the zips.
    Files(Vec<Dropped>, Option<Password>),
    /// One CSV.
    Csv(Dropped),
}

/// A batch cannot be made, through no fault of what was dropped.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document cannot be sealed.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The work was interrupted because the program stops.
    #[error("checking a batch was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// A document that may be issued, not sealed yet.
struct Ready {
    establishment: EstablishmentId,
    number: protocol::EstablishmentNumber,
    kind: Kind,
    title: String,
    amount_yen: Option<i64>,
    origin: String,
    remark: Remark,
    bytes: Vec<u8>,
    pages: usize,
    replaces: Option<NoticeId>,
}

/// All establishments.
struct Fund {
    by_number: BTreeMap<u16, Establishment>,
    directory: Directory,
    name: String,
}

/// Makes a batch: checked, or stopped with what is wrong.
///
/// # Errors
/// [`IntakeError`]; then nothing is kept.
pub async fn take(
    app: &App,
    reviewer: &Reviewer,
    order: Order,
    material: Material,
    now: OffsetDateTime,
) -> Result<BatchId, IntakeError> {
    // The semaphore is never closed.
    let _turn = INTAKE.acquire().await.ok();
    let source = match &material {
        Material::Files(..) => Source::Files,
        Material::Csv(_) => Source::Csv,
    };
    let mut batch = Batch {
        id: BatchId::new(),
        number: number(app, now).await?,
        source,
        month: order.month,
        edition: order.edition,
        state: State::Checked,
        made_by: reviewer.id(),
        made: now,
        released: None,
    };
    let establishments = establishments::store::list(&app.db).await?;
    let fund = Arc::new(Fund {
        directory: Directory(
            establishments
                .iter()
                .map(|known| (known.number.as_u16(), known.name.clone()))
                .collect(),
        ),
        by_number: establishments
            .into_iter()
            .map(|known| (known.number.as_u16(), known))
            .collect(),
        name: app.config.fund_name.clone(),
    });
    let (mut ready, mut problems) = match material {
        Material::Files(files, password) => look_at_files(&fund, files, password).await?,
        Material::Csv(file) => make_from_table(app, &batch, &fund, file, now).await?,
    };
    problems.extend(twice(&ready));
    if ready.is_empty() && problems.is_empty() {
        problems.push(Problem {
            origin: "全体".into(),
            sentence: "書類が1件もありません。".into(),
        });
    }
    if problems.is_empty() {
        let mut tx = app.db.begin().await?;
        problems = compare_with_issued(&mut tx, &batch, &mut ready).await?;
    }
    if problems.is_empty() {
        keep(app, reviewer, &batch, ready, now).await?;
    } else {
        batch.state = State::Stopped;
        let mut tx = app.db.begin().await?;
        store::insert(&mut tx, &batch).await?;
        store::insert_problems(&mut tx, batch.id, &problems).await?;
        made(app, &mut tx, reviewer, &batch, problems.len(), now).await?;
        Db::commit(tx).await?;
    }
    Ok(batch.id)
}

async fn made(
    app: &App,
    tx: &mut Tx,
    reviewer: &Reviewer,
    batch: &Batch,
    count: usize,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let details = json!({ "state": batch.state.code(), "count": count });
    let (actor, act) = (reviewer.actor(), Act::BatchMade(batch.id));
    audit::record_with(tx, &app.keys, &actor, act, "", &details, now).await
}

/// `2026-003`: the fund's business year, which begins in April, and a count.
async fn number(app: &App, now: OffsetDateTime) -> Result<String, StoreError> {
    let day = now.to_offset(JST).date();
    let year = day.year() - i32::from(u8::from(day.month()) < u8::from(Month::April));
    let mut tx = app.db.begin().await?;
    let count = next_number(&mut tx, &format!("batch/{year}")).await?;
    Db::commit(tx).await?;
    Ok(format!("{year}-{count:03}"))
}

type Looked = (Vec<Ready>, Vec<Problem>);

async fn look_at_files(
    fund: &Arc<Fund>,
    dropped: Vec<Dropped>,
    password: Option<Password>,
) -> Result<Looked, IntakeError> {
    let unpacked = tokio::task::spawn_blocking(move || unpack(dropped, password.as_ref()));
    let (files, mut problems) = unpacked.await?;
    let looked: Vec<Result<Ready, Problem>> = futures_util::stream::iter(files)
        .map(|file| {
            let fund = Arc::clone(fund);
            tokio::task::spawn_blocking(move || look_at(&fund, file))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut ready = Vec::new();
    for looked in looked {
        match looked {
            Ok(document) => ready.push(document),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((ready, problems))
}

/// Opens the zips among what was dropped.
fn unpack(dropped: Vec<Dropped>, password: Option<&Password>) -> (Vec<Dropped>, Vec<Problem>) {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    let mut left_bytes = DROP_LIMIT_BYTES;
    for file in dropped {
        if !archive::looks_like_zip(&file.bytes) {
            files.push(file);
            continue;
        }
        let limits = Limits {
            entries: ITEM_LIMIT,
            total_bytes: left_bytes,
        };
        match archive::open_within(&file.bytes, password, Plain::Taken, limits) {
            Ok(opened) => {
                let bytes: u64 = opened.entries.iter().map(|e| e.bytes.len() as u64).sum();
                left_bytes = left_bytes.saturating_sub(bytes);
                files.extend(opened.entries.into_iter().map(|entry| Dropped {
                    name: entry.name,
                    bytes: entry.bytes,
                }));
            }
            Err(found) => problems.extend(found.into_iter().map(|problem| Problem {
                origin: match problem.entry {
                    Some(entry) => format!("{} の {entry}", file.name),
                    None => file.name.clone(),
                },
                sentence: problem.error.page_text(),
            })),
        }
    }
    if files.len() > ITEM_LIMIT {
        problems.push(Problem {
            origin: "全体".into(),
            sentence: format!(
                "ファイルが多すぎます（{}件）。一度に{ITEM_LIMIT}件までです。分けてください。",
                files.len()
            ),
        });
        files.clear();
    }
    (files, problems)
}

/// Looks at one file: name, PDF, establishment, and whose text it has.
fn look_at(fund: &Fund, file: Dropped) -> Result<Ready, Problem> {
    let problem = |place: &str, sentence: String| Problem {
        origin: format!("{}{place}", file.name),
        sentence,
    };
    let named =
        names::read(&file.name).map_err(|error| problem("", error.page_text().to_owned()))?;
    let checked = pdf::check(&file.bytes).map_err(|error| problem("", error.page_text()))?;
    let known = fund
        .find(named.number.as_u16())
        .map_err(|sentence| problem("", sentence))?;
    let question = Question {
        own: known.number.as_u16(),
        own_name: known.name.clone(),
        fund: fund.name.clone(),
    };
    let remark = match Guard::default().judge(&question, &fund.directory, &file.bytes) {
        Verdict::Stray(Stray { page, number, by }) => {
            let other = fund.by_number.get(&number);
            let name = other.map_or("", |other| other.name.as_str());
            let what = match by {
                By::Number => "番号",
                By::Name => "名称",
            };
            return Err(problem(
                &format!(" の{page}ページ目"),
                format!(
                    "別の事業所（{number:04} {name}）の{what}が書かれています。送り先の誤りのおそれがあるため、一括発行を止めました。"
                ),
            ));
        }
        Verdict::Own => Remark::Nothing,
        Verdict::Nobody => Remark::OwnNameMissing,
        Verdict::NoText => Remark::TextUnread,
    };
    Ok(Ready {
        establishment: known.id,
        number: known.number,
        kind: named.kind,
        title: named.title,
        amount_yen: None,
        origin: file.name,
        remark,
        bytes: file.bytes,
        pages: checked.pages,
        replaces: None,
    })
}

impl Fund {
    /// The establishment of this number, if it can get anything.
    fn find(&self, number: u16) -> Result<&Establishment, String> {
        let known = self.by_number.get(&number).ok_or_else(|| {
            format!("事業所番号{number:04}は登録されていません。番号をご確認ください。")
        })?;
        if known.suspended.is_some() {
            return Err(format!(
                "事業所番号{number:04}は利用停止中のため、受け取れません。この事業所の分を除いて、郵送してください。"
            ));
        }
        Ok(known)
    }
}

async fn make_from_table(
    app: &App,
    batch: &Batch,
    fund: &Arc<Fund>,
    file: Dropped,
    now: OffsetDateTime,
) -> Result<Looked, IntakeError> {
    let today = now.to_offset(JST).date();
    let read = tokio::task::spawn_blocking(move || table::read(&file.bytes, today));
    let (lines, wrong) = read.await?;
    let mut problems: Vec<Problem> = wrong
        .into_iter()
        .map(|problem| Problem {
            origin: match problem.line {
                0 => "ファイル全体".to_owned(),
                line => format!("{line}行目"),
            },
            sentence: problem.sentence,
        })
        .collect();
    let maker = Arc::new(Maker {
        fund: Arc::clone(fund),
        number: batch.number.clone(),
        month: batch.month,
        edition: batch.edition,
        contact: app.config.fund_contact.clone(),
        now,
    });
    let made: Vec<Result<[Ready; 2], Problem>> = futures_util::stream::iter(lines)
        .map(|line| {
            let maker = Arc::clone(&maker);
            tokio::task::spawn_blocking(move || maker.make(&line))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut ready = Vec::new();
    for made in made {
        match made {
            Ok(documents) => ready.extend(documents),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((ready, problems))
}

/// Makes the documents of one line.
struct Maker {
    fund: Arc<Fund>,
    number: String,
    month: TargetMonth,
    edition: Edition,
    contact: String,
    now: OffsetDateTime,
}

impl Maker {
    fn make(&self, line: &Line) -> Result<[Ready; 2], Problem> {
        let problem = |sentence: String| Problem {
            origin: format!("{}行目", line.line),
            sentence,
        };
        let known = self.fund.find(line.number.as_u16()).map_err(problem)?;
        let plain = |name: &str| -> String {
            use unicode_normalization::UnicodeNormalization as _;
            name.nfkc().filter(|c| !c.is_whitespace()).collect()
        };
        if let Some(name) = &line.name
            && plain(name) != plain(&known.name)
        {
            return Err(problem(format!(
                "事業所番号{}の事業所名が、登録（{}）と違います。番号か名称をご確認ください。",
                known.number, known.name
            )));
        }
        let make = |kind: Kind| -> Result<Ready, DocumentError> {
            let frame = Frame {
                fund: self.fund.name.clone(),
                number: item_number(kind, &self.number, known.number, 1),
                issued_on: self.now.to_offset(JST).date(),
                establishment: known.number,
                establishment_name: known.name.clone(),
                month: self.month.name(),
                correction: self.edition == Edition::Correction,
                contact: self.contact.clone(),
                made_at: self.now,
            };
            let bytes = match kind {
                Kind::Payment => contribution::payment(&frame, &line.contribution)?,
                Kind::Contribution | Kind::Determination | Kind::Other => {
                    contribution::statement(&frame, &line.contribution)?
                }
            };
            let checked =
                pdf::check(&bytes).map_err(|error| DocumentError::Invalid(error.to_string()))?;
            Ok(Ready {
                establishment: known.id,
                number: known.number,
                kind,
                title: kind.name().to_owned(),
                amount_yen: Some(line.contribution.total_yen),
                origin: format!("{}行目", line.line),
                remark: Remark::Nothing,
                bytes,
                pages: checked.pages,
                replaces: None,
            })
        };
        let make = |kind| make(kind).map_err(|error| problem(error.page_text()));
        Ok([make(Kind::Contribution)?, make(Kind::Payment)?])
    }
}

/// `掛金第2026-003-0123号`; `copy` counts documents of one kind for one establishment.
fn item_number(
    kind: Kind,
    batch: &str,
    establishment: protocol::EstablishmentNumber,
    copy: usize,
) -> String {
    let word = match kind {
        Kind::Contribution => "掛金",
        Kind::Payment => "納入",
        Kind::Determination => "決定通知",
        Kind::Other => "通知",
    };
    let copy = if copy > 1 {
        format!("-{copy}")
    } else {
        String::new()
    };
    format!("{word}第{batch}-{establishment}{copy}号")
}

/// Documents that an establishment would get twice.
fn twice(ready: &[Ready]) -> Vec<Problem> {
    let mut seen: BTreeMap<(EstablishmentId, &str), &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for document in ready {
        let key = (document.establishment, document.title.as_str());
        if let Some(first) = seen.insert(key, &document.origin) {
            problems.push(Problem {
                origin: document.origin.clone(),
                sentence: format!(
                    "事業所番号{}の「{}」が2つあります（もう1つは {first}）。どちらかを除いてください。",
                    document.number, document.title
                ),
            });
        }
    }
    problems
}

/// Holds the documents against what was issued for the month before: a first edition twice is
/// a mistake, and so is a correction of nothing.
async fn compare_with_issued(
    tx: &mut Tx,
    batch: &Batch,
    ready: &mut [Ready],
) -> Result<Vec<Problem>, StoreError> {
    let mut problems = Vec::new();
    for document in ready {
        let (place, kind) = (document.establishment, document.kind);
        let title = issued_title(&document.title, batch);
        let before = store::issued_before(tx, place, kind, &title, batch.month).await?;
        match (batch.edition, before) {
            (Edition::First, None) => {}
            (Edition::First, Some(_)) => problems.push(Problem {
                origin: document.origin.clone(),
                sentence: format!(
                    "事業所番号{}の{}の「{}」は、すでに発行しています。直すときは「訂正版」を選ぶか、前のものを取り消してください。",
                    document.number,
                    batch.month.name(),
                    document.title
                ),
            }),
            (Edition::Correction, Some(id)) => document.replaces = Some(id),
            (Edition::Correction, None) => problems.push(Problem {
                origin: document.origin.clone(),
                sentence: format!(
                    "事業所番号{}には、{}の「{}」をまだ発行していないため、訂正版にできません。",
                    document.number,
                    batch.month.name(),
                    document.title
                ),
            }),
        }
    }
    Ok(problems)
}

/// `掛金計算書（令和8年10月分）`
fn issued_title(title: &str, batch: &Batch) -> String {
    format!("{title}（{}）", batch.month.name())
}

/// Seals every document and writes the batch, or nothing.
async fn keep(
    app: &App,
    reviewer: &Reviewer,
    batch: &Batch,
    ready: Vec<Ready>,
    now: OffsetDateTime,
) -> Result<(), IntakeError> {
    let day = now.to_offset(JST).date().to_string().replace('-', "");
    let mut copies: BTreeMap<(EstablishmentId, Kind), usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    let mut plans = Vec::with_capacity(ready.len());
    for document in ready {
        let copy = copies
            .entry((document.establishment, document.kind))
            .and_modify(|copy| *copy += 1)
            .or_insert(1);
        let number = item_number(document.kind, &batch.number, document.number, *copy);
        let mut name = format!(
            "{day}_{}_{}_{}.pdf",
            document.number, document.title, batch.number
        );
        if !names.insert(name.clone()) {
            name = format!(
                "{day}_{}_{}_{}_{copy}.pdf",
                document.number, document.title, batch.number
            );
        }
        plans.push((document, number, name));
    }
    let sealed: Result<Vec<(Sealed, Item)>, CustodyError> = futures_util::stream::iter(plans)
        .map(|(document, number, name)| async move {
            let sealed = custody::seal(
                app,
                document.establishment,
                &name,
                document.bytes,
                document.pages,
            )
            .await?;
            let edition = match batch.edition {
                Edition::First => "",
                Edition::Correction => CORRECTED,
            };
            let item = Item {
                id: NoticeId::new(),
                establishment: document.establishment,
                kind: document.kind,
                number,
                title: format!("{edition}{}", issued_title(&document.title, batch)),
                amount_yen: document.amount_yen,
                origin: document.origin,
                document: sealed.document().id,
                remark: document.remark,
                replaces: document.replaces,
            };
            Ok((sealed, item))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await;
    // What was sealed before a failure has no row: the sweeper takes it.
    let sealed = sealed?;
    let count = sealed.len();
    let mut tx = app.db.begin().await?;
    store::insert(&mut tx, batch).await?;
    for (sealed, item) in sealed {
        custody::store::record(&mut tx, sealed, now).await?;
        store::insert_item(&mut tx, batch.id, &item).await?;
    }
    made(app, &mut tx, reviewer, batch, count, now).await?;
    Db::commit(tx).await?;
    Ok(())
}
