//! The queue of mails: written with what they tell about, sent when the server takes them.
//!
//! Several portals may run [`run`] on one database: each claims a mail for a short time
//! before it sends it. What the server does not take now is tried again after 5 seconds, 15
//! seconds, a minute, then every 5 minutes, until the mail has no use any more. A portal
//! that dies between sending and writing that down sends the mail a second time, with the
//! same Message-ID. After sending, recipient and text are removed from the row.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;

use super::bounces::address_hash;
use super::{Mail, Outgoing, SendError, Transport};
use crate::app::App;
use crate::clock::{from_unix_ms, unix_ms};
use crate::db::{Db, StoreError, Tx};
use crate::ids::MailId;
use crate::keys::{MasterKey, Purpose};
use crate::metrics::{MailOutcome, metrics};
use crate::signals::Stopping;
use crate::tasks;

/// Waiting times after the first, second … failure; the last one repeats.
const BACK_OFF: [Duration; 4] = [
    Duration::seconds(5),
    Duration::seconds(15),
    Duration::minutes(1),
    Duration::minutes(5),
];
/// How long a claim lasts: longer than a server may take for one mail.
const CLAIM: Duration = Duration::seconds(60);
/// Mails on their way at the same time, so that one slow delivery does not hold up a code.
const LANES: usize = 4;
/// How often a portal looks for mails that another one queued, or whose time has come.
const LOOK_AGAIN: StdDuration = StdDuration::from_secs(1);

/// What stands sealed in the row.
#[derive(Serialize, Deserialize)]
struct Sealed {
    to: String,
    subject: String,
    body: String,
}

/// Where a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailState {
    /// Not tried yet.
    Waiting,
    /// The server did not take it; tried again at `next`.
    Retrying {
        /// The next try.
        next: OffsetDateTime,
    },
    /// The server took it.
    Sent {
        /// When.
        at: OffsetDateTime,
    },
    /// It has no use any more, or the server refused it for good.
    GivenUp,
}

fn place(id: MailId) -> String {
    format!("outbox/{id}")
}

/// Queues a mail in the transaction of what it tells about. After the
/// commit, tell `signals.mail_queued()`, so that it goes out at once. After `expires` it is
/// given up.
pub async fn queue(
    tx: &mut Tx,
    keys: &MasterKey,
    mail: Mail,
    now: OffsetDateTime,
    expires: OffsetDateTime,
) -> Result<MailId, StoreError> {
    let id = MailId::new();
    let text = serde_json::json!({"to": mail.to, "subject": mail.subject, "body": mail.body});
    sqlx::query(
        "INSERT INTO outbox (id, purpose, message_sealed, created_ms, not_before_ms, expires_ms, tries,
                             recipient_hash)
         VALUES ($1, $2, $3, $4, $4, $5, 0, $6)",
    )
    .bind(id.to_string())
    .bind(mail.purpose.as_str())
    .bind(keys.seal(Purpose::Mail, &place(id), text.to_string().as_bytes()))
    .bind(unix_ms(now))
    .bind(unix_ms(expires))
    .bind(address_hash(keys, &mail.to))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("queue a mail"))?;
    metrics().count_mail(MailOutcome::Queued);
    Ok(id)
}

/// How many mails wait to be sent.
pub async fn waiting(db: &Db) -> Result<i64, StoreError> {
    sqlx::query("SELECT COUNT(*) AS n FROM outbox WHERE sent_ms IS NULL AND given_up_ms IS NULL")
        .fetch_one(db.pool())
        .await
        .and_then(|row| row.try_get("n"))
        .map_err(StoreError::doing("count waiting mails"))
}

/// Gives up a mail that has lost its use and was not sent: a superseded code.
pub async fn give_up(tx: &mut Tx, id: MailId, now: OffsetDateTime) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET given_up_ms = $1, message_sealed = ''
          WHERE id = $2 AND sent_ms IS NULL AND given_up_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("give up a mail"))?;
    Ok(())
}

/// Says where a mail stands.
pub async fn state(db: &Db, id: MailId) -> Result<Option<MailState>, StoreError> {
    let row = sqlx::query(
        "SELECT tries, not_before_ms, last_error, sent_ms, given_up_ms FROM outbox WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a mail"))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<MailState, sqlx::Error> {
        let sent: Option<i64> = row.try_get("sent_ms")?;
        let given_up: Option<i64> = row.try_get("given_up_ms")?;
        let last_error: Option<String> = row.try_get("last_error")?;
        Ok(match (sent, given_up, last_error) {
            (Some(at), _, _) => MailState::Sent {
                at: from_unix_ms(at),
            },
            (None, Some(_), _) => MailState::GivenUp,
            (None, None, Some(_)) => MailState::Retrying {
                next: from_unix_ms(row.try_get("not_before_ms")?),
            },
            (None, None, None) => MailState::Waiting,
        })
    };
    read()
        .map(Some)
        .map_err(StoreError::doing("read a mail's state"))
}

/// Sends what is due until the process is to end.
pub async fn run<T: Transport>(app: App, transport: T) {
    let transport = Arc::new(transport);
    let lanes: Vec<_> = (0..LANES)
        .map(|_| {
            let (queued, stop) = (app.signals.mails(), app.signals.stopping());
            tokio::spawn(lane(app.clone(), Arc::clone(&transport), queued, stop))
        })
        .collect();
    for lane in lanes {
        if lane.await.is_err() {
            tracing::error!("a lane of the outbox ended in a panic");
        }
    }
}

async fn lane<T: Transport>(
    app: App,
    transport: Arc<T>,
    mut queued: watch::Receiver<u64>,
    mut stop: Stopping,
) {
    while stop.wait().now_or_never().is_none() {
        queued.mark_unchanged();
        match send_next(&app, &*transport, app.clock.now()).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = %crate::web::page_error::chain(&error), "the outbox cannot be read");
            }
        }
        tokio::select! {
            _ = queued.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.wait() => {}
        }
    }
}

