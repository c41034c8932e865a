//! Where documents lie, and the keys that they lie under.
//!
//! Three keys stand one above the other. Each document has a data key of its own; the
//! establishment's key wraps it; the master key, which is in no database and no backup of
//! one, wraps that. Whoever takes the disk and the database reads nothing; whoever destroys
//! an establishment's wrapped key destroys its documents.
//!
//! A document is a whole: it is written at once and for good, and read back entirely, checked
//! to the last byte, or not at all. Nothing here knows what a document is about or who may
//! read it: the feature that calls asks its own store first.

mod keys;
mod sealed;

use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::ids::DocumentId;
pub use keys::EstablishmentKey;
pub use sealed::{DOCUMENT_LIMIT_BYTES, SealError};

/// Why a document cannot be put away or taken out.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no such document.
    #[error("document {0} does not exist")]
    Missing(DocumentId),
    /// There is one already; documents never change.
    #[error("document {0} exists already")]
    Exists(DocumentId),
    /// It was changed, cut, or belongs to another key.
    #[error("document {id}")]
    Seal {
        /// Which document.
        id: DocumentId,
        /// What is wrong with it.
        #[source]
        source: SealError,
    },
    /// The disk or the bucket fails.
    #[error("the document store fails")]
    Store(#[source] object_store::Error),
    /// The work was interrupted because the program stops.
    #[error("sealing was interrupted")]
    Interrupted,
}

impl VaultError {
    /// What happened and what to do next, for the person in front of the page.
    pub fn page_text(&self) -> &'static str {
        match self {
            Self::Missing(_) => "この書類は見つかりません。すでに廃棄された可能性があります。",
            Self::Exists(_) | Self::Interrupted => {
                "書類を保存できませんでした。しばらくしてから、もう一度お試しください。"
            }
            Self::Seal { .. } => {
                "書類の保管データを確認できないため、表示できません。基金事務局へお問い合わせください。"
            }
            Self::Store(error) if is_full(error) => {
                "書類の保管場所に空きがないため、保存できませんでした。基金事務局へお知らせください。"
            }
            Self::Store(_) => {
                "書類の保管場所を利用できません。しばらくしてから、もう一度お試しください。"
            }
        }
    }
}

/// Whether the disk has no room left.
fn is_full(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            );
        }
        cause = error.source();
    }
    false
}

/// Under which all documents lie.
const FOLDER: &str = "documents";

/// The place where documents lie sealed: a folder, or a bucket.
#[derive(Debug, Clone)]
pub struct Vault {
    store: Arc<dyn ObjectStore>,
}

impl Vault {
    /// Keeps documents in any object store. It must make an object durable before it says
    /// that it has it, as S3 does; for folders use [`Vault::in_folder`].
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Keeps documents in a folder, which is made if it is missing. Each is written beside its
    /// place, synced, moved there, and the folder synced, before `put` returns: after that a
    /// power cut takes nothing. (A cut before it may leave a file with `#` in its name, which
    /// is never read.)
    ///
    /// # Errors
    /// [`VaultError::Store`] if the folder cannot be made.
    pub fn in_folder(folder: &Path) -> Result<Self, VaultError> {
        let made = std::fs::create_dir_all(folder).map_err(|source| {
            VaultError::Store(object_store::Error::Generic {
                store: "folder",
                source: Box::new(source),
            })
        });
        made?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(VaultError::Store)?;
        Ok(Self::new(Arc::new(store.with_fsync(true))))
    }

    /// Seals a document and puts it away for good.
    ///
    /// # Errors
    /// [`VaultError::Exists`] if there is a document under this identifier: documents are
    /// never changed; [`VaultError::Store`] if it could not be kept, in which case nothing
    /// of it is.
    pub async fn put(
        &self,
        id: DocumentId,
        key: &EstablishmentKey,
        bytes: Vec<u8>,
    ) -> Result<(), VaultError> {
        let key = key.clone();
        let bytes = Zeroizing::new(bytes);
        let sealed = blocking(id, move || sealed::seal(id, &key, &bytes)).await?;
        let options = PutOptions::from(PutMode::Create);
        self.store
            .put_opts(&place(id), PutPayload::from(sealed), options)
            .await
            .map(|_| ())
            .map_err(|error| match error {
                object_store::Error::AlreadyExists { .. } => VaultError::Exists(id),
                error => VaultError::Store(error),
            })
    }

    /// Takes a document out and checks it to the last byte.
    ///
    /// # Errors
    /// [`VaultError::Missing`], or [`VaultError::Seal`] if a single bit of it is not what was
    /// put away under this identifier and key.
    pub async fn get(&self, id: DocumentId, key: &EstablishmentKey) -> Result<Vec<u8>, VaultError> {
        let missing_or = |error| match error {
            object_store::Error::NotFound { .. } => VaultError::Missing(id),
            error => VaultError::Store(error),
        };
        let object = self.store.get(&place(id)).await.map_err(missing_or)?;
        if object.meta.size > sealed::SEALED_LIMIT_BYTES {
            return Err(VaultError::Seal {
                id,
                source: SealError::Changed,
            });
        }
        let sealed = object.bytes().await.map_err(missing_or)?;
        let key = key.clone();
        blocking(id, move || sealed::open(id, &key, &sealed)).await
    }

