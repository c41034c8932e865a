//! `portal records …`: what is done with packs of records outside the pages.

use std::path::Path;

use anyhow::Context as _;
use portal::keys::MasterKey;
use portal::records::pack::Signer;
use portal::records::verify::verify;

/// Verifies a pack and says whose it is.
pub(super) fn check(path: &Path, public_key: &str) -> anyhow::Result<()> {
    let manifest = verify(path, public_key)
        .with_context(|| format!("{} is not what the fund made", path.display()))?;
    println!(
        "valid: {} files, made at {} by {} for {}",
        manifest.files.len(),
        manifest.made_at,
        manifest.fund,
        manifest.holder
    );
    Ok(())
}

/// The key that packs are verified with, in base64.
pub(super) fn public_key(keys: &MasterKey) -> anyhow::Result<String> {
    Ok(Signer::of(keys)?.public_key())
}
