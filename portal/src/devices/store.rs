//! Enrolments and devices in the database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::{Bytes32, DeviceId, EnrolmentId, EstablishmentNumber, Generation};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use crate::clock::{from_unix_ms, unix_ms};
use crate::db::{Db, StoreError, Tx};
use crate::establishments::store::number_from_row;
use crate::ids::{EstablishmentId, UserId};

/// Rows that a list for a page holds at most.
const LIST_LIMIT: i64 = 1_000;

/// A registration code that was just used up.
#[derive(Debug)]
pub(super) struct UsedCode {
    pub(super) id: String,
    pub(super) establishment: EstablishmentId,
    pub(super) user: UserId,
}

/// A request to write down.
pub(super) struct NewEnrolment<'a> {
    pub(super) id: EnrolmentId,
    pub(super) code: &'a UsedCode,
    pub(super) device_name: &'a str,
    pub(super) os: &'a str,
    pub(super) agent_version: &'a str,
    pub(super) certificate_request: String,
    pub(super) public_key: String,
    pub(super) matching_code: String,
    pub(super) poll_token_hash: String,
}

/// What staff decided.
#[derive(Debug, Clone, Copy)]
pub(super) enum Decision {
    Approved(DeviceId),
    Refused,
}

/// A request that was just decided.
pub(super) struct Decided {
    pub(super) establishment: EstablishmentId,
    pub(super) user: UserId,
    pub(super) device_name: String,
    pub(super) os: String,
    pub(super) certificate_request: Vec<u8>,
}

/// A device to write down.
pub(super) struct NewDevice<'a> {
    pub(super) id: DeviceId,
    pub(super) enrolment: &'a Decided,
    pub(super) public_key: String,
    pub(super) approved_by: String,
}

/// What a poll finds.
pub(super) struct Polled {
    pub(super) poll_token_hash: String,
    pub(super) outcome: Outcome,
}

/// What became of a request.
pub(super) enum Outcome {
    Pending,
    Refused,
    Approved(ApprovedDevice),
}

/// What an approved PC is told.
pub(super) struct ApprovedDevice {
    pub(super) id: DeviceId,
    pub(super) certificate: Vec<u8>,
    pub(super) establishment_number: EstablishmentNumber,
    pub(super) establishment_name: String,
}

/// A request that waits for staff, as the office page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEnrolment {
    /// Names it.
    pub id: EnrolmentId,
    /// Whose PC.
    pub establishment: EstablishmentId,
    /// The establishment's number.
    pub establishment_number: EstablishmentNumber,
    /// The establishment's name.
    pub establishment_name: String,
    /// The user the registration code was issued for.
    pub user: UserId,
    /// His name.
    pub user_name: String,
    /// The PC's name, as it says itself.
    pub device_name: String,
    /// Its operating system, as it says itself.
    pub os: String,
    /// The agent's version.
    pub agent_version: String,
    /// What staff compare with the clerk on the telephone.
    pub matching_code: String,
    /// When it was made.
    pub requested: OffsetDateTime,
}

/// A device, as pages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Names it.
    pub id: DeviceId,
    /// Whose PC.
    pub establishment: EstablishmentId,
    /// Its user.
    pub user: UserId,
    /// The user's name.
    pub user_name: String,
    /// The PC's name.
    pub name: String,
    /// Its operating system.
    pub os: String,
    /// When it was approved.
    pub approved: OffsetDateTime,
    /// When it last asked for a session.
    pub seen: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked: Option<OffsetDateTime>,
}

/// A device that asks for something, by its certificate.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Names it.
    pub id: DeviceId,
    /// Its establishment.
    pub establishment: EstablishmentId,
    /// Its user.
    pub user: UserId,
    /// Its public key (SubjectPublicKeyInfo, DER).
    pub public_key: Vec<u8>,
    /// Whether it may use the service.
    pub standing: Standing,
    /// When the certificate that it showed expires, Unix milliseconds.
    pub certificate_expires_ms: i64,
}

