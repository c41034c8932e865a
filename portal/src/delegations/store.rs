//! Delegations in the database.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{
    Basis, EndReason, EstablishmentKind, PROPOSAL_VALIDITY, Procedures, Proposal, Scope, Side,
};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::store::number_from_row;
use crate::ids::{DelegationId, EstablishmentId, UserId};
use crate::permissions::{Permission, Permissions};
use crate::tunnel_sessions;
use crate::web::principals::Member;

/// Lines of the inbox at most.
const INBOX_LIMIT: i64 = 100;

/// What stands now, of a delegation `g`; `$now` is put in by [`live`].
fn live(now: u8) -> String {
    format!(
        "g.accepted_ms IS NOT NULL AND g.ended_ms IS NULL
         AND (g.ends_ms IS NULL OR g.ends_ms > ${now})"
    )
}

/// A delegation or a proposal, for the pages of both sides and of the office.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its row.
    pub id: DelegationId,
    /// Who is represented: number, and name if somebody has it.
    pub client: (EstablishmentNumber, String),
    /// Who acts.
    pub delegate: (EstablishmentNumber, String),
    /// What it rests on.
    pub basis: Basis,
    /// What.
    pub scope: Scope,
    /// Who proposed it.
    pub proposed_by: Side,
    /// Until when a proposal waits.
    pub waits_until: OffsetDateTime,
    /// Since when it stands.
    pub accepted: Option<OffsetDateTime>,
    /// The client's consent, in a group: day and how it was given.
    pub consent: Option<String>,
}

/// What [`lock`] finds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locked {
    pub(super) client: Option<EstablishmentId>,
    pub(super) delegate: EstablishmentId,
    pub(super) proposed_by: Side,
    pub(super) accepted: bool,
}

/// How many a delegate has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) waiting: i64,
    pub(super) all: i64,
}

/// Closes what is over by time between two, so that it can be agreed on anew.
pub(super) async fn close_over(
    tx: &mut Tx,
    client: EstablishmentNumber,
    delegate: EstablishmentId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE delegations SET ended_ms = $1, end_reason = 'over'
          WHERE client_number = $2 AND delegate_id = $3 AND ended_ms IS NULL
            AND ((accepted_ms IS NULL AND waits_until_ms <= $1)
                 OR (ends_ms IS NOT NULL AND ends_ms <= $1))",
    )
    .bind(unix_ms(now))
    .bind(i64::from(client.as_u16()))
    .bind(delegate.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("close delegations that are over"))
}

pub(super) async fn count_of_delegate(
    tx: &mut Tx,
    delegate: EstablishmentId,
    now: OffsetDateTime,
) -> Result<Counts, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS everything, COUNT(CASE WHEN accepted_ms IS NULL
                                             AND waits_until_ms > $1 THEN 1 END) AS waiting
           FROM delegations WHERE delegate_id = $2 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(delegate.to_string())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count delegations"))?;
    Ok(Counts {
        waiting: row.number("waiting")?,
        all: row.number("everything")?,
    })
}

pub(super) async fn add(
    tx: &mut Tx,
    id: DelegationId,
    new: &Proposal,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO delegations (id, client_number, client_id, delegate_id, basis, permissions,
                                  procedures, ends_ms, proposed_side, proposed_by, proposed_ms,
                                  waits_until_ms)
         VALUES ($1, $2, $3, $4, 'agreement', $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(id.to_string())
    .bind(i64::from(new.client_number.as_u16()))
    .bind(new.client.map(|id| id.to_string()))
    .bind(new.delegate.to_string())
    .bind(new.scope.permissions.to_string())
    .bind(new.scope.procedures.to_words())
    .bind(new.scope.ends.map(unix_ms))
    .bind(new.side.as_str())
    .bind(format!("member/{user}"))
    .bind(unix_ms(now))
    .bind(unix_ms(now + PROPOSAL_VALIDITY))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write delegation"))
}

/// Writes a group's delegation down, which stands at once: the client consented on paper.
pub(super) async fn add_to_group(
    tx: &mut Tx,
    id: DelegationId,
    (client, number): (EstablishmentId, EstablishmentNumber),
    manager: EstablishmentId,
    by: &str,
    consent: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO delegations (id, client_number, client_id, delegate_id, basis, permissions,
                                  procedures, proposed_side, proposed_by, proposed_ms,
                                  waits_until_ms, accepted_ms, accepted_by, consent)
         VALUES ($1, $2, $3, $4, 'group', $5, '', 'client', $6, $7, $7, $7, $6, $8)",
    )
    .bind(id.to_string())
    .bind(i64::from(number.as_u16()))
    .bind(client.to_string())
    .bind(manager.to_string())
    .bind(Permissions::all().to_string())
    .bind(by.to_owned())
    .bind(unix_ms(now))
    .bind(consent.to_owned())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write a group's delegation"))
}

