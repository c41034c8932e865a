//! 簡易の提出画面: one file handed in by a form that needs no script, for browsers in which
//! scripts are off or kept away. What it brings goes the same way as what `upload.js` sends:
//! an upload, the same checks, the same receipt.
//!
//! A file that was refused stays an upload, so that it need not be chosen again: the form
//! carries its id. What must not be kept is gone (`hand_in`), and then a file is asked for.

use std::time::Duration;

use archive::Password;
use askama::Template;
use axum::extract::{FromRequest as _, Query, Request, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;
use time::{Date, OffsetDateTime};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::submit::{duplicate_sentence, failure};
use crate::app::App;
use crate::deadlines::store::day_from_text;
use crate::filings::check::ChosenName;
use crate::filings::hand_in::{self, HandIn, HandInFile, Outcome, Remedy};
use crate::filings::kinds::{self, FilingKind, Kinds};
use crate::filings::{FilingName, store};
use crate::ids::{FilingId, UploadId};
use crate::uploads::{self, FILE_LIMIT_BYTES, FileName, Upload};
use crate::web::forms::{FieldErrors, FormFile, VerifiedFile, VerifiedFiles};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::{Filer, Member};
use crate::web::{page, page_with};

/// Forms taken in at once: each holds a whole file in memory.
const FORMS_AT_ONCE: usize = 2;
/// How long a form waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);

static TURNS: Semaphore = Semaphore::const_new(FORMS_AT_ONCE);

/// What stands in the form.
#[derive(Debug, Default)]
struct Typed {
    date: String,
    kind: String,
    reason: String,
    replaces: String,
    /// The upload of an earlier try.
    upload: String,
}

#[derive(Template)]
#[template(path = "filing_plain.html")]
struct PlainPage {
    layout: Layout,
    errors: FieldErrors,
    typed: Typed,
    kinds: Vec<FilingKind>,
    /// The name of the filing that this one replaces.
    replaced: Option<String>,
    /// The file of an earlier try, which is still there.
    waiting: Option<String>,
    /// Filings of the same content.
    duplicates: Vec<String>,
    file_limit_mb: u64,
    establishment_number: String,
}

#[derive(Deserialize)]
pub(super) struct PlainQuery {
    #[serde(default)]
    replaces: String,
}

/// `GET /filings/plain`
pub(super) async fn show(
    filer: Filer,
    State(app): State<App>,
    Query(query): Query<PlainQuery>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let typed = Typed {
        date: now.to_offset(access::JST).date().to_string(),
        replaces: query.replaces,
        ..Typed::default()
    };
    let form = Form::of(&app, &filer, typed, now).await?;
    page(&form.page(&app, &filer, FieldErrors::default(), Vec::new(), now))
}

/// `POST /filings/plain`
pub(super) async fn submit(
    filer: Filer,
    State(app): State<App>,
    request: Request,
) -> Result<Response, PageError> {
    let Ok(Ok(_turn)) = timeout(TURN_TIMEOUT, TURNS.acquire()).await else {
        return Err(PageError::Refused(
            "ただいま混み合っています。まだ何も受け付けていません。しばらくしてから、もう一度提出してください。"
                .to_owned(),
        ));
    };
    let VerifiedFile(VerifiedFiles { files, fields }) =
        VerifiedFile::from_request(request, &app).await?;
    let now = app.clock.now();
    let text = |name: &str| {
        let typed = fields.get(name);
        typed.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let typed = Typed {
        date: text("date"),
        kind: text("kind"),
        reason: text("reason"),
        replaces: text("replaces"),
        upload: text("upload"),
    };
    let password = fields.get("password").filter(|text| !text.is_empty());
    let password = password.map(|text| Password::new(text.to_string()));
    let mut form = Form::of(&app, &filer, typed, now).await?;
    if let Some(file) = files.into_iter().next()
        && let Err(errors) = form.take(&app, &filer, file, now).await?
    {
        let page = form.page(&app, &filer, errors, Vec::new(), now);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    form.hand_in(&app, filer, password, now).await
}

/// The form with what it is about looked up.
struct Form {
    typed: Typed,
    kinds: Kinds,
    today: Date,
    replaces: Option<(FilingId, String)>,
    upload: Option<Upload>,
}

impl Form {
    async fn of(
        app: &App,
        member: &Member,
        typed: Typed,
        now: OffsetDateTime,
    ) -> Result<Self, PageError> {
        let replaces = match typed.replaces.as_str() {
            "" => None,
            id => {
                let id = id.parse().map_err(|_| PageError::NotFound)?;
                let line = store::find_own_line(&app.db, member, id).await?;
                let line = line.ok_or(PageError::NotFound)?;
                line.filing
                    .may_be_replaced(line.replaced_by)
                    .map_err(|error| PageError::Refused(error.page_text()))?;
                Some((id, line.filing.name.to_string()))
            }
        };
        let upload = match typed.upload.parse::<UploadId>() {
            Ok(id) => uploads::store::find(&app.db, member, id, now).await?,
            Err(_) => None,
        };
        Ok(Self {
            kinds: kinds::store::all(app.db.pool()).await?,
            today: now.to_offset(access::JST).date(),
            replaces,
            upload,
            typed,
        })
    }

    /// Keeps the file as an upload, in place of that of an earlier try.
    async fn take(
        &mut self,
        app: &App,
        member: &Member,
        file: FormFile,
        now: OffsetDateTime,
    ) -> Result<Result<(), FieldErrors>, PageError> {
        let wrong = |error: uploads::CreateError| FieldErrors::of_one("files", error.page_text());
        let name = match FileName::parse(&file.name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(wrong(error))),
        };
        if let Some(earlier) = self.upload.take() {
            uploads::discard(app, member, earlier.id).await?;
        }
        match uploads::take_whole(app, member, &name, &file.bytes, now).await {
            Ok(Ok(upload)) => self.upload = Some(upload),
            Ok(Err(error)) => return Ok(Err(wrong(error))),
            Err(error) => return Err(PageError::storing("keep a file")(error)),
        }
        Ok(Ok(()))
    }

    /// The name that was chosen; `None`: the file's own name says it.
    fn name(&self, member: &Member, errors: &mut FieldErrors) -> Option<ChosenName> {
        if self.typed.kind.is_empty() {
            return None;
        }
        let date = day_from_text(&self.typed.date);
        if date.is_none() {
            errors.add("date", "届出年月日を入力してください。");
        }
        let kind = self.kinds.find(&self.typed.kind);
        if kind.is_none() {
            errors.add("kind", "届書名称を選んでください。");
        }
        Some(ChosenName {
            entry: None,
            name: FilingName::build(date?, member.establishment_number(), kind?.kind),
        })
    }

    async fn hand_in(
        mut self,
        app: &App,
        filer: Filer,
        password: Option<Password>,
        now: OffsetDateTime,
    ) -> Result<Response, PageError> {
        let mut errors = FieldErrors::default();
        let is_zip = self
            .upload
            .as_ref()
            .is_some_and(|upload| upload.file_name.to_lowercase().ends_with(".zip"));
        let name = match is_zip {
            true => None,
            false => self.name(&filer, &mut errors),
        };
        let Some(upload) = self.upload.as_ref().filter(|_| errors.is_empty()) else {
            if self.upload.is_none() {
                errors.add("files", "提出するファイルを選んでください。");
            }
            return self.refused(app, &filer, errors, Vec::new(), now);
        };
        let request = HandIn {
            files: vec![HandInFile {
                upload: upload.id,
                password,
                names: name.into_iter().collect(),
            }],
            duplicates_confirmed: !self.typed.reason.is_empty(),
            duplicate_reason: self.typed.reason.clone(),
            replaces: self.replaces.as_ref().map(|(id, _)| *id),
        };
        // A task of its own: it ends its work even if the browser goes away.
        let (its_app, its_filer) = (app.clone(), filer.clone());
        let work =
            tokio::spawn(
                async move { hand_in::hand_in(&its_app, &its_filer, &request, now).await },
            );
        let outcome = work
            .await
            .map_err(PageError::doing("hand in"))?
            .map_err(failure)?;
        let mut duplicates = Vec::new();
        match outcome {
            Outcome::Accepted(id) => {
                return Ok(Redirect::to(&format!("/submissions/{id}")).into_response());
            }
            Outcome::Refused(files) => {
                for problem in files.iter().flat_map(|file| &file.problems) {
                    let field = match Remedy::against(&problem.fault) {
                        Remedy::Password => "password",
                        Remedy::Name if !is_zip => "kind",
                        Remedy::Name | Remedy::File | Remedy::Later => "files",
                    };
                    let entry = problem.entry.as_ref();
                    let entry = entry
                        .map(|entry| format!("「{entry}」："))
                        .unwrap_or_default();
                    errors.add(field, format!("{entry}{}", problem.page_text()));
                }
            }
            Outcome::Duplicates(found) => {
                duplicates = found.iter().map(duplicate_sentence).collect();
                errors.add(
                    "reason",
                    "同じ内容の届書がすでに提出されています。それでも提出するときは、理由を入力してください。",
                );
            }
            Outcome::Impossible(error) => errors.add("files", error.page_text()),
        }
        // What must not be kept was thrown away.
        if let Some(upload) = self.upload.take() {
            self.upload = uploads::store::find(&app.db, &filer, upload.id, now).await?;
        }
        self.refused(app, &filer, errors, duplicates, now)
    }

    fn refused(
        self,
        app: &App,
        member: &Member,
        errors: FieldErrors,
        duplicates: Vec<String>,
        now: OffsetDateTime,
    ) -> Result<Response, PageError> {
        let page = self.page(app, member, errors, duplicates, now);
        Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
    }

    fn page(
        self,
        app: &App,
        member: &Member,
        errors: FieldErrors,
        duplicates: Vec<String>,
        now: OffsetDateTime,
    ) -> PlainPage {
        PlainPage {
            layout: Layout::member(app, member, MemberPage::Submit, now),
            errors,
            kinds: self.kinds.offered_on(self.today).cloned().collect(),
            replaced: self.replaces.map(|(_, name)| name),
            waiting: self.upload.as_ref().map(|upload| upload.file_name.clone()),
            duplicates,
            file_limit_mb: FILE_LIMIT_BYTES / (1024 * 1024),
            establishment_number: member.establishment_number().to_string(),
            typed: Typed {
                upload: self
                    .upload
                    .map(|upload| upload.id.to_string())
                    .unwrap_or_default(),
                ..self.typed
            },
        }
    }
}

#[cfg(test)]
mod tests;
