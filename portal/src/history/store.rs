//! Rows of the history: written with what they tell of, read a page at a time.

use access::JST;
use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::{Date, OffsetDateTime};
use unicode_normalization::UnicodeNormalization as _;

use super::search::{Alternative, Clause, Going, Question};
use super::{Entry, Position};
use crate::clock::unix_ms;
use crate::db::conditions::containing;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::store::number_from_row;
use crate::filings::store::ActorSide;
use crate::ids::{BatchId, EstablishmentId, FilingId, NoticeId, RowId};
use crate::notices::Kind;
use crate::web::principals::{Member, Reviewer};

/// Lines of one page.
pub const PAGE_LENGTH: usize = 50;
/// Words of one search.
const WORDS_LIMIT: usize = 4;
/// Longer words are cut.
const WORD_LIMIT_CHARS: usize = 60;
/// Names of one sort that a word may stand for.
const NAMES_LIMIT: usize = 8;

/// What somebody looks for.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Words, all of which must be found; empty: any.
    pub text: String,
    /// What happened.
    pub entry: Option<Entry>,
    /// The kind of filing or notice, as people read it; empty: any.
    pub kind: String,
    /// Part of a person's name; empty: anybody.
    pub person: String,
    /// First day, in Japan.
    pub from: Option<Date>,
    /// Last day, in Japan.
    pub to: Option<Date>,
    /// Only this establishment; what a member says here means nothing.
    pub establishment: Option<EstablishmentNumber>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub position: Position,
    /// What happened.
    pub entry: Entry,
    /// The kind of filing or notice, as people read it.
    pub kind: String,
    /// The filing's name or the notice's title.
    pub title: String,
    /// The receipt's or the notice's number.
    pub number: String,
    /// On whose side.
    pub side: ActorSide,
    /// Who.
    pub person: String,
    /// A return's code; else empty.
    pub reason: String,
    /// The filing.
    pub filing: Option<FilingId>,
    /// The notice.
    pub notice: Option<NoticeId>,
    /// Whose it is.
    pub establishment_number: EstablishmentNumber,
    /// Whose it is.
    pub establishment_name: String,
    /// The word of the filing's state now.
    pub filing_state: Option<String>,
}

/// One page of lines, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The lines.
    pub lines: Vec<Line>,
    /// Whether there is something newer than the first.
    pub newer: Option<Position>,
    /// Where what is older begins; the search may have stopped there before it found a page full.
    pub older: Option<Position>,
    /// Whether the search stopped at `older` although the page is not full.
    pub stopped: bool,
}

/// Writes that something happened to a filing. The filing's own row is as it is after it.
pub async fn of_filing(
    tx: &mut Tx,
    filing: FilingId,
    entry: Entry,
    side: ActorSide,
    person: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    // 20240524_0123_資格取得届: the kind stands behind the second underscore.
    sqlx::query(
        "INSERT INTO history (id, at_ms, establishment_id, entry, kind, title, number, side, person,
                              reason, filing_id)
         SELECT $1, $2, f.establishment_id, $3,
                CASE WHEN substr(f.name, 9, 1) = '_' AND substr(f.name, 14, 1) = '_'
                     THEN substr(f.name, 15) ELSE f.name END,
                f.name, COALESCE(s.receipt_number, ''), $4, $5,
                CASE WHEN f.state = 'returned' THEN COALESCE(f.return_code, '') ELSE '' END, f.id
           FROM filings f LEFT JOIN submissions s ON s.id = f.submission_id WHERE f.id = $6",
    )
    .bind(RowId::new().to_string())
    .bind(unix_ms(now))
    .bind(entry.code())
    .bind(side.code())
    .bind(person.to_owned())
    .bind(filing.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write history of a filing"))
}

