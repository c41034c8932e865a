//! Tunnel sessions: letting a device in, for 90 minutes at most, and out again.
//!
//! The portal decides and writes down; gateways enforce what the feed tells them. A device
//! has at most one session, on one gateway at a time. The deadline is computed once, here,
//! and only ever comes nearer: also when the session goes on through another gateway
//! ([`moves`]). Keys are derived from the master key and what is one grant's own, so that the
//! database holds none and any portal can tell any gateway again.

use std::net::Ipv6Addr;

use access::session_deadline;
use protocol::agent_api::{AgentGrant, EndCode, SessionRequest, session_message};
use protocol::control::{SessionEnded, SessionOpened};
use protocol::{Bytes32, DeviceId, SessionId};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::calendar;
use crate::clock::unix_ms;
use crate::control_api::Refused;
use crate::db::{Db, StoreError};
use crate::devices;
use crate::devices::store::{Caller, Standing};
use crate::gateways::store::Reach;
use crate::gateways::{self, Gateway};
use crate::keys::{MasterKey, Purpose, random_bytes};
use crate::one_time_codes;

pub mod control;
pub mod feed;
pub mod live;
pub mod moves;
pub mod store;

/// The network of the inner addresses: `fd72:656e:6b65:6900::/64`.
const INNER_NETWORK: [u16; 4] = [0xfd72, 0x656e, 0x6b65, 0x6900];
/// Inner addresses up to this host number are kept for gateways.
const RESERVED_HOSTS: u64 = 0xffff;
/// An uncompressed point on P-256, the end of a SubjectPublicKeyInfo, in bytes.
const POINT_BYTES: usize = 65;
/// Sessions that one sweep closes at most.
const SWEEP_LIMIT: i64 = 500;
/// How long after the deadline the gateway may still report, before the sweep closes the
/// session without byte counts.
const REPORT_GRACE: time::Duration = time::Duration::seconds(30);

/// Lets a device in, or says why not. Refusals of a known device are audited.
pub async fn open(
    app: &App,
    gateway: &Gateway,
    certificate: &Bytes32,
    request: &SessionRequest,
    now: OffsetDateTime,
) -> Result<SessionOpened, Refused> {
    let mut connection = app
        .db
        .pool()
        .acquire()
        .await
        .map_err(StoreError::doing("find device"))?;
    let caller = devices::store::find_by_certificate(&mut connection, certificate)
        .await?
        .ok_or(Refused::NoDevice)?;
    drop(connection);
    let opened = open_for(app, gateway, certificate, &caller, request, now).await;
    match &opened {
        Ok(_) => {
            app.signals.sessions_changed();
            app.signals.mail_queued();
        }
        Err(refused) => note_refusal(app, caller.id, None, refused, now).await?,
    }
    opened
}

/// Writes down that a known device was refused, unless the database itself was the reason.
async fn note_refusal(
    app: &App,
    device: DeviceId,
    session: Option<SessionId>,
    refused: &Refused,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    if matches!(refused, Refused::Store(_)) {
        return Ok(());
    }
    let mut tx = app.db.begin().await?;
    let act = Act::SessionRefused(refused.word());
    audit::record(&mut tx, &app.keys, &actor(device, session), act, now).await?;
    Db::commit(tx).await
}