/// A mail claimed by this lane.
struct Claimed {
    id: MailId,
    purpose: String,
    tries: i64,
    created: OffsetDateTime,
    expires: OffsetDateTime,
    sealed: String,
}

/// Sends the most urgent mail that is due; says whether there was one.
pub async fn send_next<T: Transport>(
    app: &App,
    transport: &T,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let Some(claimed) = claim(&app.db, now).await? else {
        return Ok(false);
    };
    let mut to = String::new();
    let outcome = if claimed.expires <= now {
        Err(SendError::Never("expired".to_owned()))
    } else {
        match unseal(app, &claimed) {
            Some(mail) => {
                to.clone_from(&mail.to);
                transport.send(&mail).await
            }
            None => Err(SendError::Never("cannot be unsealed".to_owned())),
        }
    };
    let (id, purpose, tries) = (claimed.id, &claimed.purpose, claimed.tries);
    // The clock again: a server that hangs takes its time.
    let now = app.clock.now();
    match outcome {
        Ok(()) => {
            metrics().count_mail(MailOutcome::Sent);
            tracing::info!(%id, purpose, tries, "mail sent");
            finish(&app.db, id, "sent", now).await?;
        }
        Err(SendError::Never(reason)) => {
            metrics().count_mail(MailOutcome::GivenUp);
            tracing::warn!(%id, purpose, tries, %reason, "mail given up");
            finish(&app.db, id, "given up", now).await?;
        }
        Err(SendError::Refused(status)) => {
            metrics().count_mail(MailOutcome::GivenUp);
            tracing::warn!(%id, purpose, tries, %status, "a mail server refused an address");
            let mut tx = app.db.begin().await?;
            tasks::mail_undelivered(&mut tx, &app.keys, &to, &status, now).await?;
            Db::commit(tx).await?;
            finish(&app.db, id, "given up", now).await?;
        }
        Err(SendError::NotNow(reason)) => {
            metrics().count_mail(MailOutcome::Postponed);
            let next = now + back_off(claimed.tries);
            tracing::warn!(%id, purpose, tries, %reason, "mail server did not take a mail; trying again");
            postpone(&app.db, id, &reason, next).await?;
        }
    }
    Ok(true)
}

fn back_off(tries: i64) -> Duration {
    let place = usize::try_from(tries - 1).unwrap_or(0);
    BACK_OFF[place.min(BACK_OFF.len() - 1)]
}

async fn claim(db: &Db, now: OffsetDateTime) -> Result<Option<Claimed>, StoreError> {
    // The conditions stand in the UPDATE too: on PostgreSQL two lanes may choose one row.
    let row = sqlx::query(
        "UPDATE outbox SET claimed_until_ms = $1, tries = tries + 1
          WHERE id = (SELECT id FROM outbox
                       WHERE sent_ms IS NULL AND given_up_ms IS NULL AND not_before_ms <= $2
                         AND (claimed_until_ms IS NULL OR claimed_until_ms <= $2)
                       ORDER BY expires_ms, id LIMIT 1)
            AND sent_ms IS NULL AND given_up_ms IS NULL
            AND (claimed_until_ms IS NULL OR claimed_until_ms <= $2)
         RETURNING id, purpose, tries, created_ms, expires_ms, message_sealed",
    )
    .bind(unix_ms(now + CLAIM))
    .bind(unix_ms(now))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("claim a mail"))?;
    let Some(row) = row else { return Ok(None) };
    let text = |column| -> Result<String, StoreError> {
        row.try_get(column)
            .map_err(StoreError::doing("read a claimed mail"))
    };
    let number = |column| -> Result<i64, StoreError> {
        row.try_get(column)
            .map_err(StoreError::doing("read a claimed mail"))
    };
    Ok(Some(Claimed {
        id: text("id")?
            .parse()
            .map_err(|_| StoreError::Unreadable { what: "mail id" })?,
        purpose: text("purpose")?,
        tries: number("tries")?,
        created: from_unix_ms(number("created_ms")?),
        expires: from_unix_ms(number("expires_ms")?),
        sealed: text("message_sealed")?,
    }))
}

fn unseal(app: &App, claimed: &Claimed) -> Option<Outgoing> {
    let text = app
        .keys
        .open(Purpose::Mail, &place(claimed.id), &claimed.sealed)
        .ok()?;
    let sealed: Sealed = serde_json::from_slice(&text).ok()?;
    Some(Outgoing {
        id: claimed.id.to_string(),
        written: claimed.created,
        to: sealed.to,
        subject: sealed.subject,
        body: sealed.body,
    })
}

async fn finish(
    db: &Db,
    id: MailId,
    how: &'static str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let statement = if how == "sent" {
        "UPDATE outbox SET sent_ms = $1, message_sealed = '', claimed_until_ms = NULL WHERE id = $2"
    } else {
        "UPDATE outbox SET given_up_ms = $1, message_sealed = '', claimed_until_ms = NULL WHERE id = $2"
    };
    sqlx::query(statement)
        .bind(unix_ms(now))
        .bind(id.to_string())
        .execute(db.pool())
        .await
        .map_err(StoreError::doing("finish a mail"))?;
    Ok(())
}

async fn postpone(
    db: &Db,
    id: MailId,
    reason: &str,
    next: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET not_before_ms = $1, last_error = $2, claimed_until_ms = NULL WHERE id = $3",
    )
    .bind(unix_ms(next))
    .bind(reason)
    .bind(id.to_string())
    .execute(db.pool())
    .await
    .map_err(StoreError::doing("postpone a mail"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