/// Accepts what the other side proposed, in time. Returns client and delegate.
pub(super) async fn accept(
    tx: &mut Tx,
    id: DelegationId,
    own: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<Option<(EstablishmentId, EstablishmentId)>, StoreError> {
    let row = sqlx::query(
        "UPDATE delegations SET accepted_ms = $1, accepted_by = $2
          WHERE id = $3 AND accepted_ms IS NULL AND ended_ms IS NULL AND waits_until_ms > $1
            AND ((proposed_side = 'client' AND delegate_id = $4)
                 OR (proposed_side = 'delegate' AND client_id = $4))
         RETURNING client_id, delegate_id",
    )
    .bind(unix_ms(now))
    .bind(format!("member/{user}"))
    .bind(id.to_string())
    .bind(own.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("accept delegation"))?;
    row.map(|row| Ok((row.parsed("client_id")?, row.parsed("delegate_id")?)))
        .transpose()
}

/// Finds what has not ended, of an establishment's or any, and keeps it locked.
pub(super) async fn lock(
    tx: &mut Tx,
    id: DelegationId,
    own: Option<EstablishmentId>,
) -> Result<Option<Locked>, StoreError> {
    let row = sqlx::query(
        "UPDATE delegations SET proposed_ms = proposed_ms
          WHERE id = $1 AND ended_ms IS NULL
            AND ($2 = '' OR delegate_id = $2 OR (client_id = $2 AND basis = 'agreement'))
         RETURNING client_id, delegate_id, proposed_side, accepted_ms",
    )
    .bind(id.to_string())
    .bind(own.map(|id| id.to_string()).unwrap_or_default())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("lock delegation"))?;
    row.map(|row| {
        Ok(Locked {
            client: row.parsed_if("client_id")?,
            delegate: row.parsed("delegate_id")?,
            proposed_by: side(&row)?,
            accepted: row.moment_if("accepted_ms")?.is_some(),
        })
    })
    .transpose()
}

pub(super) async fn end(
    tx: &mut Tx,
    id: DelegationId,
    by: &str,
    reason: EndReason,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE delegations SET ended_ms = $1, ended_by = $2, end_reason = $3
          WHERE id = $4 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(by.to_owned())
    .bind(reason.as_str())
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("end delegation"))
}

/// Has every open connection of those who act by a delegation cut. Their tunnels stay.
pub(super) async fn cut_pages(
    tx: &mut Tx,
    id: DelegationId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions SET pages_cut = pages_cut + 1, changed_ms = $1
          WHERE ended_ms IS NULL AND id IN
                (SELECT tunnel_session_id FROM web_sessions
                  WHERE acting_for = $2 AND ended_ms IS NULL AND tunnel_session_id IS NOT NULL)",
    )
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("cut the pages of delegates"))
}

/// Has the open connections of those cut whose delegation has come to its last moment. With
/// that they are at their own office again. Says whether there was anybody.
pub async fn cut_overdue(db: &Db, now: OffsetDateTime) -> Result<bool, StoreError> {
    const OVERDUE: &str = "acting_for IS NOT NULL AND ended_ms IS NULL
        AND acting_for IN (SELECT g.id FROM delegations g
                              WHERE g.ends_ms IS NOT NULL AND g.ends_ms <= $1)";
    let somebody = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT 1 AS found FROM web_sessions WHERE {OVERDUE} LIMIT 1"
    )))
    .bind(unix_ms(now))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("look for delegations that are over"))?;
    if somebody.is_none() {
        return Ok(false);
    }
    let mut tx = db.begin().await?;
    let left = sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE web_sessions SET acting_for = NULL WHERE {OVERDUE} RETURNING tunnel_session_id"
    )))
    .bind(unix_ms(now))
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::doing("end acting for a client"))?;
    cut_sessions(&mut tx, &left, now).await?;
    Db::commit(tx).await?;
    Ok(true)
}

/// Takes everybody who acts for a client to their own office again, and has cut what they do:
/// the client has left the service.
pub async fn leave_client(
    tx: &mut Tx,
    client: EstablishmentId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let left = sqlx::query(
        "UPDATE web_sessions SET acting_for = NULL
          WHERE ended_ms IS NULL
            AND acting_for IN (SELECT g.id FROM delegations g WHERE g.client_id = $1)
         RETURNING tunnel_session_id",
    )
    .bind(client.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("end acting for a client that left"))?;
    cut_sessions(tx, &left, now).await
}

