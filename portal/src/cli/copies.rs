//! `portal backup`, `portal restore`, `portal audit verify`

use std::path::Path;

use portal::audit;
use portal::backup;
use portal::clock::Clock;

use super::Prepared;

/// Copies everything into a folder.
pub(super) async fn backup(prepared: Prepared, out: &Path) -> anyhow::Result<()> {
    let db = prepared.database().await?;
    let documents = &prepared.config.documents_dir;
    let now = Clock::System.now();
    let manifest = backup::backup(&db, &prepared.keys, documents, out, now).await?;
    println!("{} in {}", summary(&manifest), out.display());
    println!("The master key is not in it: keep it elsewhere.");
    Ok(())
}

/// Restores a copy, and checks its audit log.
pub(super) async fn restore(prepared: Prepared, from: &Path) -> anyhow::Result<()> {
    let db = prepared.database().await?;
    let documents = &prepared.config.documents_dir;
    let manifest = backup::restore(&db, documents, from).await?;
    println!("{} restored", summary(&manifest));
    let rows = audit::verify(&db, &prepared.keys).await?;
    println!("audit log: {rows} rows, unbroken");
    Ok(())
}

/// Checks the audit log.
pub(super) async fn verify(prepared: Prepared) -> anyhow::Result<()> {
    let db = prepared.database().await?;
    let rows = audit::verify(&db, &prepared.keys).await?;
    println!("audit log: {rows} rows, unbroken");
    Ok(())
}

fn summary(manifest: &backup::Manifest) -> String {
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    let bytes: u64 = manifest.documents.iter().map(|file| file.bytes).sum();
    format!(
        "{} tables with {rows} rows, {} documents with {bytes} bytes",
        manifest.tables.len(),
        manifest.documents.len()
    )
}
