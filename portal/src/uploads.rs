//! Uploads: files on their way in, in parts that survive a cut connection.
//!
//! The protocol is shaped after tus 1.0 (core, creation, expiration, termination): `POST`
//! makes an upload, `HEAD` tells how much has arrived, `PATCH` brings the next part, `DELETE`
//! takes it back. An upload belongs to an establishment and a user, not to a session: what
//! the end of a session cut off goes on in the next one.
//!
//! Here are the rules. A part counts as a whole or not at all, and only at the offset where
//! the last one ended, so that no order of retries can put wrong bytes together. Parts lie
//! sealed in the vault like documents.

pub mod pages;
pub mod store;

use time::{Duration, OffsetDateTime};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use self::store::Part;
use crate::app::App;
use crate::custody::{self, CustodyError};
use crate::db::{Db, StoreError};
use crate::filings::names::NAME_LIMIT_CHARS;
use crate::filings::{check, individual_number};
use crate::ids::{DocumentId, SubmissionId, UploadId};
use crate::web::principals::Member;

/// How large a file may be. The check that follows takes no larger ones; better to say so
/// before the upload than after it.
pub const FILE_LIMIT_BYTES: u64 = check::UPLOAD_LIMIT_BYTES as u64;
/// How large one part may be.
pub const PART_LIMIT_BYTES: u64 = 8 * 1024 * 1024;
/// How many uploads a user may have open.
pub const OPEN_LIMIT: i64 = 20;
/// How many bytes an establishment's open uploads may have together.
pub const QUOTA_BYTES: i64 = 4 * 1024 * 1024 * 1024;
/// How long an upload is kept: over a weekend and the holidays after it.
pub const LIFETIME: Duration = Duration::days(7);

/// A file's name at the sender's: shown back to him, never used as a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

/// An upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// The file's name at the sender's.
    pub file_name: String,
    /// How many bytes the file has.
    pub length_bytes: u64,
    /// How many of them have arrived.
    pub offset_bytes: u64,
    /// When it is thrown away.
    pub expires: OffsetDateTime,
    /// The receipt that it led to.
    pub submission: Option<SubmissionId>,
}

/// Why an upload cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// No name, or one with control characters, or one that no file system makes.
    #[error("the file's name cannot be used")]
    Name,
    /// An individual number stands in the name.
    #[error("an individual number stands in the file's name")]
    IndividualNumber,
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Larger than [`FILE_LIMIT_BYTES`].
    #[error("the file is larger than {FILE_LIMIT_BYTES} bytes")]
    TooLarge,
    /// The user has [`OPEN_LIMIT`] already.
    #[error("the user has {OPEN_LIMIT} open uploads")]
    TooMany,
    /// The establishment's open uploads would have more than [`QUOTA_BYTES`].
    #[error("the establishment's open uploads would exceed {QUOTA_BYTES} bytes")]
    QuotaUsed,
}

/// Why a part is not taken. Nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// It does not begin where the last one ended.
    #[error("the part begins at {given}, not at {expected}")]
    WrongOffset {
        /// Where it begins.
        given: u64,
        /// Where it should.
        expected: u64,
    },
    /// It goes beyond the end of the file.
    #[error("the part goes beyond the end of the file")]
    BeyondEnd,
    /// Larger than [`PART_LIMIT_BYTES`].
    #[error("the part is larger than {PART_LIMIT_BYTES} bytes")]
    TooLarge,
    /// The file was handed in already.
    #[error("the upload was handed in already")]
    HandedIn,
}