/// One of a device's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issued {
    /// DER.
    pub(super) certificate: Vec<u8>,
    pub(super) expires_ms: i64,
}

/// Whether a device may use the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Device, user, membership and establishment are all in use.
    InUse,
    /// One of them is not.
    OutOfUse,
}

/// Uses a code up, if it is good for this establishment. One of any number of parallel uses
/// succeeds.
pub(super) async fn use_code(
    tx: &mut Tx,
    code_hash: &str,
    establishment: EstablishmentNumber,
    now: OffsetDateTime,
) -> Result<Option<UsedCode>, StoreError> {
    let row = sqlx::query(
        "UPDATE registration_codes SET used_ms = $1
          WHERE code_hash = $2 AND used_ms IS NULL AND revoked_ms IS NULL AND expires_ms > $3
            AND establishment_id IN (SELECT id FROM establishments
                                      WHERE number = $4 AND suspended_ms IS NULL)
            AND EXISTS (SELECT 1 FROM memberships JOIN users ON users.id = memberships.user_id
                         WHERE memberships.user_id = registration_codes.user_id
                           AND memberships.establishment_id = registration_codes.establishment_id
                           AND memberships.ended_ms IS NULL AND users.disabled_ms IS NULL)
         RETURNING id, establishment_id, user_id",
    )
    .bind(unix_ms(now))
    .bind(code_hash)
    .bind(unix_ms(now))
    .bind(i64::from(establishment.as_u16()))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("use registration code"))?;
    row.map(|row| {
        Ok(UsedCode {
            id: text(&row, "id")?,
            establishment: id(&row, "establishment_id")?,
            user: id(&row, "user_id")?,
        })
    })
    .transpose()
}

/// For a request that is repeated because its answer got lost: same code, same key, still
/// open. It gets a new poll token, and the old one is good for nothing.
pub(super) async fn renew_poll_token(
    tx: &mut Tx,
    code_hash: &str,
    establishment: EstablishmentNumber,
    public_key: &str,
    poll_token_hash: &str,
) -> Result<Option<EnrolmentId>, StoreError> {
    let row = sqlx::query(
        "UPDATE enrolments SET poll_token_hash = $1
          WHERE public_key = $2 AND decided_ms IS NULL
            AND registration_code_id IN (SELECT id FROM registration_codes WHERE code_hash = $3)
            AND establishment_id IN (SELECT id FROM establishments WHERE number = $4)
         RETURNING id",
    )
    .bind(poll_token_hash)
    .bind(public_key)
    .bind(code_hash)
    .bind(i64::from(establishment.as_u16()))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("renew poll token"))?;
    row.map(|row| id(&row, "id")).transpose()
}

/// Makes requests of one establishment take turns, and returns how many devices it may have.
pub(super) async fn lock_establishment(
    tx: &mut Tx,
    establishment: EstablishmentId,
) -> Result<i64, StoreError> {
    sqlx::query(
        "UPDATE establishments SET device_limit = device_limit WHERE id = $1
         RETURNING device_limit",
    )
    .bind(establishment.to_string())
    .fetch_one(&mut **tx)
    .await
    .and_then(|row| row.try_get("device_limit"))
    .map_err(StoreError::doing("lock establishment"))
}

/// How many devices an establishment has, or may yet get from requests that wait.
pub(super) async fn count(tx: &mut Tx, establishment: EstablishmentId) -> Result<i64, StoreError> {
    let counted = |sql| sqlx::query(sql).bind(establishment.to_string());
    let devices = counted(
        "SELECT COUNT(*) AS n FROM devices WHERE establishment_id = $1 AND revoked_ms IS NULL",
    )
    .fetch_one(&mut **tx)
    .await
    .and_then(|row| row.try_get::<i64, _>("n"))
    .map_err(StoreError::doing("count devices"))?;
    let waiting = counted(
        "SELECT COUNT(*) AS n FROM enrolments WHERE establishment_id = $1 AND decided_ms IS NULL",
    )
    .fetch_one(&mut **tx)
    .await
    .and_then(|row| row.try_get::<i64, _>("n"))
    .map_err(StoreError::doing("count enrolments"))?;
    Ok(devices + waiting)
}

