//! A copy of everything, and the way back.
//!
//! A copy is a folder: each table as lines of JSON, the sealed documents as they lie, and a
//! manifest with checksums. The tables are read in one transaction, so the copy is one state
//! of the portal, and no database's own format is in it: what was copied from SQLite can be
//! restored into PostgreSQL. The master key is *not* in the copy, and without it the copy
//! shows no code, no key and no document.
//!
//! Called by the command line.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::audit::{self, Act, Actor};
use crate::clock::unix_ms;
use crate::db::{self, Db, StoreError};
use crate::keys::MasterKey;

mod files;
mod rows;

/// The format of the folder.
const FORMAT: u32 = 1;
/// The manifest's file.
const MANIFEST: &str = "manifest.json";
/// The folder with a file per table.
const TABLES: &str = "tables";
/// The folder with the sealed documents.
const DOCUMENTS: &str = "documents";

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The program's version that made it.
    pub program: String,
    /// The version of the schema.
    pub schema: i64,
    /// When it was made, Unix milliseconds.
    pub made_ms: i64,
    /// The tables.
    pub tables: Vec<TableFile>,
    /// The documents.
    pub documents: Vec<DocumentFile>,
}

/// One table of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// Its name.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
}

/// One sealed document of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentFile {
    /// Where it lies in the documents' folder.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A copy cannot be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something where nothing may be.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// The database to restore into is in use.
    #[error("the database is not empty: table {0} has rows")]
    DatabaseInUse(String),
    /// Not a copy that this program understands.
    #[error("{path} is no copy that this program understands: {reason}")]
    NotACopy {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the copy was changed or damaged.
    #[error("{0} does not have the checksum in the manifest")]
    Damaged(PathBuf),
    /// The thread that works on files ended.
    #[error("the copying was interrupted")]
    Interrupted,
}

/// Copies everything into `out`, a folder that is new or empty.
pub async fn backup(
    db: &Db,
    keys: &MasterKey,
    documents_dir: &Path,
    out: &Path,
    now: OffsetDateTime,
) -> Result<Manifest, BackupError> {
    files::make_empty_folder(out)?;
    files::make_empty_folder(&out.join(TABLES))?;
    // Written first, so that the copy itself says that it was made.
    let mut tx = db.begin().await?;
    audit::record(&mut tx, keys, &Actor::CommandLine, Act::BackedUp, now).await?;
    Db::commit(tx).await?;

    let mut tables = Vec::new();
    let mut tx = db.begin_snapshot().await?;
    for table in db::tables() {
        tables.push(rows::dump(&mut tx, table, &table_file(out, table)).await?);
    }
    drop(tx);
    // After the tables: whatever a row refers to was stored before the row.
    let (from, to) = (documents_dir.to_owned(), out.join(DOCUMENTS));
    let documents = blocking(move || files::copy_all(&from, &to)).await?;
    let manifest = Manifest {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        schema: db::schema_version(),
        made_ms: unix_ms(now),
        tables,
        documents,
    };
    files::write_manifest(&out.join(MANIFEST), &manifest)?;
    Ok(manifest)
}

/// Restores a copy into an empty, migrated database and an empty folder. Nothing is written
/// unless every checksum fits; the database changes only when everything is in place.
pub async fn restore(db: &Db, documents_dir: &Path, from: &Path) -> Result<Manifest, BackupError> {
    let manifest = files::read_manifest(&from.join(MANIFEST))?;
    check(&manifest, from).await?;
    let mut tx = db.begin().await?;
    for table in db::tables() {
        if !rows::is_untouched(&mut tx, table).await? {
            return Err(BackupError::DatabaseInUse(table.to_owned()));
        }
    }
    files::make_empty_folder(documents_dir)?;
    for table in db::tables() {
        // A table that is newer than the copy has no file in it.
        if manifest.tables.iter().any(|known| known.table == table) {
            rows::load(&mut tx, table, &table_file(from, table)).await?;
        }
    }
    let (source, target) = (from.join(DOCUMENTS), documents_dir.to_owned());
    blocking(move || files::copy_all(&source, &target)).await?;
    Db::commit(tx).await?;
    Ok(manifest)
}

/// Checks every file of the copy against the manifest.
async fn check(manifest: &Manifest, from: &Path) -> Result<(), BackupError> {
    let not_a_copy = |reason: String| BackupError::NotACopy {
        path: from.join(MANIFEST),
        reason,
    };
    if manifest.format != FORMAT {
        return Err(not_a_copy(format!("format {}", manifest.format)));
    }
    if manifest.schema > db::schema_version() {
        return Err(not_a_copy(format!(
            "it was made by a newer program ({})",
            manifest.program
        )));
    }
    let mut files = Vec::new();
    for table in &manifest.tables {
        if !db::tables().any(|known| known == table.table) {
            return Err(not_a_copy(format!("unknown table {:?}", table.table)));
        }
        files.push((table_file(from, &table.table), table.sha256.clone()));
    }
    for document in &manifest.documents {
        let path = files::inside(&from.join(DOCUMENTS), &document.path)
            .ok_or_else(|| not_a_copy(format!("path {:?}", document.path)))?;
        files.push((path, document.sha256.clone()));
    }
    blocking(move || {
        for (path, expected) in files {
            if files::sha256(&path)?.1 != expected {
                return Err(BackupError::Damaged(path));
            }
        }
        Ok(())
    })
    .await
}

fn table_file(folder: &Path, table: &str) -> PathBuf {
    folder.join(TABLES).join(format!("{table}.jsonl"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| BackupError::Interrupted)?
}

#[cfg(test)]
mod tests;
