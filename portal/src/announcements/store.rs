//! Rows of announcements, of whom they are for, and of who has read them.

use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Announcement, Audience};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{AnnouncementId, EstablishmentId, UserId};
use crate::web::principals::{Member, Reviewer};

/// Announcements that one list shows.
pub const LIST_LIMIT: i64 = 200;

/// The columns that [`read`] reads, of `announcements a JOIN staff s`.
const COLUMNS: &str = "a.id, a.title, a.body, a.audience, a.shown_from_ms, a.shown_until_ms,
    a.withdrawn_ms, s.name AS written_by";

/// An announcement with what a member's list says beside it.
#[derive(Debug, Clone)]
pub struct MemberLine {
    /// The announcement.
    pub announcement: Announcement,
    /// When this member read it.
    pub read: Option<OffsetDateTime>,
}

/// An announcement with what the office's list says beside it.
#[derive(Debug, Clone)]
pub struct OfficeLine {
    /// The announcement.
    pub announcement: Announcement,
    /// How many people have read it.
    pub readers: u64,
    /// How many establishments it was chosen for.
    pub chosen: u64,
}

/// Writes an announcement, or another text in the place of an earlier one. `chosen` counts only
/// for [`Audience::Chosen`].
pub async fn save(
    tx: &mut Tx,
    reviewer: &Reviewer,
    announcement: &Announcement,
    chosen: &[EstablishmentId],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let id = announcement.id.to_string();
    sqlx::query(
        "INSERT INTO announcements (id, title, body, audience, shown_from_ms, shown_until_ms, written_by,
                                    written_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET title = $2, body = $3, audience = $4, shown_from_ms = $5,
                shown_until_ms = $6, written_by = $7, written_ms = $8, withdrawn_ms = NULL",
    )
    .bind(id.as_str())
    .bind(announcement.title.as_str())
    .bind(announcement.body.as_str())
    .bind(announcement.audience.code())
    .bind(unix_ms(announcement.from))
    .bind(unix_ms(announcement.until))
    .bind(reviewer.id().to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write announcement"))?;
    // Who read the earlier text has not read this one.
    for statement in [
        "DELETE FROM announcement_targets WHERE announcement_id = $1",
        "DELETE FROM announcement_reads WHERE announcement_id = $1",
    ] {
        sqlx::query(statement)
            .bind(id.as_str())
            .execute(&mut **tx)
            .await
            .map_err(StoreError::doing("clear an announcement's lists"))?;
    }
    if announcement.audience == Audience::All {
        return Ok(());
    }
    for establishment in chosen {
        sqlx::query(
            "INSERT INTO announcement_targets (announcement_id, establishment_id) VALUES ($1, $2)",
        )
        .bind(id.as_str())
        .bind(establishment.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write whom an announcement is for"))?;
    }
    Ok(())
}

/// Takes an announcement back; says whether it was there to be taken.
pub async fn withdraw(
    tx: &mut Tx,
    _: &Reviewer,
    id: AnnouncementId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query("UPDATE announcements SET withdrawn_ms = $1 WHERE id = $2 AND withdrawn_ms IS NULL")
        .bind(unix_ms(now))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(StoreError::doing("withdraw announcement"))
}

/// The office's list, the latest first.
pub async fn list(db: &Db, _: &Reviewer) -> Result<Vec<OfficeLine>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS},
                (SELECT COUNT(*) FROM announcement_reads r WHERE r.announcement_id = a.id) AS readers,
                (SELECT COUNT(*) FROM announcement_targets t WHERE t.announcement_id = a.id) AS chosen
           FROM announcements a JOIN staff s ON s.id = a.written_by
          ORDER BY a.shown_from_ms DESC, a.id DESC LIMIT {LIST_LIMIT}"
    )))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list announcements"))?;
    rows.iter()
        .map(|row| {
            Ok(OfficeLine {
                announcement: read(row)?,
                readers: row.count("readers")?,
                chosen: row.count("chosen")?,
            })
        })
        .collect()
}

/// One announcement for the office, with those it was chosen for.
pub async fn find(
    db: &Db,
    _: &Reviewer,
    id: AnnouncementId,
) -> Result<Option<(Announcement, Vec<EstablishmentId>)>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM announcements a JOIN staff s ON s.id = a.written_by WHERE a.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find announcement"))?;
    let Some(row) = row else { return Ok(None) };
    let chosen =
        sqlx::query("SELECT establishment_id FROM announcement_targets WHERE announcement_id = $1")
            .bind(id.to_string())
            .fetch_all(db.pool())
            .await
            .map_err(StoreError::doing("list whom an announcement is for"))?;
    let chosen: Result<_, StoreError> = chosen
        .iter()
        .map(|row| row.parsed("establishment_id"))
        .collect();
    Ok(Some((read(&row)?, chosen?)))
}

/// What is shown to everybody now, before anybody signs in.
pub async fn for_everybody(db: &Db, now: OffsetDateTime) -> Result<Vec<Announcement>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM announcements a JOIN staff s ON s.id = a.written_by
          WHERE a.shown_until_ms > $1 AND a.shown_from_ms <= $1 AND a.withdrawn_ms IS NULL
            AND a.audience = 'all'
          ORDER BY a.shown_from_ms DESC, a.id DESC LIMIT {LIST_LIMIT}"
    )))
    .bind(unix_ms(now))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list announcements for everybody"))?;
    rows.iter().map(read).collect()
}

/// What is shown to the member now, the latest first.
pub async fn shown_to(
    db: &Db,
    member: &Member,
    now: OffsetDateTime,
) -> Result<Vec<MemberLine>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS}, r.read_ms
           FROM announcements a JOIN staff s ON s.id = a.written_by
           LEFT JOIN announcement_reads r ON r.announcement_id = a.id AND r.user_id = $3
          WHERE a.shown_until_ms > $1 AND a.shown_from_ms <= $1 AND a.withdrawn_ms IS NULL
            AND (a.audience = 'all' OR EXISTS (
                    SELECT 1 FROM announcement_targets t
                     WHERE t.announcement_id = a.id AND t.establishment_id = $2))
          ORDER BY a.shown_from_ms DESC, a.id DESC LIMIT {LIST_LIMIT}"
    )))
    .bind(unix_ms(now))
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list announcements for a member"))?;
    rows.iter()
        .map(|row| {
            Ok(MemberLine {
                announcement: read(row)?,
                read: row.moment_if("read_ms")?,
            })
        })
        .collect()
}

/// Writes that somebody read an announcement; once.
pub async fn mark_read(
    tx: &mut Tx,
    id: AnnouncementId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO announcement_reads (announcement_id, user_id, read_ms) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(id.to_string())
    .bind(user.to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("mark announcement read"))
}

fn read(row: &AnyRow) -> Result<Announcement, StoreError> {
    Ok(Announcement {
        id: row.parsed("id")?,
        title: row.text("title")?,
        body: row.text("body")?,
        audience: Audience::from_code(&row.text("audience")?)
            .ok_or(StoreError::Unreadable { what: "audience" })?,
        from: row.moment("shown_from_ms")?,
        until: row.moment("shown_until_ms")?,
        written_by: row.text("written_by")?,
        withdrawn: row.moment_if("withdrawn_ms")?,
    })
}