async fn open_for(
    app: &App,
    gateway: &Gateway,
    certificate: &Bytes32,
    caller: &Caller,
    request: &SessionRequest,
    now: OffsetDateTime,
) -> Result<SessionOpened, Refused> {
    if caller.standing == Standing::OutOfUse {
        return Err(Refused::Revoked);
    }
    let message = session_message(&caller.id, &request.wireguard_public_key);
    check_signature(caller, request, &message)?;
    let gateways = gateways::store::urls(&app.db).await?;

    // The order of locks is device, calendar, sessions, audit log: everywhere.
    let mut tx = app.db.begin().await?;
    let generation = devices::store::lock_for_grant(&mut tx, caller.id, now)
        .await?
        .ok_or(Refused::Revoked)?;
    calendar::store::lock(&mut tx).await?;
    let entries = calendar::store::entries(&mut tx).await?;
    let calendar = entries.calendar(app.config.rehearsal);
    let (deadline, reason) = session_deadline(&calendar, now)?;
    let reach = gateways::store::reach(&mut tx, &gateway.name)
        .await?
        .ok_or(Refused::GatewayUnknown)?;
    if store::is_key_known(&mut tx, &request.wireguard_public_key).await? {
        return Err(Refused::BadRequest("the WireGuard key was used before"));
    }
    let replaced = store::end_of_device(&mut tx, caller.id, EndCode::Replaced, now).await?;
    let session = store::Session {
        id: SessionId::from_uuid(Uuid::now_v7()),
        gateway: gateway.name.clone(),
        generation,
        device: caller.id,
        device_certificate_sha256: *certificate,
        wireguard_public_key: request.wireguard_public_key,
        inner_address: new_inner_address(),
        deadline_ms: unix_ms(deadline),
        deadline_reason: reason.into(),
        ended: None,
    };
    match store::add(&mut tx, &session, caller.establishment, now).await {
        Ok(()) => {}
        // Two requests with one key at the same moment.
        Err(error) if error.is_unique_violation() => {
            return Err(Refused::BadRequest("the WireGuard key was used before"));
        }
        Err(error) => return Err(error.into()),
    }
    let code_mailed_to =
        one_time_codes::issue(&mut tx, app, caller.user, caller.id, session.id, now).await?;
    let actor = actor(caller.id, Some(session.id));
    for (older, reason) in replaced {
        let act = Act::SessionEnded(older, reason.as_str());
        audit::record(&mut tx, &app.keys, &actor, act, now).await?;
    }
    let act = Act::SessionOpened(session.id);
    audit::record(&mut tx, &app.keys, &actor, act, now).await?;
    Db::commit(tx).await?;

    let mut opened = granted(app, &session, reach, gateways, now);
    opened.agent.code_mailed_to = code_mailed_to.map(|address| address.to_string());
    Ok(opened)
}

/// Both halves of what was granted.
fn granted(
    app: &App,
    session: &store::Session,
    reach: Reach,
    gateways: Vec<String>,
    now: OffsetDateTime,
) -> SessionOpened {
    let grant = session.grant(&app.keys);
    SessionOpened {
        agent: AgentGrant {
            session: session.id,
            gateway_public_key: reach.wireguard_public_key,
            preshared_key: grant.preshared_key,
            inner_address: session.inner_address,
            endpoints: reach.endpoints,
            gateway_certificate_name: session.gateway.certificate_name(),
            deadline_ms: session.deadline_ms,
            deadline_reason: session.deadline_reason,
            server_time_ms: unix_ms(now),
            portal_url: app.config.member.url.clone(),
            code_mailed_to: None,
            gateways,
        },
        grant,
    }
}

/// Ends a session at its device's wish. A session of another device does not exist for it.
pub async fn disconnect(
    app: &App,
    certificate: &Bytes32,
    session: SessionId,
    now: OffsetDateTime,
) -> Result<(), Refused> {
    let mut tx = app.db.begin().await?;
    let caller = devices::store::find_by_certificate(&mut tx, certificate)
        .await?
        .ok_or(Refused::NoDevice)?;
    let owner = store::device_of(&mut tx, session).await?;
    if owner != Some(caller.id) {
        return Err(Refused::NotFound);
    }
    if let Some(reason) = store::end(&mut tx, session, EndCode::Disconnected, now).await? {
        let actor = actor(caller.id, Some(session));
        let act = Act::SessionEnded(session, reason.as_str());
        audit::record(&mut tx, &app.keys, &actor, act, now).await?;
    }
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    Ok(())
}

/// Takes down what a gateway reports of one of its grants. What the portal ended itself keeps
/// its reason; only the byte counts are added. A gateway that stops, or that the session left,
/// ends nothing: the device may go on through another one until the deadline.
pub async fn take_report(
    app: &App,
    gateway: &Gateway,
    session: SessionId,
    report: &SessionEnded,
    now: OffsetDateTime,
) -> Result<(), Refused> {
    let mut tx = app.db.begin().await?;
    let current = store::find(&mut tx, session)
        .await?
        .filter(|found| found.gateway == gateway.name && found.generation == report.generation);
    match current {
        Some(current) => {
            let ended = match report.reason {
                EndCode::GatewayStopped | EndCode::Moved => None,
                EndCode::TimeLimit
                | EndCode::ClosingTime
                | EndCode::Revoked
                | EndCode::Replaced
                | EndCode::Disconnected => store::end(&mut tx, session, report.reason, now).await?,
            };
            store::note_bytes(&mut tx, session, report).await?;
            if let Some(reason) = ended {
                let act = Act::SessionEnded(session, reason.as_str());
                let actor = actor(current.device, Some(session));
                audit::record(&mut tx, &app.keys, &actor, act, now).await?;
            }
        }
        None if store::note_bytes_of_move(&mut tx, session, &gateway.name, report).await? => {}
        None => return Err(Refused::NotFound),
    }
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    Ok(())
}

