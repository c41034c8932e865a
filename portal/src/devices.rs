//! Registered PCs: from a registration code to a certificate, and its end.
//!
//! A PC's request carries its public key; staff compare a short code made from that key with
//! the clerk on the telephone, and approve. Revoking a device ends its session in the same
//! transaction. The private key never leaves the PC, and nothing but the public key is taken
//! from its request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::agent_api::{CertificateRenewed, EndCode, EnrolmentRequest, matching_code};
use protocol::{Bytes32, Der, DeviceId, EnrolmentId, SessionId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::authority::{DEVICE_VALIDITY, DeviceRequest, IssueError, RequestError};
use crate::clock::unix_ms;
use crate::control_api::Refused;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::RegistrationCode;
use crate::gateways::fingerprint;
use crate::ids::StaffId;
use crate::keys::{MasterKey, Purpose, random_token};
use crate::tunnel_sessions;

pub mod control;
pub mod listing;
pub mod pages;
pub mod store;

use store::Standing;

/// Longest name of a PC, in characters.
const DEVICE_NAME_LIMIT: usize = 64;
/// Longest version and operating system, in characters.
const VERSION_LIMIT: usize = 100;
/// A certificate that expires sooner than this is renewed when its PC asks.
const RENEW_BEFORE: time::Duration = time::Duration::days(90);
/// Longest reason for a revocation, in characters.
const REASON_LIMIT: usize = 200;

/// A request that was recorded.
#[derive(Debug)]
pub struct Opened {
    /// Names it.
    pub enrolment: EnrolmentId,
    /// Proves in later polls that the asker is the one who enrolled.
    pub poll_token: String,
}

/// Why staff's decision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// No such request, or it was decided already.
    #[error("no open enrolment {0}")]
    NotOpen(EnrolmentId),
    /// The user or the establishment went out of use in the meantime.
    #[error("the user of enrolment {0} is no member any more")]
    NoMember(EnrolmentId),
    /// No such device, or it was revoked already.
    #[error("no registered device {0}")]
    NotRegistered(DeviceId),
    /// The reason is too long.
    #[error("reason is longer than {REASON_LIMIT} characters")]
    Reason,
    /// The certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The recorded request cannot be read back.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DecideError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::NotOpen(_) => Some(
                "この申請はすでに処理されています。一覧を更新して状態をご確認ください。".to_owned(),
            ),
            Self::NoMember(_) => Some(
                "申請した利用者または事業所の利用が停止されているため、承認できません。".to_owned(),
            ),
            Self::NotRegistered(_) => Some(
                "このパソコンはすでに登録解除されています。一覧を更新して状態をご確認ください。"
                    .to_owned(),
            ),
            Self::Reason => Some(format!("理由は{REASON_LIMIT}文字以内で入力してください。")),
            Self::Issue(_) | Self::Request(_) | Self::Store(_) => None,
        }
    }
}

/// Records a PC's request. A wrong code and an unknown establishment are answered alike; a
/// request whose answer got lost may be repeated with the same key.
pub async fn enrol(
    app: &App,
    asked: &EnrolmentRequest,
    now: OffsetDateTime,
) -> Result<Opened, Refused> {
    let request = read_request(asked)?;
    let code = RegistrationCode::read(&asked.code).ok_or(Refused::WrongCode)?;
    let public_key = STANDARD.encode(request.public_key_info());
    let poll_token = random_token();
    let poll_token_hash = app.keys.hash(Purpose::Token, poll_token.as_bytes());
    let hash = code.hash(&app.keys);

    let mut tx = app.db.begin().await?;
    let used = store::use_code(&mut tx, &hash, asked.establishment, now).await?;
    let Some(used) = used else {
        let again = store::renew_poll_token(
            &mut tx,
            &hash,
            asked.establishment,
            &public_key,
            &poll_token_hash,
        );
        let enrolment = again.await?.ok_or(Refused::WrongCode)?;
        Db::commit(tx).await?;
        return Ok(Opened {
            enrolment,
            poll_token,
        });
    };
    let limit = store::lock_establishment(&mut tx, used.establishment).await?;
    if store::count(&mut tx, used.establishment).await? >= limit {
        // Nothing is committed: the code stays good.
        return Err(Refused::TooManyDevices { limit });
    }
    let enrolment = EnrolmentId::from_uuid(Uuid::now_v7());
    let new = store::NewEnrolment {
        id: enrolment,
        code: &used,
        device_name: asked.device_name.trim(),
        os: asked.os.trim(),
        agent_version: asked.agent_version.trim(),
        certificate_request: STANDARD.encode(&asked.certificate_request.0),
        matching_code: matching_code(&request.public_key_info()),
        public_key,
        poll_token_hash,
    };
    match store::add_enrolment(&mut tx, &new, now).await {
        Ok(()) => {}
        Err(error) if error.is_unique_violation() => {
            return Err(Refused::BadRequest("the key was used before"));
        }
        Err(error) => return Err(error.into()),
    }
    let actor = Actor::Stranger {
        device: None,
        session: None,
    };
    let act = Act::EnrolmentRequested(enrolment);
    audit::record(&mut tx, &app.keys, &actor, act, now).await?;
    Db::commit(tx).await?;
    Ok(Opened {
        enrolment,
        poll_token,
    })
}

fn read_request(asked: &EnrolmentRequest) -> Result<DeviceRequest, Refused> {
    let line = |text: &str, limit| {
        let length = text.trim().chars().count();
        length >= 1 && length <= limit && !text.chars().any(char::is_control)
    };
    if !line(&asked.device_name, DEVICE_NAME_LIMIT) {
        return Err(Refused::BadRequest("device name"));
    }
    if !line(&asked.agent_version, VERSION_LIMIT) || !line(&asked.os, VERSION_LIMIT) {
        return Err(Refused::BadRequest("version or operating system"));
    }
    DeviceRequest::read(&asked.certificate_request.0).map_err(|error| {
        tracing::info!(%error, "enrolment refused");
        Refused::BadRequest("certificate request")
    })
}

