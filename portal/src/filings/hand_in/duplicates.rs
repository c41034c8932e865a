//! Filings whose content was filed before.

use super::{HandIn, Passed};
use crate::db::{StoreError, Tx};
use crate::establishments;
use crate::filings::FilingName;
use crate::filings::store::{self, SameContent};
use crate::ids::UploadId;
use crate::web::principals::Member;

/// One filing that was filed before.
#[derive(Debug)]
pub struct Duplicate {
    /// Which file it came in.
    pub upload: UploadId,
    /// Its name.
    pub name: FilingName,
    /// The earlier one; `None`: it is in this submission twice.
    pub earlier: Option<SameContent>,
}

/// Looks for what was filed before. Nobody files for the establishment until the transaction
/// ends: of two people who send the same at once, the second is asked.
pub(super) async fn find_duplicates(
    tx: &mut Tx,
    member: &Member,
    request: &HandIn,
    passed: &[Passed],
) -> Result<Vec<Duplicate>, StoreError> {
    establishments::store::lock(tx, member.establishment()).await?;
    let mut duplicates = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (asked, file) in request.files.iter().zip(passed) {
        for filing in &file.filings {
            let sha256 = filing.sealed.document().sha256.as_str();
            let duplicate = |earlier| Duplicate {
                upload: asked.upload,
                name: filing.name,
                earlier,
            };
            let content = filing.content_sha256.as_deref().unwrap_or(sha256);
            if seen.contains(&sha256) || seen.contains(&content) {
                duplicates.push(duplicate(None));
            }
            seen.extend([sha256, content]);
            let content = filing.content_sha256.as_deref().unwrap_or_default();
            let earlier = store::same_content(tx, member, sha256, content).await?;
            if let Some(earlier) = earlier.into_iter().next() {
                duplicates.push(duplicate(Some(earlier)));
            }
        }
    }
    Ok(duplicates)
}