    /// Lists what was put away before `limit`, for the sweeper that looks for documents nobody
    /// knows of. Objects with other names than ours are left alone.
    ///
    /// # Errors
    /// [`VaultError::Store`] if the list cannot be had.
    pub async fn put_before(&self, limit: OffsetDateTime) -> Result<Vec<DocumentId>, VaultError> {
        let limit_s = limit.unix_timestamp();
        let folder = object_store::path::Path::from(FOLDER);
        let mut found = Vec::new();
        let mut objects = self.store.list(Some(&folder));
        while let Some(object) = objects.try_next().await.map_err(VaultError::Store)? {
            let id = object
                .location
                .filename()
                .and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|_| object.last_modified.timestamp() < limit_s) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Removes a document. That it is gone already is no error: what removes documents may be
    /// interrupted and begin again.
    ///
    /// # Errors
    /// [`VaultError::Store`] if it may still be there.
    pub async fn delete(&self, id: DocumentId) -> Result<(), VaultError> {
        match self.store.delete(&place(id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(VaultError::Store(error)),
        }
    }
}

/// Where a document lies. Folders are named by the end of the identifier, which is random.
fn place(id: DocumentId) -> object_store::path::Path {
    let id = id.as_uuid().simple().to_string();
    object_store::path::Path::from(format!("{FOLDER}/{}/{id}", &id[id.len() - 2..]))
}

/// Seals or opens where it holds nobody up.
async fn blocking(
    id: DocumentId,
    work: impl FnOnce() -> Result<Vec<u8>, SealError> + Send + 'static,
) -> Result<Vec<u8>, VaultError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| VaultError::Interrupted)?
        .map_err(|source| VaultError::Seal { id, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn key() -> EstablishmentKey {
        EstablishmentKey::generate()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }

    #[tokio::test]
    async fn what_was_put_away_comes_back_and_the_disk_does_not_show_it() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::in_folder(&folder.path().join("documents")).unwrap();
        let (id, key) = (DocumentId::new(), key());
        let text = "髙﨑一郎 ".repeat(50_000).into_bytes();
        vault.put(id, &key, text.clone()).await.unwrap();
        assert_eq!(vault.get(id, &key).await.unwrap(), text);
        let kept = files(folder.path());
        assert_eq!(kept.len(), 1);
        let disk = fs::read(&kept[0]).unwrap();
        assert!(memchr::memmem::find(&disk, "髙﨑".as_bytes()).is_none());
    }

    #[tokio::test]
    async fn a_document_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::in_folder(folder.path()).unwrap();
        let (id, key) = (DocumentId::new(), key());
        vault.put(id, &key, b"first".to_vec()).await.unwrap();
        let again = vault.put(id, &key, b"second".to_vec()).await;
        assert!(matches!(again, Err(VaultError::Exists(_))));
        assert_eq!(vault.get(id, &key).await.unwrap(), b"first");
    }

    #[tokio::test]
    async fn documents_that_changed_places_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::in_folder(folder.path()).unwrap();
        let (one, two, key) = (DocumentId::new(), DocumentId::new(), key());
        vault.put(one, &key, b"one".to_vec()).await.unwrap();
        vault.put(two, &key, b"two".to_vec()).await.unwrap();
        let path = |id| folder.path().join(place(id).as_ref());
        fs::copy(path(one), path(two)).unwrap();
        assert!(vault.get(one, &key).await.is_ok());
        assert!(matches!(
            vault.get(two, &key).await,
            Err(VaultError::Seal { .. })
        ));
    }

    #[tokio::test]
    async fn what_was_deleted_is_missing_and_can_be_deleted_again() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::in_folder(folder.path()).unwrap();
        let (id, key) = (DocumentId::new(), key());
        vault.put(id, &key, b"text".to_vec()).await.unwrap();
        vault.delete(id).await.unwrap();
        assert!(matches!(
            vault.get(id, &key).await,
            Err(VaultError::Missing(_))
        ));
        vault.delete(id).await.unwrap();
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn only_what_is_older_than_the_limit_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::in_folder(folder.path()).unwrap();
        let (id, key) = (DocumentId::new(), key());
        vault.put(id, &key, b"text".to_vec()).await.unwrap();
        let listed = |limit| vault.put_before(limit);
        assert_eq!(
            listed(OffsetDateTime::UNIX_EPOCH).await.unwrap(),
            Vec::<DocumentId>::new()
        );
        let later = time::macros::datetime!(2100-01-01 0:00 UTC);
        assert_eq!(listed(later).await.unwrap(), vec![id]);
    }

    #[test]
    fn a_full_disk_has_a_sentence_of_its_own() {
        let failed = |kind: std::io::ErrorKind| {
            VaultError::Store(object_store::Error::Generic {
                store: "LocalFileSystem",
                source: Box::new(std::io::Error::from(kind)),
            })
        };
        let full = failed(std::io::ErrorKind::StorageFull);
        assert!(full.page_text().contains("空きがない"));
        let other = failed(std::io::ErrorKind::PermissionDenied);
        assert!(!other.page_text().contains("空き"));
    }
}