/// Closes the rows of sessions whose deadline has passed and of which no gateway reported.
/// The door is closed without this: everybody compares with the deadline.
pub async fn sweep(app: &App, now: OffsetDateTime) -> Result<usize, StoreError> {
    let mut tx = app.db.begin().await?;
    let ended = store::end_overdue(&mut tx, now - REPORT_GRACE, SWEEP_LIMIT, now).await?;
    for (session, reason) in &ended {
        let act = Act::SessionEnded(*session, reason.as_str());
        audit::record(&mut tx, &app.keys, &Actor::System, act, now).await?;
    }
    Db::commit(tx).await?;
    Ok(ended.len())
}

/// The pre-shared key of one grant of a session: the grant that has this inner address.
pub fn preshared_key(keys: &MasterKey, session: SessionId, inner_address: Ipv6Addr) -> Bytes32 {
    let context = grant_context(session, inner_address);
    keys.derive_wire(Purpose::TunnelPresharedKey, &context)
}

/// The key that authenticates the PROXY headers of one grant of a session.
pub fn proxy_key(keys: &MasterKey, session: SessionId, inner_address: Ipv6Addr) -> Bytes32 {
    let context = grant_context(session, inner_address);
    keys.derive_wire(Purpose::ProxyHeader, &context)
}

/// No two grants have the same inner address.
fn grant_context(session: SessionId, inner_address: Ipv6Addr) -> [u8; 32] {
    let mut context = [0; 32];
    context[..16].copy_from_slice(session.as_uuid().as_bytes());
    context[16..].copy_from_slice(&inner_address.octets());
    context
}

/// Checks that the device's own key asks for this WireGuard key, by `message`.
fn check_signature(
    caller: &Caller,
    request: &SessionRequest,
    message: &[u8],
) -> Result<(), Refused> {
    if request.wireguard_public_key.0 == [0; 32] {
        return Err(Refused::BadRequest("no WireGuard key"));
    }
    let info = &caller.public_key;
    let point = info
        .len()
        .checked_sub(POINT_BYTES)
        .map(|start| &info[start..])
        .ok_or(Refused::Certificate("stored public key too short"))?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(message, &request.signature.0)
        .map_err(|_| Refused::BadRequest("the signature does not fit"))
}

fn new_inner_address() -> Ipv6Addr {
    loop {
        let host = u64::from_be_bytes(random_bytes());
        if host > RESERVED_HOSTS {
            return inner_address(host);
        }
    }
}

fn inner_address(host: u64) -> Ipv6Addr {
    let network = INNER_NETWORK
        .iter()
        .fold(0u128, |bits, group| bits << 16 | u128::from(*group));
    Ipv6Addr::from_bits(network << 64 | u128::from(host))
}

fn actor(device: DeviceId, session: Option<SessionId>) -> Actor {
    Actor::Device { device, session }
}

/// Says whether the service is open, and what the fund's calendar says otherwise.
pub async fn opening(app: &App, now: OffsetDateTime) -> Result<access::Opening, StoreError> {
    let mut connection = app
        .db
        .pool()
        .acquire()
        .await
        .map_err(StoreError::doing("read the calendar"))?;
    let entries = calendar::store::entries(&mut connection).await?;
    Ok(entries.calendar(app.config.rehearsal).opening(now))
}

/// Says whether a device may ask anything at all, and who it is.
pub async fn check_standing(app: &App, certificate: &Bytes32) -> Result<Caller, Refused> {
    let mut connection = app
        .db
        .pool()
        .acquire()
        .await
        .map_err(StoreError::doing("find device"))?;
    let caller = devices::store::find_by_certificate(&mut connection, certificate).await?;
    let caller = caller.ok_or(Refused::NoDevice)?;
    match caller.standing {
        Standing::InUse => Ok(caller),
        Standing::OutOfUse => Err(Refused::Revoked),
    }
}

#[cfg(test)]
pub(crate) mod tests;