/// Approves a request: the device authority signs the PC's certificate. The agent fetches
/// it with its next poll.
pub async fn approve(
    tx: &mut Tx,
    app: &App,
    staff: StaffId,
    enrolment: EnrolmentId,
    now: OffsetDateTime,
) -> Result<DeviceId, DecideError> {
    let actor = Actor::Staff(staff);
    let device = DeviceId::from_uuid(Uuid::now_v7());
    let decided = store::decide(
        tx,
        enrolment,
        store::Decision::Approved(device),
        &actor.name_for_rows(),
        now,
    )
    .await?
    .ok_or(DecideError::NotOpen(enrolment))?;
    let member =
        crate::establishments::store::is_live_member(tx, decided.establishment, decided.user);
    if !member.await? {
        return Err(DecideError::NoMember(enrolment));
    }
    let request = DeviceRequest::read(&decided.certificate_request)?;
    let new = store::NewDevice {
        id: device,
        enrolment: &decided,
        public_key: STANDARD.encode(request.public_key_info()),
        approved_by: actor.name_for_rows(),
    };
    store::add_device(tx, &new, now).await?;
    issue(tx, app, &request, device, now).await?;
    audit::record(tx, &app.keys, &actor, Act::DeviceApproved(device), now).await?;
    Ok(device)
}

/// Gives a registered PC a certificate that lasts longer, for the key that it always had. One
/// that lasts long enough already is given again: a lost answer costs nothing, and asking
/// often makes no rows.
pub async fn renew_certificate(
    app: &App,
    certificate: &Bytes32,
    certificate_request: &[u8],
    now: OffsetDateTime,
) -> Result<CertificateRenewed, Refused> {
    let mut tx = app.db.begin().await?;
    let caller = store::find_by_certificate(&mut tx, certificate)
        .await?
        .ok_or(Refused::NoDevice)?;
    if caller.standing == Standing::OutOfUse || !store::lock(&mut tx, caller.id).await? {
        return Err(Refused::Revoked);
    }
    let request = DeviceRequest::read(certificate_request).map_err(|error| {
        tracing::info!(%error, "certificate not renewed");
        Refused::BadRequest("certificate request")
    })?;
    if request.public_key_info() != caller.public_key {
        return Err(Refused::BadRequest("a certificate for another key"));
    }
    let newest = store::newest_certificate(&mut tx, caller.id).await?;
    let soon = unix_ms(now + RENEW_BEFORE);
    let issued = match newest.filter(|newest| newest.expires_ms > soon) {
        Some(newest) => newest,
        None => {
            let issued = issue(&mut tx, app, &request, caller.id, now)
                .await
                .map_err(|error| match error {
                    DecideError::Store(error) => Refused::Store(error),
                    _ => Refused::Certificate("cannot be made"),
                })?;
            let actor = Actor::Device {
                device: caller.id,
                session: None,
            };
            let act = Act::DeviceCertificateRenewed(caller.id);
            audit::record(&mut tx, &app.keys, &actor, act, now).await?;
            issued
        }
    };
    Db::commit(tx).await?;
    Ok(CertificateRenewed {
        certificate: Der(issued.certificate),
        expires_ms: issued.expires_ms,
    })
}

/// Signs a PC's certificate and writes it down.
async fn issue(
    tx: &mut Tx,
    app: &App,
    request: &DeviceRequest,
    device: DeviceId,
    now: OffsetDateTime,
) -> Result<store::Issued, DecideError> {
    let certificate = app.authorities.issue_device(request, device, now)?;
    let issued = store::Issued {
        certificate: certificate.to_vec(),
        expires_ms: unix_ms(now + DEVICE_VALIDITY),
    };
    let sha256 = fingerprint(&certificate);
    store::add_certificate(tx, device, &sha256, &issued, now).await?;
    Ok(issued)
}

/// Refuses a request.
pub async fn refuse(
    tx: &mut Tx,
    keys: &MasterKey,
    staff: StaffId,
    enrolment: EnrolmentId,
    now: OffsetDateTime,
) -> Result<(), DecideError> {
    let actor = Actor::Staff(staff);
    let by = actor.name_for_rows();
    store::decide(tx, enrolment, store::Decision::Refused, &by, now)
        .await?
        .ok_or(DecideError::NotOpen(enrolment))?;
    audit::record(tx, keys, &actor, Act::EnrolmentRefused(enrolment), now).await?;
    Ok(())
}

/// Revokes a device and ends its session. After the commit, tell
/// `signals.sessions_changed()`. Returns the session that ended.
pub async fn revoke(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    device: DeviceId,
    reason: &str,
    now: OffsetDateTime,
) -> Result<Option<SessionId>, DecideError> {
    if reason.chars().count() > REASON_LIMIT {
        return Err(DecideError::Reason);
    }
    if !store::revoke(tx, device, &actor.name_for_rows(), reason, now).await? {
        return Err(DecideError::NotRegistered(device));
    }
    let ended = tunnel_sessions::store::end_of_device(tx, device, EndCode::Revoked, now).await?;
    audit::record(tx, keys, actor, Act::DeviceRevoked(device), now).await?;
    for (session, reason) in &ended {
        let act = Act::SessionEnded(*session, reason.as_str());
        audit::record(tx, keys, actor, act, now).await?;
    }
    Ok(ended.first().map(|(session, _)| *session))
}

#[cfg(test)]
pub(crate) mod tests;
