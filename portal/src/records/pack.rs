//! The pack: documents under names of the tax agency's pattern, an index, hashes, and a
//! manifest that the fund signs (Ed25519, RFC 8032).
//!
//! Flat, so that `sha256sum -c SHA256SUMS` works where it was unpacked, on any machine and
//! without this program; whoever doubts the hashes themselves verifies the signature
//! ([`super::verify`]). The signing key is derived from the master key.

use std::collections::BTreeSet;
use std::io::{Cursor, Write as _};

use access::JST;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::store::Record;
use super::table::Table;
use crate::custody::sha256_hex;
use crate::keys::{MasterKey, Purpose};
use crate::web::dates;

/// Records that one pack may have.
pub const RECORD_LIMIT: u64 = 1_000;
/// How large the documents of one pack may be together.
pub const LIMIT_BYTES: u64 = 128 * 1024 * 1024;

/// The signed list.
pub const MANIFEST: &str = "manifest.json";
/// Its signature, in base64.
pub const SIGNATURE: &str = "manifest.sig";
/// The same list for `sha256sum -c`.
pub const SUMS: &str = "SHA256SUMS";
/// The index for people.
pub const INDEX: &str = "index.csv";
/// How to verify.
pub const README: &str = "README.txt";
/// What the manifest says it is.
pub const FORMAT: &str = "renkei-records/1";

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The fund's name.
    pub fund: String,
    /// Whose records: the establishment's number and name, or the fund's own.
    pub holder: String,
    /// When it was made (RFC 3339).
    pub made_at: String,
    /// What was looked for, as it was typed.
    pub search: Vec<(String, String)>,
    /// Every file but this one, its signature, the sums and the explanation.
    pub files: Vec<FileEntry>,
    /// The key that the signature is verified with, in base64.
    pub public_key: String,
}

/// A file of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
}

/// The key that packs are signed with.
#[derive(Debug)]
pub struct Signer(Ed25519KeyPair);

/// A pack cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// No signing key comes out of the master key: never seen.
    #[error("the signing key is unusable")]
    Key,
    /// The manifest cannot be written.
    #[error("the manifest cannot be written")]
    Manifest(#[from] serde_json::Error),
    /// The zip cannot be written.
    #[error("the zip cannot be written")]
    Zip(#[from] zip::result::ZipError),
    /// The zip cannot be written.
    #[error("the zip cannot be written")]
    Write(#[from] std::io::Error),
}

impl Signer {
    /// The fund's key.
    ///
    /// # Errors
    /// [`PackError::Key`].
    pub fn of(keys: &MasterKey) -> Result<Self, PackError> {
        let seed = keys.derive(Purpose::RecordsSignature, b"ed25519");
        Ed25519KeyPair::from_seed_unchecked(&*seed)
            .map(Self)
            .map_err(|_| PackError::Key)
    }

    /// Its public half, in base64.
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.0.public_key())
    }

    fn sign(&self, bytes: &[u8]) -> String {
        STANDARD.encode(self.0.sign(bytes))
    }
}

/// What a pack says about itself.
#[derive(Debug, Clone)]
pub struct About {
    /// The fund's name.
    pub fund: String,
    /// Whose records.
    pub holder: String,
    /// Who stands opposite in every record, or `None`: each record's establishment.
    pub counterparty: Option<String>,
    /// What was looked for.
    pub search: Vec<(String, String)>,
    /// When it is made.
    pub made_at: OffsetDateTime,
}

