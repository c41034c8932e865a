//! What is done when its time has come: expired uploads, drafts and batches that nobody issued,
//! and objects in the vault that no row knows are thrown away; reminders of notices that wait
//! are sent, and notices whose time is over are destroyed.
//!
//! Nothing depends on when this runs: what has expired is refused without it. Run once per
//! portal, from its start to its end; several portals do not disturb each other.

use std::time::Duration;

use time::OffsetDateTime;

use crate::app::App;
use crate::custody::{self, CustodyError};
use crate::db::{Db, StoreError};
use crate::{batches, retention, review, uploads};

/// How often.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Tidies up at once and then every hour, until the portal stops.
pub async fn run(app: App) {
    let mut stopping = app.signals.stopping();
    loop {
        tokio::select! {
            () = stopping.wait() => return,
            () = tidy_and_tell(&app) => {}
        }
        tokio::select! {
            () = stopping.wait() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn tidy_and_tell(app: &App) {
    match tidy(app, app.clock.now()).await {
        Ok(0) => {}
        Ok(swept) => tracing::info!(swept, "removed objects that no row knew"),
        Err(error) => {
            let error = crate::web::page_error::chain(&error);
            tracing::error!(%error, "cannot tidy up");
        }
    }
}

/// Tidies up once. Returns how many objects were in the vault that no row knew.
pub async fn tidy(app: &App, now: OffsetDateTime) -> Result<usize, CustodyError> {
    uploads::purge(app, now).await?;
    purge_drafts(app, now).await?;
    batches::mails::tidy(app, now).await?;
    retention::destroy_due(app, now).await?;
    custody::texts::reseal(app).await?;
    custody::sweep(app, now).await
}

async fn purge_drafts(app: &App, now: OffsetDateTime) -> Result<(), StoreError> {
    let mut tx = app.db.begin().await?;
    let documents = review::store::purge_drafts(&mut tx, now).await?;
    Db::commit(tx).await?;
    custody::remove_objects(app, documents).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::store::DRAFT_LIFETIME;
    use crate::testing::{NOW, worlds};

    #[tokio::test]
    async fn a_draft_that_nobody_issued_goes_with_its_document() {
        for world in worlds().await {
            let filing = world.alice.file("20260313_0123_資格喪失届.pdf").await;
            let path = format!("{filing}/determination");
            world.sato.post(&format!("{filing}/take"), &[]).await;
            let person = [
                ("member_number", "1"),
                ("name", "山田 太郎"),
                ("event", "loss"),
                ("event_on", "2026-03-01"),
            ];
            world.sato.post(&path, &person).await;
            let draft = format!("{path}/draft");
            assert_eq!(world.sato.get(&draft).await.0, 200);
            let far = time::macros::datetime!(2100-01-01 0:00 UTC);
            let objects = async || world.app.vault.put_before(far).await.unwrap().len();
            assert_eq!(objects().await, 2);

            let almost = NOW + DRAFT_LIFETIME - time::Duration::SECOND;
            purge_drafts(&world.app, almost).await.unwrap();
            assert_eq!(world.sato.get(&draft).await.0, 200);
            purge_drafts(&world.app, NOW + DRAFT_LIFETIME)
                .await
                .unwrap();
            assert_eq!(world.sato.get(&draft).await.0, 404);
            assert_eq!(objects().await, 1);
        }
    }
}
