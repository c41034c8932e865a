//! 電子連携管理者登録届: registering many establishments with their admins at once.
//!
//! Staff drop the forms that establishments sent, or the password zips around them; each file
//! gets its verdict, each good one is an establishment with an admin, an invitation by mail and
//! a letter with the secrets, so that mail and letter are two channels (FEATURES S003-13 to
//! -18). A batch can be run again: what is registered already is left as it is.

use time::OffsetDateTime;

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{Db, StoreError};
use crate::establishments::store::UserOfEstablishment;
use crate::establishments::{
    self, AddError, CODE_VALIDITY, DeviceLimit, Establishment, LoginName, MailAddress, Name,
    NewEstablishment, NewUser, Role, store,
};
use crate::ids::EstablishmentId;
use crate::mail::{outbox, texts};
use crate::passwords::{self, HashError};
use archive::Password;

mod form;
mod letter;
pub mod pages;

pub use form::{FormError, Registration};
pub use letter::Letter;

/// A file that staff dropped.
#[derive(Debug)]
pub struct Dropped {
    /// Its name, as the sender gave it.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// What became of one form.
#[derive(Debug)]
pub struct Outcome {
    /// The form's file name; inside a zip, the zip's as well.
    pub name: String,
    /// What was done about it.
    pub verdict: Verdict,
}

/// See [`Outcome`].
#[derive(Debug)]
pub enum Verdict {
    /// The establishment and its admin are registered now; the letter must go out.
    Registered(Box<Letter>),
    /// They were registered before; nothing was done.
    Known(EstablishmentId),
    /// Nothing was done, for these reasons, in Japanese.
    Refused(Vec<String>),
}

/// A batch could not be gone through. What was registered before stays.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No initial password could be made.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Goes through a batch: each form in a transaction of its own.
///
/// # Errors
/// Only what stops the whole batch; what is wrong with a file is its verdict.
pub async fn run(
    app: &App,
    actor: &Actor,
    files: Vec<Dropped>,
    zip_password: Option<&Password>,
    now: OffsetDateTime,
) -> Result<Vec<Outcome>, BatchError> {
    let mut outcomes = Vec::new();
    for file in files {
        for (name, form) in forms_in(file, zip_password) {
            let verdict =
                match form.and_then(|file| form::read(&file.name, &file.bytes).map_err(told)) {
                    Ok(registration) => register(app, actor, registration, now).await?,
                    Err(reasons) => Verdict::Refused(reasons),
                };
            outcomes.push(Outcome { name, verdict });
        }
    }
    Ok(outcomes)
}

fn told(errors: Vec<FormError>) -> Vec<String> {
    errors.iter().map(FormError::page_text).collect()
}

type Form = (String, Result<Dropped, Vec<String>>);

/// The forms in a dropped file: itself, or what a zip holds. A zip that cannot be opened is
/// one form that cannot be read.
fn forms_in(file: Dropped, password: Option<&Password>) -> Vec<Form> {
    // A workbook is a zip as well: the name tells which is meant.
    if !file.name.to_lowercase().ends_with(".zip") {
        return vec![(file.name.clone(), Ok(file))];
    }
    match archive::open(&file.bytes, password) {
        Ok(opened) => opened
            .entries
            .into_iter()
            .map(|entry| {
                let name = format!("{}　{}", file.name, entry.name);
                let form = Dropped {
                    name: entry.name,
                    bytes: entry.bytes,
                };
                (name, Ok(form))
            })
            .collect(),
        Err(problems) => {
            let reasons = problems.iter().map(|problem| problem.error.page_text());
            vec![(file.name, Err(reasons.collect()))]
        }
    }
}

async fn register(
    app: &App,
    actor: &Actor,
    registration: Registration,
    now: OffsetDateTime,
) -> Result<Verdict, BatchError> {
    if let Some(known) = store::find_by_number(&app.db, registration.number).await? {
        return known_already(app, &known, &registration).await;
    }
    let password = passwords::initial();
    let establishment = NewEstablishment {
        number: registration.number,
        name: registration.establishment.clone(),
        device_limit: registration.devices,
    };
    let admin = NewUser {
        login: registration.login.clone(),
        name: registration.admin.clone(),
        email: registration.email.clone(),
        password_hash: passwords::hash(&password).await?,
    };
    let mut tx = app.db.begin().await?;
    let added = establishments::register(&mut tx, &app.keys, actor, &establishment, &admin, now);
    let (id, user) = match added.await {
        Ok(ids) => ids,
        Err(AddError::Store(error)) => return Err(error.into()),
        Err(error) => {
            let reason = error.page_text().unwrap_or_default();
            return Ok(Verdict::Refused(vec![reason]));
        }
    };
    store::set_kana(&mut tx, user, &registration.kana).await?;
    let code = establishments::issue_code(&mut tx, &app.keys, actor, id, user, now).await?;
    let mail = texts::invitation(&app.config, registration.email.as_str());
    outbox::queue(&mut tx, &app.keys, mail, now, now + CODE_VALIDITY).await?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Verdict::Registered(Box::new(Letter {
        establishment: id,
        registration,
        code: code.map(|code| (code.code, code.expires)),
        password: Some(password),
    })))
}

