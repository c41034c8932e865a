//! Web sessions in the database, and what each stands on.
//!
//! The cookie holds a random token; the database holds its hash. A member's web session
//! counts only inside the tunnel session it was made in (DESIGN, Security properties 4) and
//! only while everything it stands on is alive, which one query asks each time.

use protocol::{EstablishmentNumber, SessionId};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::{Duration, OffsetDateTime};

use super::forms::csrf_token;
use super::principals::{Member, Staff, Visitor};
use crate::app::App;
use crate::clock::{from_unix_ms, unix_ms};
use crate::db::rows::Columns as _;
use crate::db::{StoreError, Tx};
use crate::delegations::{Acting, EstablishmentKind};
use crate::establishments::Role;
use crate::establishments::store::number_from_row;
use crate::first_steps::Standing;
use crate::first_steps::terms::FIRST_VERSION;
use crate::ids::{StaffId, UserId};
use crate::keys::{MasterKey, Purpose, random_token};
use crate::permissions::Permissions;
use crate::staff::StaffRole;

/// Staff are signed out after this long without a request.
pub const STAFF_IDLE_LIMIT: Duration = Duration::minutes(60);
/// Staff sign in again after this long at the latest.
pub const STAFF_SESSION_LIMIT: Duration = Duration::hours(12);
/// How exactly the last request of staff is remembered, to spare writes.
const SEEN_STEP: Duration = Duration::minutes(1);

/// What a [`Visitor`]'s anti-forgery token is made from: the tunnel session.
pub(super) fn visit_secret(session: SessionId) -> String {
    format!("tunnel session {session}")
}

/// What a member's anti-forgery token is made from: the cookie and the client, so that a form
/// that was opened for one client does nothing for another.
pub(super) fn csrf_secret(token: &str, acting: Option<&Acting>) -> String {
    match acting {
        None => token.to_owned(),
        Some(acting) => format!("{token} for {}", acting.delegation),
    }
}

/// The columns that [`visitor_from_row`] reads.
const VISITOR_TABLES: &str = "tunnel_sessions t
      JOIN devices d ON d.id = t.device_id
      JOIN establishments e ON e.id = d.establishment_id";

/// Returns what the tunnel session stands on, if it is alive.
pub(crate) async fn find_visitor(
    app: &App,
    session: SessionId,
    now: OffsetDateTime,
) -> Result<Option<Visitor>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT t.id AS session, t.deadline_ms, d.id AS device, d.user_id AS device_user,
                e.id AS establishment, e.number, e.name AS establishment_name
           FROM {VISITOR_TABLES}
          WHERE t.id = $1 AND t.ended_ms IS NULL AND t.deadline_ms > $2
            AND d.revoked_ms IS NULL AND e.suspended_ms IS NULL"
    )))
    .bind(session.to_string())
    .bind(unix_ms(now))
    .fetch_optional(app.db.pool())
    .await
    .map_err(StoreError::doing("find tunnel session of a request"))?;
    row.map(|row| visitor_from_row(&row, csrf_token(app, &visit_secret(session))))
        .transpose()
}