impl FileName {
    /// Takes over a name: without a path, in NFC.
    pub fn parse(text: &str) -> Result<Self, CreateError> {
        let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
        let name: String = last.trim().nfc().collect();
        if name.is_empty()
            || name.chars().count() > NAME_LIMIT_CHARS
            || name.chars().any(char::is_control)
        {
            return Err(CreateError::Name);
        }
        if individual_number::occurs_in_name(&name) {
            return Err(CreateError::IndividualNumber);
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Says whether a file of this size may be uploaded.
pub fn check_length(length_bytes: u64) -> Result<(), CreateError> {
    match length_bytes {
        0 => Err(CreateError::Empty),
        1..=FILE_LIMIT_BYTES => Ok(()),
        _ => Err(CreateError::TooLarge),
    }
}

impl Upload {
    /// Says whether everything has arrived.
    pub fn is_complete(&self) -> bool {
        self.offset_bytes == self.length_bytes
    }

    /// How many bytes a part that begins at `offset` may have.
    pub fn room_at(&self, offset: u64) -> Result<u64, PartError> {
        if self.submission.is_some() {
            return Err(PartError::HandedIn);
        }
        if offset != self.offset_bytes {
            return Err(PartError::WrongOffset {
                given: offset,
                expected: self.offset_bytes,
            });
        }
        Ok((self.length_bytes - self.offset_bytes).min(PART_LIMIT_BYTES))
    }

    /// Says why a part that begins at the right place and has more than [`Upload::room_at`] is
    /// refused.
    pub fn overflow(&self) -> PartError {
        if self.length_bytes - self.offset_bytes > PART_LIMIT_BYTES {
            PartError::TooLarge
        } else {
            PartError::BeyondEnd
        }
    }
}

/// An upload cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part cannot be read.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The parts do not make up the file.
    #[error("the parts of upload {0} do not make up its file")]
    Parts(UploadId),
}

/// Puts a complete upload together, every part checked and in its place.
pub async fn content(
    app: &App,
    member: &Member,
    upload: &Upload,
) -> Result<Zeroizing<Vec<u8>>, ContentError> {
    let parts = store::parts(&app.db, upload).await?;
    let key = custody::establishment_key(app, member.establishment()).await?;
    let length = usize::try_from(upload.length_bytes.min(FILE_LIMIT_BYTES)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        let opened = app.vault.get(part.object, &key).await;
        let opened = Zeroizing::new(opened.map_err(CustodyError::from)?);
        if part.start_bytes != bytes.len() as u64 || part.length_bytes != opened.len() as u64 {
            return Err(ContentError::Parts(upload.id));
        }
        bytes.extend_from_slice(&opened);
    }
    if bytes.len() as u64 == upload.length_bytes {
        Ok(bytes)
    } else {
        Err(ContentError::Parts(upload.id))
    }
}

/// Takes a whole file that came with a form: in the same parts, sealed, as if it had come in
/// them.
///
/// # Errors
/// If it cannot be kept; then nothing of it counts.
pub async fn take_whole(
    app: &App,
    member: &Member,
    name: &FileName,
    bytes: &[u8],
    now: OffsetDateTime,
) -> Result<Result<Upload, CreateError>, CustodyError> {
    let length = bytes.len() as u64;
    if let Err(error) = check_length(length) {
        return Ok(Err(error));
    }
    let mut parts = Vec::new();
    let kept = seal_parts(app, member, bytes, &mut parts).await;
    let written = match kept {
        Ok(()) => write_whole(app, member, name, length, &parts, now).await,
        Err(error) => Err(error),
    };
    if !matches!(written, Ok(Ok(_))) {
        let objects: Vec<_> = parts.iter().map(|part| part.object).collect();
        custody::remove_objects(app, objects).await;
    }
    written
}

async fn seal_parts(
    app: &App,
    member: &Member,
    bytes: &[u8],
    parts: &mut Vec<Part>,
) -> Result<(), CustodyError> {
    let key = custody::establishment_key(app, member.establishment()).await?;
    let part_bytes = usize::try_from(PART_LIMIT_BYTES).unwrap_or(usize::MAX);
    for (number, part) in bytes.chunks(part_bytes).enumerate() {
        let object = DocumentId::new();
        parts.push(Part {
            start_bytes: number as u64 * PART_LIMIT_BYTES,
            length_bytes: part.len() as u64,
            object,
        });
        app.vault.put(object, &key, part.to_vec()).await?;
    }
    Ok(())
}

async fn write_whole(
    app: &App,
    member: &Member,
    name: &FileName,
    length: u64,
    parts: &[Part],
    now: OffsetDateTime,
) -> Result<Result<Upload, CreateError>, CustodyError> {
    let mut tx = app.db.begin().await?;
    let mut upload = match store::create(&mut tx, member, name, length, now).await? {
        Ok(upload) => upload,
        Err(error) => return Ok(Err(error)),
    };
    for part in parts {
        store::add_part(&mut tx, member, upload.id, part, now).await?;
    }
    Db::commit(tx).await?;
    upload.offset_bytes = length;
    Ok(Ok(upload))
}

/// Takes an upload back and removes what came of it. False if it is not there, or was handed
/// in.
///
/// # Errors
/// If the database failed.
pub async fn discard(app: &App, member: &Member, id: UploadId) -> Result<bool, StoreError> {
    let mut tx = app.db.begin().await?;
    let Some(objects) = store::remove(&mut tx, member, id).await? else {
        return Ok(false);
    };
    Db::commit(tx).await?;
    custody::remove_objects(app, objects).await;
    Ok(true)
}

/// Throws away what has expired.
pub async fn purge(app: &App, now: OffsetDateTime) -> Result<(), StoreError> {
    loop {
        let mut tx = app.db.begin().await?;
        let (objects, more) = store::purge(&mut tx, now).await?;
        Db::commit(tx).await?;
        custody::remove_objects(app, objects).await;
        if !more {
            return Ok(());
        }
    }
}

impl CreateError {
    /// What is wrong and what to do, for the sender.
    pub fn page_text(self) -> String {
        match self {
            Self::Name => "ファイル名を読み取れません。ファイルの名前を変えてから、もう一度選んでください。".into(),
            Self::IndividualNumber => "ファイル名に個人番号（マイナンバー）と思われる12桁の数字があります。数字を除いた名前に変えてから、もう一度選んでください。このファイルは受け取っていません。".into(),
            Self::Empty => "ファイルの中身が空です。正しいファイルを選んでください。".into(),
            Self::TooLarge => format!(
                "ファイルが大きすぎます（{}MBまで）。分けてお送りください。",
                FILE_LIMIT_BYTES / (1024 * 1024)
            ),
            Self::TooMany => format!(
                "送信の途中のファイルが{OPEN_LIMIT}個あります。先に提出するか、不要なものを取り消してから選んでください。"
            ),
            Self::QuotaUsed => "事業所全体で、送信の途中のファイルが多すぎます。先に提出するか、しばらくしてからお試しください。".into(),
        }
    }
}

impl PartError {
    /// What is wrong and what to do, for the sender; shown when retrying does not help.
    pub fn page_text(self) -> String {
        match self {
            Self::WrongOffset { .. } => {
                "送信の続きの位置が合いませんでした。もう一度お試しください。".into()
            }
            Self::BeyondEnd => {
                "送信中にファイルの大きさが変わりました。ファイルを閉じてから、選び直してください。"
                    .into()
            }
            Self::TooLarge => "一度に送る量が大きすぎます。画面を再読み込みしてください。".into(),
            Self::HandedIn => {
                "このファイルはすでに提出されています。提出履歴をご確認ください。".into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(length_bytes: u64, offset_bytes: u64) -> Upload {
        Upload {
            id: UploadId::new(),
            file_name: "a.zip".into(),
            length_bytes,
            offset_bytes,
            expires: OffsetDateTime::UNIX_EPOCH,
            submission: None,
        }
    }

    #[test]
    fn a_part_fits_only_where_the_last_one_ended() {
        let upload = upload(100, 40);
        assert_eq!(upload.room_at(40), Ok(60));
        for given in [0, 39, 41, 100, u64::MAX] {
            let expected = 40;
            assert_eq!(
                upload.room_at(given),
                Err(PartError::WrongOffset { given, expected })
            );
        }
    }

    #[test]
    fn a_large_file_comes_in_parts_of_the_limit() {
        let upload = upload(FILE_LIMIT_BYTES, 0);
        assert_eq!(upload.room_at(0), Ok(PART_LIMIT_BYTES));
        assert_eq!(upload.overflow(), PartError::TooLarge);
    }

    #[test]
    fn what_was_handed_in_takes_no_more_parts() {
        let upload = Upload {
            submission: Some(SubmissionId::new()),
            ..upload(100, 40)
        };
        assert_eq!(upload.room_at(40), Err(PartError::HandedIn));
    }

    #[test]
    fn names_lose_their_path_and_come_in_nfc() {
        let name = |text| FileName::parse(text).map(|name| name.0);
        assert_eq!(
            name("C:\\届書\\20240524_0123_資格取得届.zip").unwrap(),
            "20240524_0123_資格取得届.zip"
        );
        assert_eq!(name("か\u{3099}.pdf").unwrap(), "が.pdf");
        let numbered = name("個人番号 1234-5678-9018.pdf");
        assert_eq!(numbered, Err(CreateError::IndividualNumber));
        for wrong in ["", " ", "a/", "a\nb.pdf", &"長".repeat(256)] {
            assert_eq!(name(wrong), Err(CreateError::Name), "{wrong:?}");
        }
    }

    #[test]
    fn empty_and_oversized_files_are_told_before_they_travel() {
        assert_eq!(check_length(0), Err(CreateError::Empty));
        assert_eq!(check_length(FILE_LIMIT_BYTES), Ok(()));
        assert_eq!(
            check_length(FILE_LIMIT_BYTES + 1),
            Err(CreateError::TooLarge)
        );
    }
}
