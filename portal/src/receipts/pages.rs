//! 受付票の確認: is this receipt a true one? For members about their own, for staff about all.
//!
//! A file is judged by its seal alone; a number and a code typed off paper are looked up. A
//! member who types another establishment's number learns what one learns who typed it wrong.

use askama::Template;
use axum::extract::State;
use axum::response::Html;
use http::Method;

use super::month::Month;
use super::store::{self, Asker};
use super::{as_typed, seal};
use crate::app::App;
use crate::web::forms::{FieldErrors, VerifiedFiles};
use crate::web::layout::{Layout, MemberPage, OfficePage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::principals::{Member, Staff};
use crate::web::router::Routes;

/// Where the page is, on both sides.
const PATH: &str = "/receipts/verify";
/// Digits of a receipt's number: day, and four or more that count.
const DAY_DIGITS: usize = 8;
/// Longest number or code that is looked at, in characters.
const TYPED_LIMIT_CHARS: usize = 40;

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, PATH, member_form)
        .allow::<Member, _, _>(Method::POST, PATH, member_check)
}

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, PATH, office_form)
        .allow::<Staff, _, _>(Method::POST, PATH, office_check)
}

/// What is known after a check.
enum Answer {
    True {
        title: String,
        facts: Vec<(String, String)>,
    },
    False(String),
}

#[derive(Template)]
#[template(path = "receipt_verify.html")]
struct MemberVerify {
    layout: Layout,
    shown: Shown,
}

#[derive(Template)]
#[template(path = "receipt_verify_office.html")]
struct OfficeVerify {
    layout: Layout,
    shown: Shown,
}

struct Shown {
    answer: Option<Answer>,
    errors: FieldErrors,
    number: String,
    code: String,
    public_key: String,
}

/// `GET /receipts/verify`, members
async fn member_form(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    let layout = Layout::member(&app, &member, MemberPage::History, app.clock.now());
    let shown = empty(&app).await?;
    page(&MemberVerify { layout, shown })
}

/// `POST /receipts/verify`, members
async fn member_check(
    member: Member,
    State(app): State<App>,
    form: VerifiedFiles,
) -> Result<Html<String>, PageError> {
    let layout = Layout::member(&app, &member, MemberPage::History, app.clock.now());
    let shown = check(&app, Asker::Member(&member), form).await?;
    page(&MemberVerify { layout, shown })
}

/// `GET /receipts/verify`, office
async fn office_form(staff: Staff, State(app): State<App>) -> Result<Html<String>, PageError> {
    let layout = Layout::office(&app, &staff, OfficePage::Review);
    let shown = empty(&app).await?;
    page(&OfficeVerify { layout, shown })
}

/// `POST /receipts/verify`, office
async fn office_check(
    staff: Staff,
    State(app): State<App>,
    form: VerifiedFiles,
) -> Result<Html<String>, PageError> {
    let layout = Layout::office(&app, &staff, OfficePage::Review);
    let shown = check(&app, Asker::Staff(&staff), form).await?;
    page(&OfficeVerify { layout, shown })
}

async fn empty(app: &App) -> Result<Shown, PageError> {
    let key = store::public_key(&app.db, &app.keys, app.clock.now()).await?;
    Ok(Shown {
        answer: None,
        errors: FieldErrors::default(),
        number: String::new(),
        code: String::new(),
        public_key: key.to_base64(),
    })
}

async fn check(app: &App, asker: Asker<'_>, form: VerifiedFiles) -> Result<Shown, PageError> {
    let mut shown = empty(app).await?;
    let key = store::public_key(&app.db, &app.keys, app.clock.now()).await?;
    if let Some(file) = form.files.into_iter().next() {
        shown.answer = Some(match seal::verify(&file.bytes, key) {
            Ok(facts) => Answer::True {
                title: "このPDFは、基金が発行したままの正しい受付票です".into(),
                facts: vec![
                    ("受付番号".into(), facts.number),
                    ("事業所番号".into(), facts.establishment),
                    ("受付日時".into(), readable_time(&facts.received)),
                    ("反映予定月".into(), readable_month(&facts.counts)),
                    ("確認コード".into(), facts.code),
                ],
            },
            Err(error) => Answer::False(error.page_text().into()),
        });
        return Ok(shown);
    }
    let typed = |name: &str| -> String {
        let text = form.fields.get(name).map(|text| text.to_string());
        text.unwrap_or_default()
            .chars()
            .take(TYPED_LIMIT_CHARS)
            .collect()
    };
    shown.number = typed("number");
    shown.code = typed("code");
    let number = as_typed(&shown.number);
    let code = as_typed(&shown.code);
    if number.is_empty() && code.is_empty() {
        let sentence = "受付票のPDFを選ぶか、受付番号と確認コードを入力してください。";
        shown.errors.add("file", sentence);
        return Ok(shown);
    }
    if number.len() <= DAY_DIGITS {
        let sentence = "受付番号を「20261118-0007」のように入力してください。";
        shown.errors.add("number", sentence);
        return Ok(shown);
    }
    let (day, count) = number.split_at(DAY_DIGITS);
    let found = store::by_number(&app.db, asker, &format!("{day}-{count}"), key).await?;
    shown.answer = Some(match found {
        Some(found) if found.is_true && as_typed(&found.code) == code => Answer::True {
            title: "受付番号と確認コードが一致しました".into(),
            facts: facts_of(&found.content),
        },
        Some(_) | None => Answer::False(
            "受付番号と確認コードの組み合わせが見つかりません。受付票の表示と見比べて、もう一度入力してください。".into(),
        ),
    });
    Ok(shown)
}

/// The lines of a statement, for comparing them with the paper.
fn facts_of(content: &str) -> Vec<(String, String)> {
    content
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| {
            let (label, value) = match key {
                "number" => ("受付番号", value.to_owned()),
                "fund" => ("受付先", value.to_owned()),
                "establishment" => ("事業所番号", value.to_owned()),
                "establishment-name" => ("事業所", value.to_owned()),
                "received" => ("受付日時", readable_time(value)),
                "counts" => ("反映予定月", readable_month(value)),
                "sender" => ("提出した方", value.to_owned()),
                "device" => ("使用したパソコン", value.to_owned()),
                "filing" => ("届書", readable_file(value)),
                "file" => ("送信したファイル", readable_file(value)),
                other => (other, value.to_owned()),
            };
            (label.to_owned(), value)
        })
        .collect()
}

fn readable_time(text: &str) -> String {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map_or_else(|_| text.to_owned(), crate::web::dates::moment_to_the_second)
}

fn readable_month(text: &str) -> String {
    text.parse::<Month>().map_or_else(
        |_| text.to_owned(),
        |month| format!("{}分", month.page_text()),
    )
}

/// `sha256 size name`
fn readable_file(text: &str) -> String {
    let mut parts = text.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(sha256), Some(size), Some(name)) => {
            format!("{name}（{size}バイト、SHA-256：{sha256}）")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
