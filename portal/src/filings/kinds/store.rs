//! Rows of kinds of filings. Everybody who files reads them; [`super::pages`] edits them.

use sqlx::any::AnyRow;
use sqlx::{Any, Executor};
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::{
    ALIAS_SEPARATOR, Counting, Deadline, EditError, FilingKind, Form, Kind, Kinds, Procedure,
    Within, check,
};
use crate::audit::Actor;
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{StoreError, Tx, next_number};

/// Every kind.
pub async fn all<'e>(db: impl Executor<'e, Database = Any>) -> Result<Kinds, StoreError> {
    let rows = sqlx::query(
        "SELECT code, position, name, aliases, procedure_group, form, event, within_days,
                days_counted, month_day, starts_on, ends_on, version
           FROM filing_kinds",
    )
    .fetch_all(db)
    .await
    .map_err(StoreError::doing("read kinds of filings"))?;
    let kinds = rows.iter().map(kind_from_row).collect::<Result<_, _>>()?;
    Ok(Kinds::new(kinds))
}

/// What an edit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// A kind that is to be made.
    New,
    /// The kind with this code, as it was in this version.
    Old {
        /// The code.
        code: &'a str,
        /// The version that was edited.
        version: i64,
    },
}

/// Writes an edit and returns the kind's code. Edits wait for each other, so that no name is
/// given twice. `make` gets the code that the kind has.
pub async fn save(
    tx: &mut Tx,
    of: Of<'_>,
    make: impl FnOnce(&str) -> FilingKind,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Result<FilingKind, EditError>, StoreError> {
    let number = next_number(tx, "filing_kinds").await?;
    let kinds = all(&mut **tx).await?;
    let code = match of {
        Of::New => format!("kind-{number}"),
        Of::Old { code, version } => match kinds.find(code) {
            Some(kind) if kind.version == version => code.to_owned(),
            Some(_) | None => return Ok(Err(EditError::Moved)),
        },
    };
    let before = kinds.find(&code);
    let kind = FilingKind {
        version: before.map_or(1, |kind| kind.version + 1),
        ..make(&code)
    };
    if let Err(error) = check(&kind, &kinds) {
        return Ok(Err(error));
    }
    let text = match of {
        Of::New => {
            "INSERT INTO filing_kinds (position, name, aliases, procedure_group, form, event,
                 within_days, days_counted, month_day, starts_on, ends_on, version, changed_ms,
                 changed_by, code)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
        }
        Of::Old { .. } => {
            "UPDATE filing_kinds SET position = $1, name = $2, aliases = $3, procedure_group = $4,
                 form = $5, event = $6, within_days = $7, days_counted = $8, month_day = $9,
                 starts_on = $10, ends_on = $11, version = $12, changed_ms = $13, changed_by = $14
              WHERE code = $15"
        }
    };
    let counting = kind
        .deadline
        .within
        .map_or(Counting::Calendar, |w| w.counting);
    sqlx::query(text)
        .bind(kind.position)
        .bind(kind.kind.name())
        .bind(kind.aliases.join(&ALIAS_SEPARATOR.to_string()))
        .bind(kind.procedure.code())
        .bind(kind.form.code())
        .bind(kind.deadline.event.clone())
        .bind(kind.deadline.within.map(|within| i64::from(within.days)))
        .bind(counting.code())
        .bind(kind.deadline.month_day.map(i64::from))
        .bind(kind.starts.map(|day| day.to_string()))
        .bind(kind.ends.map(|day| day.to_string()))
        .bind(kind.version)
        .bind(unix_ms(now))
        .bind(actor.name_for_rows())
        .bind(code)
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write a kind of filing"))?;
    Ok(Ok(kind))
}

