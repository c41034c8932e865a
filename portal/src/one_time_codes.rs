//! One-time passwords by mail: six digits, ten minutes, once.
//!
//! A code belongs to a user, a device and a tunnel session; it is useless anywhere else. A
//! newer code puts the older ones out of use. Redeeming is one conditional UPDATE, so that of
//! any number of parallel tries with the right code exactly one succeeds (DESIGN, Security
//! properties 6). Only a keyed hash is kept; the mail with the code is sealed until it is
//! sent.

pub mod store;

use protocol::{DeviceId, SessionId};
use time::{Duration, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{Db, StoreError, Tx};
use crate::ids::{OneTimeCodeId, UserId};
use crate::keys::{MasterKey, Purpose, random_bytes};
use crate::mail::outbox::{self, MailState};
use crate::mail::{MaskedAddress, texts};

/// How long a code is good.
pub const CODE_VALIDITY: Duration = Duration::minutes(10);
/// How many wrong codes may be typed for one code.
pub const TRIES_MAX: i64 = 5;
/// How soon another code may be asked for.
pub const RESEND_PAUSE: Duration = Duration::seconds(60);
/// Codes in one tunnel session at most.
pub const CODES_PER_SESSION_MAX: i64 = 5;

/// For whom and where a code is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The user.
    pub user: UserId,
    /// The PC.
    pub device: DeviceId,
    /// The PC's tunnel session.
    pub session: SessionId,
}

/// What became of a typed code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redeemed {
    /// Right; it cannot be used again.
    Yes,
    /// Wrong; so many tries are left.
    Wrong {
        /// How many.
        tries_left: i64,
    },
    /// There is a code, but it is out of use: expired, used, or tried too often.
    OutOfUse,
    /// No code was ever sent here.
    NoCode,
}

/// Why no further code is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResendRefused {
    /// The last one was asked for just now.
    #[error("too soon")]
    TooSoon {
        /// When it may be asked for.
        at: OffsetDateTime,
    },
    /// Enough for this session.
    #[error("too many codes in this session")]
    TooMany,
}

/// The latest code of a tunnel session, for the sign-in page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestCode {
    /// Where it went.
    pub to: MaskedAddress,
    /// When it stops being good.
    pub expires: OffsetDateTime,
    /// Where its mail stands.
    pub mail: MailState,
}

/// Makes a code and queues its mail, in the caller's transaction. `None` if the user is not
/// on codes by mail (or is out of use). After the commit, tell `signals.mail_queued()`.
pub async fn issue(
    tx: &mut Tx,
    app: &App,
    user: UserId,
    device: DeviceId,
    session: SessionId,
    now: OffsetDateTime,
) -> Result<Option<MaskedAddress>, StoreError> {
    let Some(address) = store::mail_address(tx, user).await? else {
        return Ok(None);
    };
    let binding = Binding {
        user,
        device,
        session,
    };
    for mail in store::supersede(tx, &binding, now).await? {
        outbox::give_up(tx, mail, now).await?;
    }
    let (id, code, expires) = (OneTimeCodeId::new(), six_digits(), now + CODE_VALIDITY);
    let mail = texts::one_time_code(&app.config, &address, &code, expires);
    let mail = outbox::queue(tx, &app.keys, mail, now, expires).await?;
    let hash = hash(&app.keys, id, &code);
    store::add(tx, id, &binding, &hash, mail, now, expires).await?;
    let actor = Actor::Device {
        device,
        session: Some(session),
    };
    audit::record(tx, &app.keys, &actor, Act::CodeSent(user), now).await?;
    Ok(Some(MaskedAddress::of(&address)))
}

/// Says whether another code may be sent in this session at `now`. Whoever asks at the same
/// time waits until the caller's transaction has sent it or not: two codes at once would be two
/// to guess.
pub async fn may_resend(
    tx: &mut Tx,
    binding: &Binding,
    now: OffsetDateTime,
) -> Result<Result<(), ResendRefused>, StoreError> {
    store::lock(tx, binding.session).await?;
    let (count, last) = store::count(tx, binding.session).await?;
    if count >= CODES_PER_SESSION_MAX {
        return Ok(Err(ResendRefused::TooMany));
    }
    Ok(match last {
        Some(last) if now < last + RESEND_PAUSE => Err(ResendRefused::TooSoon {
            at: last + RESEND_PAUSE,
        }),
        Some(_) | None => Ok(()),
    })
}

/// Tries a typed code. Commit whatever the outcome: a wrong try must count.
pub async fn redeem(
    tx: &mut Tx,
    keys: &MasterKey,
    binding: &Binding,
    typed: &str,
    now: OffsetDateTime,
) -> Result<Redeemed, StoreError> {
    let Some(tried) = store::count_try(tx, binding, now).await? else {
        return Ok(if store::exists(tx, binding).await? {
            Redeemed::OutOfUse
        } else {
            Redeemed::NoCode
        });
    };
    let typed = digits(typed);
    if !keys.hash_fits(Purpose::OneTimeCode, &secret(tried.id, &typed), &tried.hash) {
        return Ok(Redeemed::Wrong {
            tries_left: TRIES_MAX - tried.tries,
        });
    }
    Ok(if store::use_up(tx, tried.id, now).await? {
        Redeemed::Yes
    } else {
        Redeemed::OutOfUse
    })
}

/// The latest code of a tunnel session that is still good, and where its mail stands.
pub async fn latest(
    db: &Db,
    session: SessionId,
    now: OffsetDateTime,
) -> Result<Option<LatestCode>, StoreError> {
    let Some(found) = store::latest(db, session, now).await? else {
        return Ok(None);
    };
    let mail = outbox::state(db, found.mail).await?;
    Ok(Some(LatestCode {
        to: MaskedAddress::of(&found.address),
        expires: found.expires,
        mail: mail.unwrap_or(MailState::GivenUp),
    }))
}

/// The digits of what was typed: full-width ones too, without spaces and hyphens.
pub fn digits(typed: &str) -> String {
    typed
        .chars()
        .filter_map(|c| match c {
            '0'..='9' => Some(c),
            '\u{FF10}'..='\u{FF19}' => char::from_digit(c as u32 - 0xFF10, 10),
            _ => None,
        })
        .take(16)
        .collect()
}

/// Six random digits, each number as likely as any other.
pub(crate) fn six_digits() -> String {
    const NUMBERS: u32 = 1_000_000;
    loop {
        let number = u32::from_be_bytes(random_bytes());
        // The last, incomplete million is thrown away.
        if number < u32::MAX / NUMBERS * NUMBERS {
            return format!("{:06}", number % NUMBERS);
        }
    }
}

fn secret(id: OneTimeCodeId, code: &str) -> Vec<u8> {
    format!("{id}/{code}").into_bytes()
}

fn hash(keys: &MasterKey, id: OneTimeCodeId, code: &str) -> String {
    keys.hash(Purpose::OneTimeCode, &secret(id, code))
}

#[cfg(test)]
pub(crate) mod tests;