async fn cut_sessions(
    tx: &mut Tx,
    web_sessions: &[AnyRow],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    for row in web_sessions {
        if let Some(session) = row.text_if("tunnel_session_id")? {
            tunnel_sessions::store::cut_pages(tx, &session, now).await?;
        }
    }
    Ok(())
}

/// Says whether what a member acts by stands, and keeps it standing until the transaction
/// ends. Somebody who acts for his own establishment stands.
pub async fn still_stands(
    tx: &mut Tx,
    member: &Member,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let Some(acting) = member.acting() else {
        return Ok(true);
    };
    sqlx::query(
        "UPDATE delegations SET proposed_ms = proposed_ms
          WHERE id = $1 AND accepted_ms IS NOT NULL AND ended_ms IS NULL
            AND (ends_ms IS NULL OR ends_ms > $2)",
    )
    .bind(acting.delegation.to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("ask whether a delegation stands"))
}

/// Takes up acting for a client, or leaves it (`None`), in a web session. `false` if the
/// delegation does not stand.
pub(super) async fn act(
    tx: &mut Tx,
    member: &Member,
    delegation: Option<DelegationId>,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE web_sessions SET acting_for = CASE WHEN $1 = '' THEN NULL ELSE $1 END
          WHERE token_hash = $2 AND ended_ms IS NULL
            AND ($1 = '' OR EXISTS (SELECT 1 FROM delegations g
                                      JOIN establishments c ON c.id = g.client_id
                                     WHERE g.id = $1 AND g.delegate_id = $3 AND {}
                                       AND c.suspended_ms IS NULL))",
        live(4)
    )))
    .bind(delegation.map(|id| id.to_string()).unwrap_or_default())
    .bind(member.token_hash().to_owned())
    .bind(member.home_establishment().to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("act for a client"))
}

const LINE: &str = "SELECT g.id, g.client_number, g.basis, g.permissions, g.procedures, g.ends_ms,
        g.proposed_side, g.waits_until_ms, g.accepted_ms, g.consent, c.name AS client_name,
        d.number AS delegate_number, d.name AS delegate_name
   FROM delegations g
   JOIN establishments d ON d.id = g.delegate_id
   LEFT JOIN establishments c ON c.id = g.client_id
  WHERE g.ended_ms IS NULL AND (g.accepted_ms IS NOT NULL OR g.waits_until_ms > $1)
    AND (g.ends_ms IS NULL OR g.ends_ms > $1)";

/// What an establishment has agreed on or is asked, as one of the sides. To a delegate the
/// name of a client who has not accepted is not told.
pub async fn of(
    db: &Db,
    establishment: EstablishmentId,
    side: Side,
    now: OffsetDateTime,
) -> Result<Vec<Line>, StoreError> {
    let column = match side {
        Side::Client => "g.client_id",
        Side::Delegate => "g.delegate_id",
    };
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "{LINE} AND {column} = $2 ORDER BY g.client_number, g.id LIMIT 1000"
    )))
    .bind(unix_ms(now))
    .bind(establishment.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list delegations"))?;
    let mut lines = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    for line in &mut lines {
        if line.accepted.is_none() && side == Side::Delegate && line.proposed_by == side {
            line.client.1 = String::new();
        }
    }
    Ok(lines)
}

/// The groups, by their managing establishment.
pub async fn groups(db: &Db, now: OffsetDateTime) -> Result<Vec<Line>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "{LINE} AND g.basis = 'group' ORDER BY d.number, g.client_number LIMIT 10000"
    )))
    .bind(unix_ms(now))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list groups"))?;
    rows.iter().map(read).collect()
}

/// A client on the desk of a delegate.
#[derive(Debug, Clone)]
pub struct Client {
    /// By which delegation.
    pub delegation: DelegationId,
    /// Its number.
    pub number: EstablishmentNumber,
    /// Its name.
    pub name: String,
    /// What may be done for it.
    pub scope: Scope,
    /// Notices that nobody has fetched.
    pub unread: u64,
    /// Filings that came back and wait for a corrected one.
    pub returned: u64,
    /// Filings that the fund has not decided.
    pub open: u64,
}