/// Writes that something happened to a notice, whose row is there already.
pub async fn of_notice(
    tx: &mut Tx,
    notice: NoticeId,
    entry: Entry,
    side: ActorSide,
    person: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let code = sqlx::query("SELECT kind FROM notices WHERE id = $1")
        .bind(notice.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("find a notice for the history"))?
        .text("kind")?;
    let kind = Kind::from_code(&code).ok_or(StoreError::Unreadable { what: "kind" })?;
    sqlx::query(
        "INSERT INTO history (id, at_ms, establishment_id, entry, kind, title, number, side, person,
                              reason, filing_id, notice_id)
         SELECT $1, $2, n.establishment_id, $3, $4, n.title, n.number, $5, $6, '', n.filing_id, n.id
           FROM notices n WHERE n.id = $7",
    )
    .bind(RowId::new().to_string())
    .bind(unix_ms(now))
    .bind(entry.code())
    .bind(kind.name())
    .bind(side.code())
    .bind(person.to_owned())
    .bind(notice.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write history of a notice"))
}

/// Writes that everything in a batch was issued, whose notices are there already.
pub async fn of_batch(tx: &mut Tx, batch: BatchId) -> Result<(), StoreError> {
    for kind in Kind::ALL {
        // A notice is issued once: its id names the entry too.
        sqlx::query(
            "INSERT INTO history (id, at_ms, establishment_id, entry, kind, title, number, side, person,
                                  reason, filing_id, notice_id)
             SELECT n.id, n.issued_ms, n.establishment_id, 'issued', $1, n.title, n.number, 'staff',
                    s.name, '', n.filing_id, n.id
               FROM notices n JOIN staff s ON s.id = n.issued_by
              WHERE n.batch_id = $2 AND n.kind = $3",
        )
        .bind(kind.name())
        .bind(batch.to_string())
        .bind(kind.code())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write history of a batch"))?;
    }
    Ok(())
}

/// Who asks, and so what can be found.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A member: the own establishment's history.
    Member(&'a Member),
    /// Staff: the whole fund's.
    Reviewer(&'a Reviewer),
}

/// A page of what the asker may see, with at most `length` lines.
pub async fn read(
    db: &Db,
    asker: Asker<'_>,
    search: &Search,
    going: Going,
    length: usize,
) -> Result<Page, StoreError> {
    let clauses = match asker {
        Asker::Member(member) => own(member, search),
        Asker::Reviewer(_) => all(db, search).await?,
    };
    answer(db, clauses, search, going, length).await
}

fn own(member: &Member, search: &Search) -> Vec<Clause> {
    let text = words(&search.text);
    let person = words(&search.person);
    let text = text
        .iter()
        .map(|word| Alternative::Anywhere(containing(word)));
    let person = person
        .iter()
        .map(|word| Alternative::ByMember(containing(word)));
    let own = std::iter::once(vec![Alternative::Establishment(member.establishment())]);
    // A delegate sees the procedures that he was given.
    let procedures = member.reach().procedures;
    let within = (!procedures.is_empty()).then(|| vec![Alternative::OfProcedures(procedures)]);
    own.chain(within)
        .chain(plain_clauses(search))
        .chain(text.chain(person).map(|one| vec![one]))
        .collect()
}

async fn all(db: &Db, search: &Search) -> Result<Vec<Clause>, StoreError> {
    let mut clauses: Vec<Clause> = plain_clauses(search).collect();
    if let Some(number) = search.establishment {
        clauses.push(named(establishments(db, &number.to_string()).await?));
    }
    let (text, person) = (words(&search.text), words(&search.person));
    if text.is_empty() && person.is_empty() {
        return Ok(clauses);
    }
    let people = distinct(db, PERSONS).await?;
    let kinds = distinct(db, KINDS).await?;
    for word in text {
        clauses.push(meanings(db, &word, &people, &kinds).await?);
    }
    for word in person {
        clauses.push(among(&people, &word, Alternative::Person));
    }
    Ok(clauses)
}

/// The kinds that stand in the whole fund's history.
pub async fn kinds(db: &Db, _: &Reviewer) -> Result<Vec<String>, StoreError> {
    distinct(db, KINDS).await
}

/// The kinds that stand in what the member sees of the establishment's history.
pub async fn own_kinds(db: &Db, member: &Member) -> Result<Vec<String>, StoreError> {
    sqlx::query(OWN_KINDS)
        .bind(member.establishment().to_string())
        .bind(member.reach().procedures)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("list kinds of the own history"))?
        .iter()
        .map(|row| row.text("name"))
        .collect()
}

