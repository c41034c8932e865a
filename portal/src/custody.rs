//! Custody of documents: a sealed object in the vault and its row in the database, together.
//!
//! The object is written first, under its final id; the row follows in the caller's
//! transaction. So whatever moment the program dies at, a document that the database knows
//! is there, whole, and one that it does not know is swept away two days later: an accepted
//! upload survives, a refused one leaves nothing (DESIGN, Security properties 9).
//!
//! Who may read a document is not asked here: features find it through their own stores,
//! with the principal in the question, and come here with what they found.

pub mod destruction;
pub mod store;
pub mod texts;

use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use crate::app::App;
use crate::db::StoreError;
use crate::ids::{DocumentId, EstablishmentId};
use crate::vault::{EstablishmentKey, VaultError};

/// An object without a row is left alone for this long. Between the first seal of a hand-in or
/// a batch and its rows lie the checks of all its files, which wait for their turn and for a
/// scanner that may be silent for minutes on each: hours on a bad day, never days.
pub const ORPHAN_AGE: Duration = Duration::hours(48);
/// Who has not written the row of an object by this age begins anew: the sweeper's look at the
/// rows and a row that comes late never meet, whatever the disk's clock says.
const ROW_LIMIT: Duration = Duration::hours(24);

/// A document's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its id, and its place in the vault.
    pub id: DocumentId,
    /// Under whose key it lies.
    pub establishment: EstablishmentId,
    /// The name it is handed out under.
    pub file_name: String,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: String,
    /// How large the content is.
    pub size_bytes: u64,
    /// How many pages it has.
    pub pages: u64,
}

/// A document that lies in the vault and waits for its row.
#[derive(Debug)]
#[must_use = "without its row the document is swept away"]
pub struct Sealed {
    document: Document,
    at: OffsetDateTime,
}

/// A document cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The establishment has no key any more, or it does not open.
    #[error("the key of establishment {0} does not open")]
    Key(EstablishmentId),
}

/// SHA-256 as receipts show it: 64 hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the key that an establishment's documents lie under.
pub async fn establishment_key(
    app: &App,
    establishment: EstablishmentId,
) -> Result<EstablishmentKey, CustodyError> {
    let sealed = store::sealed_key(&app.db, establishment)
        .await?
        .ok_or(CustodyError::Key(establishment))?;
    EstablishmentKey::open(&sealed, &app.keys, establishment)
        .map_err(|_| CustodyError::Key(establishment))
}

/// Seals a document and puts it into the vault. It counts only when [`store::record`] has
/// written its row; until then [`discard`] takes it back.
pub async fn seal(
    app: &App,
    establishment: EstablishmentId,
    file_name: &str,
    bytes: Vec<u8>,
    pages: usize,
) -> Result<Sealed, CustodyError> {
    let key = establishment_key(app, establishment).await?;
    let document = Document {
        id: DocumentId::new(),
        establishment,
        file_name: file_name.to_owned(),
        sha256: sha256_hex(&bytes),
        size_bytes: bytes.len() as u64,
        pages: pages as u64,
    };
    let at = app.clock.now();
    app.vault.put(document.id, &key, bytes).await?;
    Ok(Sealed { document, at })
}

/// Reads a document, whole and checked.
pub async fn read(app: &App, document: &Document) -> Result<Vec<u8>, CustodyError> {
    let key = establishment_key(app, document.establishment).await?;
    Ok(app.vault.get(document.id, &key).await?)
}

/// Takes back documents whose rows will not be written. Failing is no loss: the sweeper
/// comes later.
pub async fn discard(app: &App, sealed: impl IntoIterator<Item = Sealed>) {
    remove_objects(app, sealed.into_iter().map(|sealed| sealed.document.id)).await;
}

/// Removes objects whose rows are gone. Failing is no loss: the sweeper comes later.
pub async fn remove_objects(app: &App, ids: impl IntoIterator<Item = DocumentId>) {
    for id in ids {
        if let Err(error) = app.vault.delete(id).await {
            tracing::warn!(%id, %error, "an object stays for the sweeper");
        }
    }
}

/// Removes every object that is older than [`ORPHAN_AGE`] and that no row knows. Returns how
/// many there were.
pub async fn sweep(app: &App, now: OffsetDateTime) -> Result<usize, CustodyError> {
    let mut swept = 0;
    for id in app.vault.put_before(now - ORPHAN_AGE).await? {
        if !store::is_known(&app.db, id).await? {
            app.vault.delete(id).await?;
            swept += 1;
        }
    }
    Ok(swept)
}

impl Sealed {
    /// The row to come.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Whether it waited so long for its row that the sweeper may come: it must be sealed anew.
    pub fn is_stale(&self, now: OffsetDateTime) -> bool {
        now - self.at > ROW_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::db::Db;
    use crate::testing::worlds;

    #[tokio::test]
    async fn a_document_comes_back_under_its_establishments_key_and_no_other() {
        for world in worlds().await {
            let app = &world.app;
            let sealed = seal(app, world.alpha, "a.pdf", b"text".to_vec(), 3)
                .await
                .unwrap();
            let mut tx = app.db.begin().await.unwrap();
            let id = store::record(&mut tx, sealed, app.clock.now())
                .await
                .unwrap();
            Db::commit(tx).await.unwrap();
            let found = store::find(&app.db, id).await.unwrap().unwrap();
            assert_eq!(read(app, &found).await.unwrap(), b"text");
            assert_eq!((found.size_bytes, found.pages), (4, 3));
            assert_eq!(found.sha256, sha256_hex(b"text"));
            let foreign = Document {
                establishment: world.beta,
                ..found
            };
            assert!(matches!(
                read(app, &foreign).await,
                Err(CustodyError::Vault(VaultError::Seal { .. }))
            ));
        }
    }

    #[tokio::test]
    async fn the_sweeper_leaves_what_waits_for_its_row_longer_than_checks_ever_take() {
        for world in worlds().await {
            let app = &world.app;
            let sealed = seal(app, world.alpha, "slow.pdf", b"slow".to_vec(), 1)
                .await
                .unwrap();
            let later = |hours| Clock::System.now() + Duration::hours(hours);
            assert_eq!(sweep(app, later(47)).await.unwrap(), 0);
            assert!(!sealed.is_stale(app.clock.now() + ROW_LIMIT));
            assert!(sealed.is_stale(app.clock.now() + ORPHAN_AGE / 2 + Duration::SECOND));
            assert_eq!(sweep(app, later(49)).await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn the_sweeper_takes_what_no_row_knows_and_only_that() {
        for world in worlds().await {
            let app = &world.app;
            let kept = seal(app, world.alpha, "kept.pdf", b"kept".to_vec(), 1)
                .await
                .unwrap();
            let lost = seal(app, world.alpha, "lost.pdf", b"lost".to_vec(), 1)
                .await
                .unwrap();
            let lost = lost.document().clone();
            let mut tx = app.db.begin().await.unwrap();
            let kept = store::record(&mut tx, kept, app.clock.now()).await.unwrap();
            Db::commit(tx).await.unwrap();

            // Objects carry the disk's time, so the sweeper is asked about the far future and
            // about the past.
            let past = OffsetDateTime::UNIX_EPOCH;
            let future = time::macros::datetime!(2100-01-01 0:00 UTC);
            assert_eq!(sweep(app, past).await.unwrap(), 0);
            assert_eq!(sweep(app, future).await.unwrap(), 1);
            assert!(read(app, &lost).await.is_err());
            let kept = store::find(&app.db, kept).await.unwrap().unwrap();
            assert_eq!(read(app, &kept).await.unwrap(), b"kept");
        }
    }
}
