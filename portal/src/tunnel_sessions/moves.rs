//! A session goes on through another gateway: the one it had is dead, or out of reach.
//!
//! Session, deadline and whatever was signed in stay as they are; the grant is new in all
//! that belongs to a gateway: number, WireGuard key, inner address, the keys derived from it.
//! Everything is checked anew as if the session were opened now. The gateway that is left
//! hears of it by its feed; until it does, the portal's member listener knows its grant no
//! more. Called by the control listener.

use protocol::agent_api::{SessionRequest, move_message};
use protocol::control::SessionOpened;
use protocol::{Bytes32, SessionId};
use time::OffsetDateTime;

use super::{actor, check_signature, granted, new_inner_address, note_refusal, store};
use crate::app::App;
use crate::audit::{self, Act};
use crate::clock::unix_ms;
use crate::control_api::Refused;
use crate::db::{Db, StoreError};
use crate::devices;
use crate::devices::store::{Caller, Standing};
use crate::gateways::{self, Gateway};

/// How often one session may move. An honest one moves when a gateway dies.
const MOVES_LIMIT: i64 = 100;

/// Lets a device go on with its session through `gateway`, or says why not. Refusals of a
/// known device are audited.
pub async fn move_here(
    app: &App,
    gateway: &Gateway,
    certificate: &Bytes32,
    session: SessionId,
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
    let moved = move_for(app, gateway, certificate, &caller, session, request, now).await;
    match &moved {
        Ok(_) => app.signals.sessions_changed(),
        Err(refused) => note_refusal(app, caller.id, None, refused, now).await?,
    }
    moved
}

async fn move_for(
    app: &App,
    gateway: &Gateway,
    certificate: &Bytes32,
    caller: &Caller,
    id: SessionId,
    request: &SessionRequest,
    now: OffsetDateTime,
) -> Result<SessionOpened, Refused> {
    if caller.standing == Standing::OutOfUse {
        return Err(Refused::Revoked);
    }
    let message = move_message(&caller.id, &id, &request.wireguard_public_key);
    check_signature(caller, request, &message)?;
    let gateways = gateways::store::urls(&app.db).await?;

    // The order of locks is device, sessions, audit log. The calendar needs none: whoever
    // edits it has shortened the session's own deadline.
    let mut tx = app.db.begin().await?;
    let generation = devices::store::lock_for_grant(&mut tx, caller.id, now)
        .await?
        .ok_or(Refused::Revoked)?;
    let found = store::find(&mut tx, id).await?;
    // Another device's session does not exist for this one.
    let left = found
        .filter(|found| found.device == caller.id)
        .ok_or(Refused::NotFound)?;
    if let Some(reason) = left.over(unix_ms(now)) {
        return Err(Refused::SessionOver(reason));
    }
    if store::count_moves(&mut tx, id).await? >= MOVES_LIMIT {
        return Err(Refused::TooManyMoves);
    }
    let reach = gateways::store::reach(&mut tx, &gateway.name)
        .await?
        .ok_or(Refused::GatewayUnknown)?;
    if store::is_key_known(&mut tx, &request.wireguard_public_key).await? {
        return Err(Refused::BadRequest("the WireGuard key was used before"));
    }
    let moved = store::Session {
        gateway: gateway.name.clone(),
        generation,
        device_certificate_sha256: *certificate,
        wireguard_public_key: request.wireguard_public_key,
        inner_address: new_inner_address(),
        ..left.clone()
    };
    let moved = store::go_on(&mut tx, &left, moved, now).await?;
    // Somebody ended it between our look and our change.
    let moved = moved.ok_or(Refused::NotFound)?;
    let act = Act::SessionMoved(id, gateway.name.to_string());
    audit::record(&mut tx, &app.keys, &actor(caller.id, Some(id)), act, now).await?;
    Db::commit(tx).await?;
    Ok(granted(app, &moved, reach, gateways, now))
}

#[cfg(test)]
mod tests;