/// Makes an admin's letter anew: with a new registration code, in place of every one that was not
/// used yet, and with a new initial password if the admin never chose an own one. `None`: no such
/// admin, or nothing that a letter could be made of.
///
/// # Errors
/// If the database does not answer, or no password can be made.
pub async fn reissue(
    app: &App,
    actor: &Actor,
    establishment: &Establishment,
    admin: &UserOfEstablishment,
    now: OffsetDateTime,
) -> Result<Option<Letter>, BatchError> {
    let (Role::Admin, Some(registration)) = (admin.role, of_rows(establishment, admin)) else {
        return Ok(None);
    };
    let made = passwords::initial();
    let hash = passwords::hash(&made).await?;
    let mut tx = app.db.begin().await?;
    // The first write locks the rows: of two letters at once only the later one's secrets hold.
    store::revoke_codes(&mut tx, establishment.id, admin.id, now).await?;
    let code =
        establishments::issue_code(&mut tx, &app.keys, actor, establishment.id, admin.id, now);
    let Some(code) = code.await? else {
        return Ok(None);
    };
    let password = match store::replace_initial_password(&mut tx, admin.id, &hash, now).await? {
        true => Some(made),
        false => None,
    };
    let act = Act::LetterReissued(admin.id);
    audit::record(&mut tx, &app.keys, actor, act, now).await?;
    Db::commit(tx).await?;
    Ok(Some(Letter {
        establishment: establishment.id,
        registration,
        code: Some((code.code, code.expires)),
        password,
    }))
}

/// What the form once said, as the rows have it now.
fn of_rows(establishment: &Establishment, admin: &UserOfEstablishment) -> Option<Registration> {
    Some(Registration {
        number: establishment.number,
        establishment: Name::new(&establishment.name).ok()?,
        admin: Name::new(&admin.name).ok()?,
        kana: admin.kana.clone().unwrap_or_default(),
        email: MailAddress::new(&admin.email).ok()?,
        login: LoginName::new(&admin.login).ok()?,
        devices: u16::try_from(establishment.device_limit)
            .ok()
            .and_then(|limit| DeviceLimit::new(limit).ok())?,
    })
}

/// Running a batch again must neither harm nor frighten: the same admin is fine, another one
/// is not for a form to decide.
async fn known_already(
    app: &App,
    known: &Establishment,
    registration: &Registration,
) -> Result<Verdict, BatchError> {
    let users = store::users(&app.db, known.id).await?;
    let same = users
        .iter()
        .any(|user| user.login == registration.login.as_str());
    if same {
        return Ok(Verdict::Known(known.id));
    }
    let taken = AddError::NumberTaken(known.number).page_text();
    Ok(Verdict::Refused(taken.into_iter().collect()))
}

#[cfg(test)]
mod tests;