pub(super) async fn add_enrolment(
    tx: &mut Tx,
    new: &NewEnrolment<'_>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO enrolments (id, establishment_id, user_id, registration_code_id, device_name,
                                 os, agent_version, certificate_request, public_key,
                                 matching_code, poll_token_hash, requested_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(new.id.to_string())
    .bind(new.code.establishment.to_string())
    .bind(new.code.user.to_string())
    .bind(new.code.id.as_str())
    .bind(new.device_name)
    .bind(new.os)
    .bind(new.agent_version)
    .bind(new.certificate_request.as_str())
    .bind(new.public_key.as_str())
    .bind(new.matching_code.as_str())
    .bind(new.poll_token_hash.as_str())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write enrolment"))
}

/// Decides a request, if nobody has yet.
pub(super) async fn decide(
    tx: &mut Tx,
    enrolment: EnrolmentId,
    decision: Decision,
    by: &str,
    now: OffsetDateTime,
) -> Result<Option<Decided>, StoreError> {
    let (word, device) = match decision {
        Decision::Approved(device) => ("approved", Some(device.to_string())),
        Decision::Refused => ("refused", None),
    };
    let row = sqlx::query(
        "UPDATE enrolments SET decided_ms = $1, decided_by = $2, decision = $3, device_id = $4
          WHERE id = $5 AND decided_ms IS NULL
         RETURNING establishment_id, user_id, device_name, os, certificate_request",
    )
    .bind(unix_ms(now))
    .bind(by)
    .bind(word)
    .bind(device)
    .bind(enrolment.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("decide enrolment"))?;
    row.map(|row| {
        Ok(Decided {
            establishment: id(&row, "establishment_id")?,
            user: id(&row, "user_id")?,
            device_name: text(&row, "device_name")?,
            os: text(&row, "os")?,
            certificate_request: bytes(&row, "certificate_request")?,
        })
    })
    .transpose()
}

pub(super) async fn add_device(
    tx: &mut Tx,
    new: &NewDevice<'_>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO devices (id, establishment_id, user_id, name, os, public_key,
                              grants_given, approved_ms, approved_by)
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)",
    )
    .bind(new.id.to_string())
    .bind(new.enrolment.establishment.to_string())
    .bind(new.enrolment.user.to_string())
    .bind(new.enrolment.device_name.as_str())
    .bind(new.enrolment.os.as_str())
    .bind(new.public_key.as_str())
    .bind(unix_ms(now))
    .bind(new.approved_by.as_str())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write device"))
}

