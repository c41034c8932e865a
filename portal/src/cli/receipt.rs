//! `portal receipt key` and `portal receipt verify`

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use portal::app::App;
use portal::receipts::{PublicKey, seal, store};

/// The largest file that is taken for a receipt, in bytes.
const FILE_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Prints the fund's public key.
pub(super) async fn key(app: &App) -> anyhow::Result<()> {
    let key = store::public_key(&app.db, &app.keys, app.clock.now()).await?;
    println!("{}", key.to_base64());
    Ok(())
}

/// Says whether a file is a receipt as the fund made it.
pub(super) fn verify(file: &Path, key: &str) -> anyhow::Result<()> {
    let key = match PublicKey::from_base64(key) {
        Ok(key) => key,
        Err(_) => {
            let text = std::fs::read_to_string(key)
                .with_context(|| format!("{key} is neither a key nor a file with one"))?;
            PublicKey::from_base64(&text)?
        }
    };
    let reading = || format!("cannot read {}", file.display());
    let mut pdf = Vec::new();
    File::open(file)
        .with_context(reading)?
        .take(FILE_LIMIT_BYTES + 1)
        .read_to_end(&mut pdf)
        .with_context(reading)?;
    ensure!(
        pdf.len() as u64 <= FILE_LIMIT_BYTES,
        "the file is too large for a receipt"
    );
    let facts = seal::verify(&pdf, key).context("INVALID")?;
    println!("VALID: as the fund made it");
    println!("number: {}", facts.number);
    println!("establishment: {}", facts.establishment);
    println!("received: {}", facts.received);
    println!("counts in: {}", facts.counts);
    println!("code: {}", facts.code);
    Ok(())
}