fn kind_from_row(row: &AnyRow) -> Result<FilingKind, StoreError> {
    let unreadable = |what| StoreError::Unreadable { what };
    let day = |column| {
        row.text_if(column)?
            .map(|text| {
                Date::parse(&text, format_description!("[year]-[month]-[day]"))
                    .map_err(|_| unreadable(column))
            })
            .transpose()
    };
    let counting =
        Counting::from_code(&row.text("days_counted")?).ok_or(unreadable("days_counted"))?;
    let within = row
        .number_if("within_days")?
        .map(|days| u16::try_from(days).map_err(|_| unreadable("within_days")))
        .transpose()?;
    let month_day = row
        .number_if("month_day")?
        .map(|day| u8::try_from(day).map_err(|_| unreadable("month_day")))
        .transpose()?;
    Ok(FilingKind {
        kind: Kind::of(&row.text("code")?, &row.text("name")?),
        position: row.number("position")?,
        aliases: split(&row.text("aliases")?),
        procedure: Procedure::from_code(&row.text("procedure_group")?)
            .ok_or(unreadable("procedure_group"))?,
        form: Form::from_code(&row.text("form")?).ok_or(unreadable("form"))?,
        deadline: Deadline {
            event: row.text("event")?,
            within: within.map(|days| Within { days, counting }),
            month_day,
        },
        starts: day("starts_on")?,
        ends: day("ends_on")?,
        version: row.number("version")?,
    })
}

fn split(aliases: &str) -> Vec<String> {
    aliases
        .split(ALIAS_SEPARATOR)
        .filter(|alias| !alias.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The rows that the migration brings, read out of its text: tests of the name rule need no
/// database for them.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn seed() -> Kinds {
    let sql = include_str!("../../../migrations/0004_filing.sql");
    let rows = sql.lines().filter_map(|line| {
        let row = line
            .trim()
            .strip_prefix("('")?
            .trim_end_matches([',', ';', ')']);
        let fields: Vec<&str> = row
            .split(", ")
            .map(|field| field.trim_matches('\''))
            .collect();
        let number = |at: usize| fields[at].parse().ok();
        Some(FilingKind {
            kind: Kind::of(fields[0], fields[2]),
            position: number(1)?,
            aliases: split(fields[3]),
            procedure: Procedure::from_code(fields[4])?,
            form: Form::from_code(fields[5])?,
            deadline: Deadline {
                event: fields[6].to_owned(),
                within: number(7).map(|days| Within {
                    days: u16::try_from(days).unwrap_or(u16::MAX),
                    counting: Counting::Calendar,
                }),
                month_day: number(9).and_then(|day: i64| u8::try_from(day).ok()),
            },
            starts: None,
            ends: None,
            version: 1,
        })
    });
    Kinds::new(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;
    use crate::testing::{NOW, databases};

    #[tokio::test]
    async fn a_new_database_has_the_kinds_of_a_new_portal() {
        for db in databases().await {
            assert_eq!(all(db.pool()).await.unwrap(), seed());
        }
    }

    #[tokio::test]
    async fn of_two_edits_of_one_version_one_counts() {
        for db in databases().await {
            let rivals: Vec<_> = (0..6)
                .map(|n| {
                    let db = db.db.clone();
                    tokio::spawn(async move {
                        let mut tx = db.begin().await.unwrap();
                        let kinds = seed();
                        let old = kinds.find("acquisition").unwrap().clone();
                        let of = Of::Old {
                            code: "acquisition",
                            version: 1,
                        };
                        let make = |code: &str| FilingKind {
                            kind: Kind::of(code, &format!("取得届{n}号")),
                            ..old
                        };
                        let saved = save(&mut tx, of, make, &Actor::System, NOW).await.unwrap();
                        Db::commit(tx).await.unwrap();
                        saved.is_ok()
                    })
                })
                .collect();
            let mut won = 0;
            for rival in rivals {
                won += usize::from(rival.await.unwrap());
            }
            assert_eq!(won, 1);
        }
    }

    #[tokio::test]
    async fn one_name_is_not_given_to_two_new_kinds() {
        for db in databases().await {
            let mut made = 0;
            for name in ["新しい届", "別の届", "新しい届"] {
                let mut tx = db.begin().await.unwrap();
                let old = seed().find("correction").unwrap().clone();
                let make = |code: &str| FilingKind {
                    kind: Kind::of(code, name),
                    aliases: Vec::new(),
                    ..old
                };
                let saved = save(&mut tx, Of::New, make, &Actor::System, NOW)
                    .await
                    .unwrap();
                Db::commit(tx).await.unwrap();
                made += usize::from(saved.is_ok());
            }
            assert_eq!(made, 2);
            assert_eq!(all(db.pool()).await.unwrap().iter().count(), 24);
        }
    }
}