/// Makes a pack. A record without content is one whose document is destroyed: it stands in the
/// index alone. Takes some milliseconds per megabyte: call it where blocking is allowed.
///
/// # Errors
/// [`PackError`].
pub fn make(
    signer: &Signer,
    about: About,
    records: Vec<(Record, Option<Vec<u8>>)>,
) -> Result<Vec<u8>, PackError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // The same records make the same zip but for its manifest's moment.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default());
    let mut put = |name: &str, bytes: &[u8]| -> Result<FileEntry, PackError> {
        zip.start_file(name, options)?;
        zip.write_all(bytes)?;
        Ok(FileEntry {
            name: name.to_owned(),
            sha256: sha256_hex(bytes),
            size_bytes: bytes.len() as u64,
        })
    };
    let mut files = Vec::new();
    let mut names = BTreeSet::new();
    let mut index = Table::new(&[
        "取引年月日",
        "取引先",
        "取引先番号",
        "金額（円）",
        "書類の種類",
        "件名",
        "文書番号",
        "訂正前の文書番号",
        "状態",
        "受領日時",
        "ファイル名",
        "SHA-256",
        "大きさ（バイト）",
    ]);
    for (record, content) in records {
        let counterparty = about
            .counterparty
            .as_deref()
            .unwrap_or(&record.establishment_name);
        let name = match &content {
            Some(_) => unique(&mut names, &file_name(&record, counterparty)),
            None => String::new(),
        };
        index.row(&[
            &record.notice.issued.to_offset(JST).date().to_string(),
            counterparty,
            &match about.counterparty {
                Some(_) => String::new(),
                None => record.establishment_number.to_string(),
            },
            &record
                .notice
                .amount_yen
                .map(|yen| yen.to_string())
                .unwrap_or_default(),
            record.kind.name(),
            &record.notice.title,
            &record.notice.number,
            record.corrects.as_deref().unwrap_or_default(),
            match (record.destroyed, record.notice.recalled) {
                (Some(_), _) => "廃棄済み",
                (None, Some(_)) => "取消し",
                (None, None) => "",
            },
            &record
                .notice
                .first_fetched
                .map(dates::moment)
                .unwrap_or_default(),
            &name,
            &record.document.sha256,
            &record.document.size_bytes.to_string(),
        ]);
        if let Some(content) = content {
            files.push(put(&name, &content)?);
        }
    }
    files.push(put(INDEX, &index.into_bytes())?);
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        fund: about.fund,
        holder: about.holder,
        made_at: dates::machine(about.made_at),
        search: about.search,
        files,
        public_key: signer.public_key(),
    };
    let bytes = serde_json::to_vec_pretty(&manifest)?;
    let signed = put(MANIFEST, &bytes)?;
    put(SIGNATURE, signer.sign(&bytes).as_bytes())?;
    let mut sums = String::new();
    for file in manifest.files.iter().chain([&signed]) {
        sums.push_str(&format!("{}  {}\n", file.sha256, file.name));
    }
    put(SUMS, sums.as_bytes())?;
    put(README, EXPLANATION.as_bytes())?;
    Ok(zip.finish()?.into_inner())
}

const EXPLANATION: &str = "\u{FEFF}電子帳簿保存法の記録の一式\r\n\
    \r\n\
    index.csv      索引（取引年月日・取引先・金額など）\r\n\
    *.pdf          書類（ファイル名は 取引年月日_取引先_金額_書類_文書番号）\r\n\
    SHA256SUMS     各ファイルのSHA-256\r\n\
    manifest.json  この一式の目録\r\n\
    manifest.sig   目録に対する基金の電子署名（Ed25519）\r\n\
    \r\n\
    確かめ方\r\n\
    1. 書類が変わっていないこと： すべて展開したフォルダーで sha256sum -c SHA256SUMS を実行します。\r\n\
    2. 基金が作成したこと： 基金に依頼するか、portal records verify で署名を確かめます。\r\n";

/// `20221031_(株)国税商事_110000_納入告知書_納入第2026-003-0123号.pdf`: the tax agency's pattern
/// (date, counterparty, amount) with what the document is behind it.
fn file_name(record: &Record, counterparty: &str) -> String {
    const PART_LIMIT_CHARS: usize = 40;
    let part = |text: &str| -> String {
        let plain = |c: char| {
            if c.is_control() || c.is_whitespace() || "/\\:*?\"<>|_.".contains(c) {
                '-'
            } else {
                c
            }
        };
        text.chars().take(PART_LIMIT_CHARS).map(plain).collect()
    };
    let day = record.notice.issued.to_offset(JST).date();
    let amount = match record.notice.amount_yen {
        Some(yen) => yen.to_string(),
        None => "金額なし".to_owned(),
    };
    format!(
        "{}_{}_{amount}_{}_{}",
        day.to_string().replace('-', ""),
        part(counterparty),
        part(record.kind.name()),
        part(&record.notice.number)
    )
}

fn unique(names: &mut BTreeSet<String>, stem: &str) -> String {
    let mut name = format!("{stem}.pdf");
    let mut copy = 2;
    while !names.insert(name.clone()) {
        name = format!("{stem}_{copy}.pdf");
        copy += 1;
    }
    name
}