pub(super) async fn add_certificate(
    tx: &mut Tx,
    device: DeviceId,
    sha256: &Bytes32,
    issued: &Issued,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO device_certificates (sha256, device_id, certificate, issued_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(sha256.to_string())
    .bind(device.to_string())
    .bind(STANDARD.encode(&issued.certificate))
    .bind(unix_ms(now))
    .bind(issued.expires_ms)
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write device certificate"))
}

/// The certificate of a device that lasts longest.
pub(super) async fn newest_certificate(
    tx: &mut Tx,
    device: DeviceId,
) -> Result<Option<Issued>, StoreError> {
    let row = sqlx::query(
        "SELECT certificate, expires_ms FROM device_certificates
          WHERE device_id = $1 ORDER BY expires_ms DESC LIMIT 1",
    )
    .bind(device.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find device certificate"))?;
    row.map(|row| {
        Ok(Issued {
            certificate: bytes(&row, "certificate")?,
            expires_ms: row
                .try_get("expires_ms")
                .map_err(StoreError::doing("read device certificate"))?,
        })
    })
    .transpose()
}

/// Revokes a device, if nobody has yet.
pub(super) async fn revoke(
    tx: &mut Tx,
    device: DeviceId,
    by: &str,
    reason: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE devices SET revoked_ms = $1, revoked_by = $2, revoke_reason = $3
          WHERE id = $4 AND revoked_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(by)
    .bind(reason)
    .bind(device.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("revoke device"))
}

pub(super) async fn poll(db: &Db, enrolment: EnrolmentId) -> Result<Option<Polled>, StoreError> {
    let row = sqlx::query(
        "SELECT enrolments.poll_token_hash, enrolments.decision, enrolments.device_id,
                device_certificates.certificate, establishments.number, establishments.name
           FROM enrolments
           JOIN establishments ON establishments.id = enrolments.establishment_id
           LEFT JOIN device_certificates ON device_certificates.device_id = enrolments.device_id
          WHERE enrolments.id = $1 ORDER BY device_certificates.expires_ms DESC LIMIT 1",
    )
    .bind(enrolment.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find enrolment"))?;
    let Some(row) = row else { return Ok(None) };
    let doing = "read enrolment row";
    let decision: Option<String> = row.try_get("decision").map_err(StoreError::doing(doing))?;
    let outcome = match decision.as_deref() {
        None => Outcome::Pending,
        Some("refused") => Outcome::Refused,
        Some("approved") => Outcome::Approved(ApprovedDevice {
            id: id(&row, "device_id")?,
            certificate: bytes(&row, "certificate")?,
            establishment_number: number(&row)?,
            establishment_name: text(&row, "name")?,
        }),
        Some(_) => return Err(StoreError::Unreadable { what: "decision" }),
    };
    Ok(Some(Polled {
        poll_token_hash: text(&row, "poll_token_hash")?,
        outcome,
    }))
}

/// The requests that wait for staff, the oldest first.
pub async fn pending(db: &Db) -> Result<Vec<PendingEnrolment>, StoreError> {
    sqlx::query(
        "SELECT enrolments.id, enrolments.establishment_id, establishments.number,
                establishments.name AS establishment_name, enrolments.user_id,
                users.name AS user_name, enrolments.device_name, enrolments.os,
                enrolments.agent_version, enrolments.matching_code, enrolments.requested_ms
           FROM enrolments
           JOIN establishments ON establishments.id = enrolments.establishment_id
           JOIN users ON users.id = enrolments.user_id
          WHERE enrolments.decided_ms IS NULL ORDER BY enrolments.requested_ms LIMIT $1",
    )
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list enrolments"))?
    .iter()
    .map(|row| {
        Ok(PendingEnrolment {
            id: id(row, "id")?,
            establishment: id(row, "establishment_id")?,
            establishment_number: number(row)?,
            establishment_name: text(row, "establishment_name")?,
            user: id(row, "user_id")?,
            user_name: text(row, "user_name")?,
            device_name: text(row, "device_name")?,
            os: text(row, "os")?,
            agent_version: text(row, "agent_version")?,
            matching_code: text(row, "matching_code")?,
            requested: from_unix_ms(
                row.try_get("requested_ms")
                    .map_err(StoreError::doing("read enrolment row"))?,
            ),
        })
    })
    .collect()
}

/// An establishment's devices, those in use first, revoked ones too.
pub async fn of_establishment(
    db: &Db,
    establishment: EstablishmentId,
) -> Result<Vec<Device>, StoreError> {
    sqlx::query(
        "SELECT devices.id, devices.establishment_id, devices.user_id, users.name AS user_name,
                devices.name, devices.os, devices.approved_ms, devices.seen_ms,
                devices.revoked_ms
           FROM devices JOIN users ON users.id = devices.user_id
          WHERE devices.establishment_id = $1
          ORDER BY CASE WHEN devices.revoked_ms IS NULL THEN 0 ELSE 1 END, devices.approved_ms
          LIMIT $2",
    )
    .bind(establishment.to_string())
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list devices"))?
    .iter()
    .map(|row| {
        let doing = "read device row";
        let at = |column| -> Result<Option<i64>, StoreError> {
            row.try_get(column).map_err(StoreError::doing(doing))
        };
        Ok(Device {
            id: id(row, "id")?,
            establishment: id(row, "establishment_id")?,
            user: id(row, "user_id")?,
            user_name: text(row, "user_name")?,
            name: text(row, "name")?,
            os: text(row, "os")?,
            approved: from_unix_ms(
                row.try_get("approved_ms")
                    .map_err(StoreError::doing(doing))?,
            ),
            seen: at("seen_ms")?.map(from_unix_ms),
            revoked: at("revoked_ms")?.map(from_unix_ms),
        })
    })
    .collect()
}

/// Finds the device that a certificate was issued to.
pub async fn find_by_certificate(
    tx: &mut sqlx::AnyConnection,
    certificate_sha256: &Bytes32,
) -> Result<Option<Caller>, StoreError> {
    let row = sqlx::query(
        "SELECT devices.id, devices.establishment_id, devices.user_id, devices.public_key,
                device_certificates.expires_ms,
                CASE WHEN devices.revoked_ms IS NULL AND users.disabled_ms IS NULL
                      AND establishments.suspended_ms IS NULL AND memberships.id IS NOT NULL
                     THEN 'in_use' ELSE 'out_of_use' END AS standing
           FROM device_certificates
           JOIN devices ON devices.id = device_certificates.device_id
           JOIN users ON users.id = devices.user_id
           JOIN establishments ON establishments.id = devices.establishment_id
           LEFT JOIN memberships ON memberships.user_id = devices.user_id
                AND memberships.establishment_id = devices.establishment_id
                AND memberships.ended_ms IS NULL
          WHERE device_certificates.sha256 = $1",
    )
    .bind(certificate_sha256.to_string())
    .fetch_optional(tx)
    .await
    .map_err(StoreError::doing("find device"))?;
    row.map(|row| {
        Ok(Caller {
            id: id(&row, "id")?,
            establishment: id(&row, "establishment_id")?,
            user: id(&row, "user_id")?,
            public_key: bytes(&row, "public_key")?,
            standing: match text(&row, "standing")?.as_str() {
                "in_use" => Standing::InUse,
                _ => Standing::OutOfUse,
            },
            certificate_expires_ms: row
                .try_get("expires_ms")
                .map_err(StoreError::doing("read enrolment or device row"))?,
        })
    })
    .transpose()
}

/// Makes grants and revocations of one device take turns, notes that it was seen, and counts
/// the grant that it is about to get. `None` if the device is not registered any more.
pub async fn lock_for_grant(
    tx: &mut Tx,
    device: DeviceId,
    now: OffsetDateTime,
) -> Result<Option<Generation>, StoreError> {
    let row = sqlx::query(
        "UPDATE devices SET seen_ms = $1, grants_given = grants_given + 1
          WHERE id = $2 AND revoked_ms IS NULL
         RETURNING grants_given",
    )
    .bind(unix_ms(now))
    .bind(device.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("lock device"))?;
    let Some(row) = row else { return Ok(None) };
    let count: i64 = row
        .try_get("grants_given")
        .map_err(StoreError::doing("read device row"))?;
    u32::try_from(count)
        .map(|count| Some(Generation::new(count)))
        .map_err(|_| StoreError::Unreadable {
            what: "count of grants",
        })
}

/// Makes requests of one device take turns. Says whether it is still registered.
pub(super) async fn lock(tx: &mut Tx, device: DeviceId) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE devices SET grants_given = grants_given WHERE id = $1 AND revoked_ms IS NULL",
    )
    .bind(device.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("lock device"))
}

fn text(row: &AnyRow, column: &'static str) -> Result<String, StoreError> {
    row.try_get(column)
        .map_err(StoreError::doing("read enrolment or device row"))
}

fn id<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
    text(row, column)?
        .parse()
        .map_err(|_| StoreError::Unreadable { what: column })
}

fn bytes(row: &AnyRow, column: &'static str) -> Result<Vec<u8>, StoreError> {
    STANDARD
        .decode(text(row, column)?)
        .map_err(|_| StoreError::Unreadable { what: column })
}

fn number(row: &AnyRow) -> Result<EstablishmentNumber, StoreError> {
    let number = row
        .try_get("number")
        .map_err(StoreError::doing("read establishment number"))?;
    number_from_row(number)
}