/// Returns the user of a web session, if it was made in this tunnel session and everything
/// it stands on is alive.
pub(super) async fn find_member(
    app: &App,
    token: &str,
    session: SessionId,
    now: OffsetDateTime,
) -> Result<Option<Member>, StoreError> {
    let token_hash = app.keys.hash(Purpose::Token, token.as_bytes());
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT t.id AS session, t.deadline_ms, d.id AS device, d.user_id AS device_user,
                e.id AS establishment, e.number, e.name AS establishment_name,
                u.id AS account, u.user_id, u.name, u.password_is_initial_since_ms, m.role,
                m.permissions, w.factor_ms, e.kind, g.id AS delegation,
                g.permissions AS delegated, g.procedures, c.id AS client,
                c.number AS client_number, c.name AS client_name,
                (SELECT COUNT(*) FROM delegations x
                  WHERE x.delegate_id = e.id AND x.accepted_ms IS NOT NULL
                    AND x.ended_ms IS NULL AND (x.ends_ms IS NULL OR x.ends_ms > $3)) AS clients,
                u.terms_version, u.contacts_ms, u.introduced_ms, m.confirmed_ms,
                COALESCE((SELECT MAX(version) FROM terms), $4) AS terms_current
           FROM {VISITOR_TABLES}
           JOIN web_sessions w ON w.tunnel_session_id = t.id
           JOIN users u ON u.id = w.account_id
           JOIN memberships m ON m.user_id = u.id AND m.establishment_id = e.id
           LEFT JOIN delegations g ON g.id = w.acting_for AND g.delegate_id = e.id
                 AND g.accepted_ms IS NOT NULL AND g.ended_ms IS NULL
                 AND (g.ends_ms IS NULL OR g.ends_ms > $3)
           LEFT JOIN establishments c ON c.id = g.client_id AND c.suspended_ms IS NULL
          WHERE w.token_hash = $1 AND w.kind = 'member' AND w.ended_ms IS NULL
            AND t.id = $2 AND t.ended_ms IS NULL AND t.deadline_ms > $3
            AND d.revoked_ms IS NULL AND e.suspended_ms IS NULL
            AND u.disabled_ms IS NULL AND m.ended_ms IS NULL"
    )))
    .bind(token_hash.as_str())
    .bind(session.to_string())
    .bind(unix_ms(now))
    .bind(FIRST_VERSION)
    .fetch_optional(app.db.pool())
    .await
    .map_err(StoreError::doing("find member of a web session"))?;
    let Some(row) = row else { return Ok(None) };
    let text = |column| -> Result<String, StoreError> {
        row.try_get(column)
            .map_err(StoreError::doing("read member of a web session"))
    };
    let role = Role::from_word(&text("role")?).ok_or(StoreError::Unreadable { what: "role" })?;
    let words = |column| {
        Permissions::from_words(&text(column)?).ok_or(StoreError::Unreadable {
            what: "permissions",
        })
    };
    let own = match role {
        Role::Admin => Permissions::all(),
        Role::Added => words("permissions")?,
    };
    let home_kind = EstablishmentKind::from_word(&text("kind")?).ok_or(StoreError::Unreadable {
        what: "kind of establishment",
    })?;
    // A delegation that does not stand, and a client who left, are nobody to act for.
    let acting = match row.parsed_if("client")? {
        None => None,
        Some(client) => Some(Acting {
            delegation: row.parsed("delegation")?,
            client,
            number: number_from_row(row.number("client_number")?)?,
            name: text("client_name")?,
            procedures: text("procedures")?,
        }),
    };
    let permissions = match (&acting, home_kind) {
        (Some(_), _) => own.and(words("delegated")?),
        (None, EstablishmentKind::Employer) => own,
        (None, EstablishmentKind::Sharoushi) => Permissions::NONE,
    };
    let secret = csrf_secret(token, acting.as_ref());
    Ok(Some(Member {
        visit: visitor_from_row(&row, csrf_token(app, &secret))?,
        acting,
        home_kind,
        clients: row.count("clients")?,
        user: text("account")?
            .parse()
            .map_err(|_| StoreError::Unreadable { what: "user id" })?,
        user_id: text("user_id")?,
        name: text("name")?,
        role,
        permissions,
        own_permissions: own,
        token_hash,
        first_steps: Standing {
            password_is_initial: row.number_if("password_is_initial_since_ms")?.is_some(),
            terms_accepted: row.number("terms_version")?,
            terms_current: row.number("terms_current")?,
            establishment_confirmed: row.number_if("confirmed_ms")?.is_some(),
            profile_confirmed: row.number_if("contacts_ms")?.is_some(),
            introduced: row.number_if("introduced_ms")?.is_some(),
        },
        factor_shown: row.moment("factor_ms")?,
    }))
}

fn visitor_from_row(row: &AnyRow, csrf: String) -> Result<Visitor, StoreError> {
    fn id<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
        let text: String = row
            .try_get(column)
            .map_err(StoreError::doing("read tunnel session of a request"))?;
        text.parse()
            .map_err(|_| StoreError::Unreadable { what: column })
    }
    let number: i64 = row
        .try_get("number")
        .map_err(StoreError::doing("read establishment number"))?;
    let deadline: i64 = row
        .try_get("deadline_ms")
        .map_err(StoreError::doing("read deadline"))?;
    Ok(Visitor {
        session: id(row, "session")?,
        device: id(row, "device")?,
        device_user: id(row, "device_user")?,
        establishment: id(row, "establishment")?,
        establishment_number: u16::try_from(number)
            .ok()
            .and_then(|number| EstablishmentNumber::new(number).ok())
            .ok_or(StoreError::Unreadable {
                what: "establishment number",
            })?,
        establishment_name: row
            .try_get("establishment_name")
            .map_err(StoreError::doing("read establishment name"))?,
        deadline: from_unix_ms(deadline),
        csrf,
    })
}