/// The clients that the member's establishment acts for now, with how things stand there as far
/// as the member may see it.
pub async fn desk(
    db: &Db,
    member: &Member,
    now: OffsetDateTime,
) -> Result<Vec<Client>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT g.id, g.permissions, g.procedures, g.ends_ms, c.number, c.name,
                CASE WHEN g.permissions LIKE $5 THEN
                  (SELECT COUNT(*) FROM notices n WHERE n.establishment_id = c.id
                      AND n.recalled_ms IS NULL AND n.first_fetched_ms IS NULL) ELSE 0 END AS unread,
                {returned} AS returned_count, {open} AS open_count
           FROM delegations g JOIN establishments c ON c.id = g.client_id
          WHERE g.delegate_id = $1 AND {live} AND c.suspended_ms IS NULL
          ORDER BY c.number LIMIT 1000",
        live = live(2),
        returned = filings_where(&format!("f.state = 'returned' AND {NOT_REPLACED}")),
        open = filings_where("f.state IN ('received', 'in_review')"),
    )))
    .bind(member.home_establishment().to_string())
    .bind(unix_ms(now))
    .bind(wanted(member, Permission::History))
    .bind(wanted(member, Permission::File))
    .bind(wanted(member, Permission::Fetch))
    .bind(member.user().to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list clients"))?;
    rows.iter()
        .map(|row| {
            Ok(Client {
                delegation: row.parsed("id")?,
                number: number_from_row(row.number("number")?)?,
                name: row.text("name")?,
                scope: scope(row)?,
                unread: row.count("unread")?,
                returned: row.count("returned_count")?,
                open: row.count("open_count")?,
            })
        })
        .collect()
}

const NOT_REPLACED: &str = "NOT EXISTS (SELECT 1 FROM filings r WHERE r.replaces_id = f.id
        AND r.state <> 'withdrawn')";

/// Filings of a client `c` that a delegation `g` covers and the member may see.
fn filings_where(condition: &str) -> String {
    format!(
        "(SELECT COUNT(*) FROM filings f WHERE f.establishment_id = c.id AND {condition}
             AND {SEEN} AND {COVERED})"
    )
}

/// Whether the member sees a filing `f` by a delegation `g`: everybody's with the permission for
/// the history ($3), with that for filing ($4) what he ($6) handed in himself.
const SEEN: &str = "(g.permissions LIKE $3 OR (g.permissions LIKE $4
        AND EXISTS (SELECT 1 FROM submissions own
                     WHERE own.id = f.submission_id AND own.user_id = $6)))";

/// What a delegation's permissions must be like, so that the member has this one by it: he has
/// no more at a client's than at home.
fn wanted(member: &Member, permission: Permission) -> String {
    match member.at_home(permission) {
        true => format!("%{}%", permission.as_str()),
        false => "-".to_owned(),
    }
}

const COVERED: &str = "(g.procedures = '' OR EXISTS (SELECT 1 FROM filing_kinds k
        WHERE k.code = f.kind AND g.procedures LIKE '%,' || k.procedure_group || ',%'))";

/// Something on the desk that waits for somebody.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// By which delegation.
    pub delegation: DelegationId,
    /// Whose.
    pub client: String,
    /// What it is called.
    pub title: String,
    /// Since when.
    pub since: OffsetDateTime,
    /// Its page, once one acts for the client.
    pub path: String,
    /// Whether it is a notice; else a filing that came back.
    pub is_notice: bool,
}

/// The inbox of all clients: notices that nobody fetched, filings that came back.
pub async fn inbox(
    db: &Db,
    member: &Member,
    now: OffsetDateTime,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT g.id AS delegation, c.name AS client, n.title AS title, n.issued_ms AS since_ms,
                n.id AS subject, 'notice' AS kind
           FROM delegations g JOIN establishments c ON c.id = g.client_id
           JOIN notices n ON n.establishment_id = c.id
          WHERE g.delegate_id = $1 AND {live} AND c.suspended_ms IS NULL
            AND g.permissions LIKE $5
            AND n.recalled_ms IS NULL AND n.first_fetched_ms IS NULL
         UNION ALL
         SELECT g.id, c.name, f.name, f.changed_ms, f.id, 'filing'
           FROM delegations g JOIN establishments c ON c.id = g.client_id
           JOIN filings f ON f.establishment_id = c.id
          WHERE g.delegate_id = $1 AND {live} AND c.suspended_ms IS NULL
            AND {SEEN} AND f.state = 'returned' AND {NOT_REPLACED} AND {COVERED}
          ORDER BY since_ms LIMIT $7",
        live = live(2)
    )))
    .bind(member.home_establishment().to_string())
    .bind(unix_ms(now))
    .bind(wanted(member, Permission::History))
    .bind(wanted(member, Permission::File))
    .bind(wanted(member, Permission::Fetch))
    .bind(member.user().to_string())
    .bind(INBOX_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read the inbox of all clients"))?;
    rows.iter()
        .map(|row| {
            let is_notice = row.text("kind")? == "notice";
            let folder = if is_notice { "notices" } else { "filings" };
            Ok(Waiting {
                delegation: row.parsed("delegation")?,
                client: row.text("client")?,
                title: row.text("title")?,
                since: row.moment("since_ms")?,
                path: format!("/{folder}/{}", row.text("subject")?),
                is_notice,
            })
        })
        .collect()
}

