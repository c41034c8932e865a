//! 受付票: the proof that something arrived, as a page and as a PDF.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, Response};

use crate::app::App;
use crate::db::Db;
use crate::filings::receipt as letter;
use crate::filings::store::{self, FileWarning, Submission};
use crate::filings::words::{Chip, chip, size};
use crate::receipts::store::Receipt;
use crate::receipts::{self, SigningKey, seal};
use crate::web::dates;
use crate::web::download;
use crate::web::layout::{Layout, MemberPage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::principals::Member;

#[derive(Template)]
#[template(path = "receipt.html")]
struct ReceiptPage {
    layout: Layout,
    receipt_number: String,
    counts: String,
    code: String,
    pdf_path: String,
    fund_name: String,
    received: String,
    establishment: String,
    sender: String,
    device: String,
    weak_encryption: bool,
    files: Vec<FileLine>,
    filings: Vec<FilingLine>,
}

struct FileLine {
    name: String,
    size: String,
    sha256: String,
}

struct FilingLine {
    path: String,
    name: String,
    original_name: String,
    size: String,
    pages: u64,
    sha256: String,
    chip: Chip,
}

/// `GET /submissions/{id}`
pub(super) async fn show(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    let submission = find(&app, &member, &id).await?;
    let receipt = issued(&app, &submission).await?;
    page(&ReceiptPage {
        layout: Layout::member(&app, &member, MemberPage::History, app.clock.now()),
        pdf_path: format!("/submissions/{}/receipt.pdf", submission.id),
        fund_name: app.config.fund_name.clone(),
        received: dates::moment_to_the_second(submission.received),
        establishment: format!(
            "{}　{}",
            member.establishment_number(),
            member.establishment_name()
        ),
        weak_encryption: submission
            .files
            .iter()
            .any(|file| file.warning == Some(FileWarning::WeakEncryption)),
        files: submission
            .files
            .into_iter()
            .map(|file| FileLine {
                name: file.file_name,
                size: size(file.size_bytes),
                sha256: file.sha256,
            })
            .collect(),
        filings: submission
            .filings
            .into_iter()
            .map(|filing| FilingLine {
                path: format!("/filings/{}", filing.id),
                name: filing.name.file_name(),
                original_name: filing.original_name,
                size: size(filing.size_bytes),
                pages: filing.pages,
                sha256: filing.sha256,
                chip: chip(&filing.state),
            })
            .collect(),
        counts: counts_text(&receipt),
        code: receipt.code,
        receipt_number: submission.receipt_number,
        sender: submission.sender,
        device: submission.device,
    })
}

/// `GET /submissions/{id}/receipt.pdf`
pub(super) async fn pdf(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let submission = find(&app, &member, &id).await?;
    let name = format!("受付票_{}.pdf", submission.receipt_number);
    let issued = issued(&app, &submission).await?;
    let mut tx = app.db.begin().await?;
    let key = receipts::store::signing_key(&mut tx, &app.keys, app.clock.now()).await?;
    Db::commit(tx).await?;
    let receipt = to_letter(&app, &member, submission, issued, &key)?;
    let made = tokio::task::spawn_blocking(move || {
        letter::to_pdf(&receipt).map(|pdf| seal::seal(pdf, &key))
    })
    .await
    .map_err(PageError::doing("make a receipt"))?
    .map_err(|error| PageError::Refused(error.page_text()))?
    .map_err(PageError::doing("seal a receipt"))?;
    Ok(download::attachment(&name, download::PDF, made))
}

async fn issued(app: &App, submission: &Submission) -> Result<Receipt, PageError> {
    receipts::store::of_submission(&app.db, submission.id)
        .await?
        .ok_or(PageError::NotFound)
}

/// In which month it counts, and why if it came outside the hours.
fn counts_text(receipt: &Receipt) -> String {
    format!("{}分の掛金から反映する予定", receipt.counts.page_text())
}

async fn find(app: &App, member: &Member, id: &str) -> Result<Submission, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    store::find_submission(&app.db, member, id)
        .await?
        .ok_or(PageError::NotFound)
}

fn to_letter(
    app: &App,
    member: &Member,
    submission: Submission,
    issued: Receipt,
    key: &SigningKey,
) -> Result<letter::Receipt, PageError> {
    let files = submission
        .filings
        .into_iter()
        .map(|filing| {
            Ok(letter::ReceivedFile {
                name: filing.name.file_name(),
                original_name: filing.original_name,
                size_bytes: filing.size_bytes,
                pages: usize::try_from(filing.pages).unwrap_or(usize::MAX),
                sha256: from_hex(&filing.sha256).ok_or(crate::db::StoreError::Unreadable {
                    what: "sha256 of a document",
                })?,
            })
        })
        .collect::<Result<_, PageError>>()?;
    Ok(letter::Receipt {
        fund: app.config.fund_name.clone(),
        number: submission.receipt_number,
        received_at: submission.received,
        establishment: member.establishment_number(),
        establishment_name: member.establishment_name().to_owned(),
        filed_by: submission.sender,
        device: submission.device,
        files,
        counts_month: issued.counts,
        counts: counts_text(&issued),
        code: issued.code,
        public_key: key.public().to_base64(),
        contact: vec![app.config.fund_contact.clone()],
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