fn plain_clauses(search: &Search) -> impl Iterator<Item = Clause> {
    let entry = search.entry.map(Alternative::Entry);
    let kind = (!search.kind.is_empty()).then(|| Alternative::Kind(search.kind.clone()));
    entry.into_iter().chain(kind).map(|one| vec![one])
}

/// What a word can stand for. What it is no name or number of may still be part of a title.
async fn meanings(
    db: &Db,
    word: &str,
    people: &[String],
    kinds: &[String],
) -> Result<Clause, StoreError> {
    let mut meanings = named(establishments(db, word).await?);
    meanings.extend(among(people, word, Alternative::Person));
    meanings.extend(among(kinds, word, Alternative::Kind));
    let found = sqlx::query(
        "SELECT (SELECT MIN(number) FROM history WHERE number = $1) AS number,
                (SELECT MIN(title) FROM history WHERE title = $1) AS title",
    )
    .bind(word.to_owned())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("look for a number in the history"))?;
    meanings.extend(found.text_if("number")?.map(Alternative::Number));
    meanings.extend(found.text_if("title")?.map(Alternative::Title));
    if meanings.is_empty() {
        meanings.push(Alternative::InTitle(containing(word)));
    }
    Ok(meanings)
}

fn named(establishments: Vec<EstablishmentId>) -> Clause {
    let all = establishments.into_iter();
    all.map(Alternative::Establishment).collect()
}

fn among(names: &[String], word: &str, meaning: fn(String) -> Alternative) -> Clause {
    let plain = |text: &str| text.nfkc().collect::<String>().to_lowercase();
    let word = plain(word);
    let found = names.iter().filter(|name| plain(name).contains(&word));
    found.take(NAMES_LIMIT).cloned().map(meaning).collect()
}

/// The establishments with this number, or with this in their names.
async fn establishments(db: &Db, word: &str) -> Result<Vec<EstablishmentId>, StoreError> {
    let number = word.parse::<EstablishmentNumber>();
    let number = number.map_or(0, |number| i64::from(number.as_u16()));
    sqlx::query(
        "SELECT id FROM establishments WHERE number = $1 OR name LIKE $2 ESCAPE '!'
          ORDER BY CASE WHEN number = $1 THEN 0 ELSE 1 END, number LIMIT $3",
    )
    .bind(number)
    .bind(containing(word))
    .bind(i64::try_from(NAMES_LIMIT).unwrap_or(i64::MAX))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("look for establishments by a word"))?
    .iter()
    .map(|row| row.parsed("id"))
    .collect()
}

/// Steps from one value of the column to the next along its index: there are hundreds of
/// thousands of rows and a few values.
const PERSONS: &str = "WITH RECURSIVE v (name) AS (
        SELECT MIN(person) FROM history
        UNION ALL
        SELECT (SELECT MIN(h.person) FROM history h WHERE h.person > v.name) FROM v
         WHERE v.name IS NOT NULL)
     SELECT name FROM v WHERE name IS NOT NULL LIMIT 5000";
const KINDS: &str = "WITH RECURSIVE v (name) AS (
        SELECT MIN(kind) FROM history
        UNION ALL
        SELECT (SELECT MIN(h.kind) FROM history h WHERE h.kind > v.name) FROM v
         WHERE v.name IS NOT NULL)
     SELECT name FROM v WHERE name IS NOT NULL LIMIT 500";
/// The same of one establishment; of a delegate's procedures, if `$2` names any.
const OWN_KINDS: &str = "WITH RECURSIVE v (name) AS (
        SELECT MIN(kind) FROM history WHERE establishment_id = $1
        UNION ALL
        SELECT (SELECT MIN(h.kind) FROM history h WHERE h.establishment_id = $1 AND h.kind > v.name)
          FROM v WHERE v.name IS NOT NULL)
     SELECT name FROM v
      WHERE name IS NOT NULL
        AND ($2 = '' OR EXISTS (
             SELECT 1 FROM history h
              WHERE h.establishment_id = $1 AND h.kind = v.name
                AND (h.filing_id IS NULL
                     OR EXISTS (SELECT 1 FROM filings f JOIN filing_kinds k ON k.code = f.kind
                                 WHERE f.id = h.filing_id
                                   AND $2 LIKE '%,' || k.procedure_group || ',%'))))
      LIMIT 500";