/// Makes a sharoushi's office of an establishment that has exchanged nothing yet.
pub(super) async fn make_office(
    tx: &mut Tx,
    number: EstablishmentNumber,
) -> Result<Option<EstablishmentId>, StoreError> {
    let row = sqlx::query(
        "UPDATE establishments SET kind = 'sharoushi'
          WHERE number = $1 AND kind = 'employer' AND suspended_ms IS NULL
            AND NOT EXISTS (SELECT 1 FROM submissions s WHERE s.establishment_id = establishments.id)
            AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.establishment_id = establishments.id)
            AND NOT EXISTS (SELECT 1 FROM delegations g WHERE g.ended_ms IS NULL
                               AND (g.client_id = establishments.id
                                    OR g.delegate_id = establishments.id))
         RETURNING id",
    )
    .bind(i64::from(number.as_u16()))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("make an office of an establishment"))?;
    row.map(|row| row.parsed("id")).transpose()
}

/// An establishment as one side of a delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Its identifier.
    pub id: EstablishmentId,
    /// Its number.
    pub number: EstablishmentNumber,
    /// Its name.
    pub name: String,
}

/// Who has this number, if it is of this kind and in use.
pub async fn party(
    db: &Db,
    kind: EstablishmentKind,
    number: EstablishmentNumber,
) -> Result<Option<Party>, StoreError> {
    let row = sqlx::query(
        "SELECT id, number, name FROM establishments
          WHERE number = $1 AND kind = $2 AND suspended_ms IS NULL",
    )
    .bind(i64::from(number.as_u16()))
    .bind(kind.as_str())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a party"))?;
    row.as_ref().map(read_party).transpose()
}

/// The sharoushi's office that a user ID belongs to.
pub async fn office_of_user(db: &Db, user_id: &str) -> Result<Option<Party>, StoreError> {
    let row = sqlx::query(
        "SELECT e.id, e.number, e.name
           FROM users u JOIN memberships m ON m.user_id = u.id
           JOIN establishments e ON e.id = m.establishment_id
          WHERE u.user_id = $1 AND u.disabled_ms IS NULL AND m.ended_ms IS NULL
            AND e.kind = 'sharoushi' AND e.suspended_ms IS NULL
          ORDER BY e.number LIMIT 1",
    )
    .bind(user_id.to_owned())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a user's office"))?;
    row.as_ref().map(read_party).transpose()
}

/// All sharoushi's offices.
pub async fn offices(db: &Db) -> Result<Vec<Party>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, number, name FROM establishments WHERE kind = 'sharoushi'
          ORDER BY number LIMIT 10000",
    )
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list offices"))?;
    rows.iter().map(read_party).collect()
}

fn read_party(row: &AnyRow) -> Result<Party, StoreError> {
    Ok(Party {
        id: row.parsed("id")?,
        number: number_from_row(row.number("number")?)?,
        name: row.text("name")?,
    })
}

fn side(row: &AnyRow) -> Result<Side, StoreError> {
    Side::from_word(&row.text("proposed_side")?).ok_or(StoreError::Unreadable {
        what: "side of a delegation",
    })
}

fn scope(row: &AnyRow) -> Result<Scope, StoreError> {
    let unreadable = || StoreError::Unreadable {
        what: "scope of a delegation",
    };
    Ok(Scope {
        permissions: Permissions::from_words(&row.text("permissions")?).ok_or_else(unreadable)?,
        procedures: Procedures::from_words(&row.text("procedures")?).ok_or_else(unreadable)?,
        ends: row.moment_if("ends_ms")?,
    })
}

fn read(row: &AnyRow) -> Result<Line, StoreError> {
    Ok(Line {
        id: row.parsed("id")?,
        client: (
            number_from_row(row.number("client_number")?)?,
            row.text_if("client_name")?.unwrap_or_default(),
        ),
        delegate: (
            number_from_row(row.number("delegate_number")?)?,
            row.text("delegate_name")?,
        ),
        basis: Basis::from_word(&row.text("basis")?).ok_or(StoreError::Unreadable {
            what: "basis of a delegation",
        })?,
        scope: scope(row)?,
        proposed_by: side(row)?,
        waits_until: row.moment("waits_until_ms")?,
        accepted: row.moment_if("accepted_ms")?,
        consent: row.text_if("consent")?,
    })
}