/// Returns the staff member of a web session that is alive, and remembers the visit.
pub(super) async fn find_staff(
    app: &App,
    token: &str,
    now: OffsetDateTime,
) -> Result<Option<Staff>, StoreError> {
    let token_hash = app.keys.hash(Purpose::Token, token.as_bytes());
    let row = sqlx::query(
        "SELECT s.id, s.user_id, s.name, s.role, w.seen_ms, w.factor_ms,
                s.password_is_initial_since_ms
           FROM web_sessions w JOIN staff s ON s.id = w.account_id
          WHERE w.token_hash = $1 AND w.kind = 'staff' AND w.ended_ms IS NULL
            AND w.seen_ms > $2 AND w.created_ms > $3 AND s.disabled_ms IS NULL",
    )
    .bind(token_hash.as_str())
    .bind(unix_ms(now - STAFF_IDLE_LIMIT))
    .bind(unix_ms(now - STAFF_SESSION_LIMIT))
    .fetch_optional(app.db.pool())
    .await
    .map_err(StoreError::doing("find staff of a web session"))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<_, sqlx::Error> {
        Ok((
            row.try_get::<String, _>("id")?,
            row.try_get::<String, _>("user_id")?,
            row.try_get::<String, _>("name")?,
            row.try_get::<String, _>("role")?,
            row.try_get::<i64, _>("seen_ms")?,
        ))
    };
    let (id, user_id, name, role, seen_ms) =
        read().map_err(StoreError::doing("read staff of a web session"))?;
    if from_unix_ms(seen_ms) + SEEN_STEP < now {
        sqlx::query("UPDATE web_sessions SET seen_ms = $1 WHERE token_hash = $2")
            .bind(unix_ms(now))
            .bind(token_hash.as_str())
            .execute(app.db.pool())
            .await
            .map_err(StoreError::doing("remember staff's visit"))?;
    }
    Ok(Some(Staff {
        id: id
            .parse::<StaffId>()
            .map_err(|_| StoreError::Unreadable { what: "staff id" })?,
        user_id,
        name,
        role: StaffRole::from_word(&role).ok_or(StoreError::Unreadable { what: "staff role" })?,
        token_hash,
        factor_shown: row.moment("factor_ms")?,
        password_is_initial: row.number_if("password_is_initial_since_ms")?.is_some(),
        csrf: csrf_token(app, token),
    }))
}

/// Begins a member's web session inside a tunnel session; returns the cookie's token. Any
/// earlier web session of this tunnel session ends.
pub async fn begin_member(
    tx: &mut Tx,
    keys: &MasterKey,
    visitor: &Visitor,
    user: UserId,
    now: OffsetDateTime,
) -> Result<String, StoreError> {
    sqlx::query(
        "UPDATE web_sessions SET ended_ms = $1 WHERE tunnel_session_id = $2 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(visitor.session().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("end the web session before"))?;
    begin(
        tx,
        keys,
        "member",
        &user.to_string(),
        Some(visitor.session().to_string()),
        now,
    )
    .await
}

/// Begins a staff member's web session; returns the cookie's token.
pub async fn begin_staff(
    tx: &mut Tx,
    keys: &MasterKey,
    staff: StaffId,
    now: OffsetDateTime,
) -> Result<String, StoreError> {
    begin(tx, keys, "staff", &staff.to_string(), None, now).await
}

async fn begin(
    tx: &mut Tx,
    keys: &MasterKey,
    kind: &'static str,
    account: &str,
    tunnel_session: Option<String>,
    now: OffsetDateTime,
) -> Result<String, StoreError> {
    let token = random_token();
    sqlx::query(
        "INSERT INTO web_sessions (token_hash, kind, account_id, tunnel_session_id, created_ms, seen_ms, factor_ms)
         VALUES ($1, $2, $3, $4, $5, $5, $5)",
    )
    .bind(keys.hash(Purpose::Token, token.as_bytes()))
    .bind(kind)
    .bind(account)
    .bind(tunnel_session)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("begin web session"))?;
    Ok(token)
}

/// Writes down that a second factor was shown in a web session. `false` if it is over.
pub async fn note_factor(
    tx: &mut Tx,
    token_hash: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query("UPDATE web_sessions SET factor_ms = $1 WHERE token_hash = $2 AND ended_ms IS NULL")
        .bind(unix_ms(now))
        .bind(token_hash)
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(StoreError::doing("note a second factor"))
}

/// Ends one web session.
pub async fn end(tx: &mut Tx, token_hash: &str, now: OffsetDateTime) -> Result<(), StoreError> {
    sqlx::query("UPDATE web_sessions SET ended_ms = $1 WHERE token_hash = $2 AND ended_ms IS NULL")
        .bind(unix_ms(now))
        .bind(token_hash)
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("end web session"))?;
    Ok(())
}

/// Ends every web session of a user but one, after a change of password.
pub async fn end_others_of_user(
    tx: &mut Tx,
    user: UserId,
    keep_token_hash: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE web_sessions SET ended_ms = $1
          WHERE kind = 'member' AND account_id = $2 AND token_hash <> $3 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(user.to_string())
    .bind(keep_token_hash)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("end a user's other web sessions"))?;
    Ok(())
}

/// Ends every web session of a staff member but one, after a change of password.
pub async fn end_others_of_staff(
    tx: &mut Tx,
    staff: StaffId,
    keep_token_hash: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE web_sessions SET ended_ms = $1
          WHERE kind = 'staff' AND account_id = $2 AND token_hash <> $3 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(staff.to_string())
    .bind(keep_token_hash)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("end a staff member's other web sessions"))?;
    Ok(())
}