async fn distinct(db: &Db, of: &'static str) -> Result<Vec<String>, StoreError> {
    sqlx::query(of)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("list what the history knows"))?
        .iter()
        .map(|row| row.text("name"))
        .collect()
}

async fn answer(
    db: &Db,
    clauses: Vec<Clause>,
    search: &Search,
    going: Going,
    length: usize,
) -> Result<Page, StoreError> {
    let question = Question {
        clauses,
        from_ms: search.from.map_or(0, day_begins_ms),
        before_ms: search
            .to
            .and_then(Date::next_day)
            .map_or(i64::MAX, day_begins_ms),
        going,
        limit: i64::try_from(length + 1).unwrap_or(i64::MAX),
    };
    let rows = question
        .statement()
        .query()
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("read the history"))?;
    let mut lines: Vec<Line> = rows
        .iter()
        .map(line_from_row)
        .collect::<Result<_, StoreError>>()?;
    let full = lines.len() > length;
    lines.truncate(length);
    // Where a walk stopped before it found enough, nothing beyond the nearest stop is known.
    let mut stop: Option<Position> = None;
    if !full {
        for end in question.ends() {
            let row = end
                .query()
                .fetch_optional(db.pool())
                .await
                .map_err(StoreError::doing("see how far the history was read"))?;
            let at = row.as_ref().map(position_from_row).transpose()?;
            stop = match (stop, at) {
                (Some(one), Some(other)) => Some(nearer(one, other, going)),
                (one, other) => one.or(other),
            };
        }
    }
    if let Some(stop) = stop {
        lines.retain(|line| nearer(line.position, stop, going) == line.position);
    }
    let last = lines.last().map(|line| line.position);
    let on = if full { last } else { stop };
    let first = lines.first().map(|line| line.position);
    Ok(match going {
        Going::FromTheNewest => Page {
            lines,
            newer: None,
            older: on,
            stopped: stop.is_some(),
        },
        Going::OlderThan(from) => Page {
            newer: first.or(Some(from)),
            lines,
            older: on,
            stopped: stop.is_some(),
        },
        Going::NewerThan(from) => {
            lines.reverse();
            Page {
                newer: on,
                older: first.or(Some(from)),
                lines,
                stopped: stop.is_some(),
            }
        }
    })
}

/// Which of two places comes first on the way.
fn nearer(one: Position, other: Position, going: Going) -> Position {
    let key = |position: &Position| (position.at, position.id);
    match going {
        Going::FromTheNewest | Going::OlderThan(_) => std::cmp::max_by_key(one, other, key),
        Going::NewerThan(_) => std::cmp::min_by_key(one, other, key),
    }
}

fn position_from_row(row: &AnyRow) -> Result<Position, StoreError> {
    Ok(Position {
        at: row.moment("at_ms")?,
        id: row.parsed("id")?,
    })
}

fn line_from_row(row: &AnyRow) -> Result<Line, StoreError> {
    Ok(Line {
        position: position_from_row(row)?,
        entry: Entry::from_code(&row.text("entry")?)
            .ok_or(StoreError::Unreadable { what: "entry" })?,
        kind: row.text("kind")?,
        title: row.text("title")?,
        number: row.text("number")?,
        side: ActorSide::from_code(&row.text("side")?)
            .ok_or(StoreError::Unreadable { what: "side" })?,
        person: row.text("person")?,
        reason: row.text("reason")?,
        filing: row.parsed_if("filing_id")?,
        notice: row.parsed_if("notice_id")?,
        establishment_number: number_from_row(row.number("establishment_number")?)?,
        establishment_name: row.text("establishment_name")?,
        filing_state: row.text_if("filing_state")?,
    })
}

/// The words of a search, in plain characters.
fn words(text: &str) -> Vec<String> {
    let text: String = text.nfkc().collect();
    text.split_whitespace()
        .take(WORDS_LIMIT)
        .map(|word| word.chars().take(WORD_LIMIT_CHARS).collect())
        .collect()
}

fn day_begins_ms(day: Date) -> i64 {
    unix_ms(day.midnight().assume_offset(JST))
}
