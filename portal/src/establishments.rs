//! Establishments (事業所), their users, and the registration codes for their PCs.
//!
//! Here is what a valid name, address or number is, what a registration code looks like, and
//! the acts that fund staff do: register an establishment with its admin, add a user, issue
//! and withdraw a code. SQL is in `store`; pages live with the office's pages. A code is
//! kept only as a hash and shown once, where it was issued.

use std::fmt;

use protocol::EstablishmentNumber;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::audit::{self, Act, Actor};
use crate::clock::unix_ms;
use crate::db::{StoreError, Tx};
use crate::ids::{EstablishmentId, RegistrationCodeId, UserId};
use crate::keys::{MasterKey, Purpose, Unsealable, random_bytes, random_readable};

mod leaving;
pub mod pages;
pub mod store;

/// PCs that an establishment may register, unless staff say otherwise (FEATURES S003-02).
pub const DEVICE_LIMIT: u16 = 3;
/// The most that staff may allow.
pub const DEVICE_LIMIT_MAX: u16 = 100;
/// How long a registration code is good.
pub const CODE_VALIDITY: Duration = Duration::days(30);
/// Characters of a registration code: 60 random bits.
const CODE_LENGTH: usize = 12;
/// Characters of an establishment's zip password: 100 random bits.
const ZIP_PASSWORD_LENGTH: usize = 20;
/// Longest name of a person or an establishment, in characters.
const NAME_LIMIT: usize = 100;
/// Longest user ID, in characters.
const LOGIN_LIMIT: usize = 64;
/// Longest mail address, in bytes (RFC 5321).
const MAIL_ADDRESS_LIMIT: usize = 254;

/// A text that is not what the field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A name that is empty, too long, or has control characters.
    #[error("not a name")]
    Name,
    /// A user ID that is too short, too long, or has other characters than allowed.
    #[error("not a user ID")]
    Login,
    /// Not a mail address.
    #[error("not a mail address")]
    MailAddress,
    /// A number of PCs out of range.
    #[error("not a device limit")]
    DeviceLimit,
}

impl FieldError {
    /// What the person in front of the form is told.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Name => "名称は1文字以上100文字以内で入力してください。",
            Self::Login => {
                "ユーザーIDは3文字以上64文字以内の半角英数字と「.」「-」「_」「@」で入力してください。"
            }
            Self::MailAddress => {
                "メールアドレスの形式が正しくありません。「name@example.jp」のように入力してください。"
            }
            Self::DeviceLimit => "パソコンの台数は1台以上100台以内で入力してください。",
        }
    }
}

/// The name of a person or an establishment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// What a user types as user ID at sign-in. Kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginName(String);

/// A mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAddress(String);

/// How many PCs an establishment may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit(u16);

impl Name {
    /// Trims and checks.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        let text = text.trim();
        let fits = (1..=NAME_LIMIT).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FieldError::Name)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl LoginName {
    /// Trims, checks, and turns to lower case: `Suzuki` and `suzuki` are one account.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        let text = text.trim().to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
        if (3..=LOGIN_LIMIT).contains(&text.len()) && text.chars().all(plain) {
            Ok(Self(text))
        } else {
            Err(FieldError::Login)
        }
    }

    /// The user ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MailAddress {
    /// Trims and checks.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        let text = text.trim();
        let parses = text.parse::<lettre::Address>().is_ok();
        if parses && text.is_ascii() && text.len() <= MAIL_ADDRESS_LIMIT {
            Ok(Self(text.to_owned()))
        } else {
            Err(FieldError::MailAddress)
        }
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DeviceLimit {
    /// Checks the range.
    pub fn new(limit: u16) -> Result<Self, FieldError> {
        if (1..=DEVICE_LIMIT_MAX).contains(&limit) {
            Ok(Self(limit))
        } else {
            Err(FieldError::DeviceLimit)
        }
    }

    /// The bare number.
    pub fn as_u16(self) -> u16 {
        self.0
    }
}

impl Default for DeviceLimit {
    fn default() -> Self {
        Self(DEVICE_LIMIT)
    }
}

/// An establishment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Establishment {
    /// Its identifier.
    pub id: EstablishmentId,
    /// Its number (事業所番号).
    pub number: EstablishmentNumber,
    /// Its name.
    pub name: String,
    /// How many PCs it may register.
    pub device_limit: i64,
    /// When it was registered.
    pub created: OffsetDateTime,
    /// Since when it may not use the service, if so.
    pub suspended: Option<OffsetDateTime>,
    /// Since when it has left for good, if so.
    pub ended: Option<OffsetDateTime>,
}

/// An establishment to register.
#[derive(Debug, Clone)]
pub struct NewEstablishment {
    /// Its number.
    pub number: EstablishmentNumber,
    /// Its name.
    pub name: Name,
    /// How many PCs it may register.
    pub device_limit: DeviceLimit,
}

/// A user account to make. The password is the fund's: it must be changed at the first
/// sign-in.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// What is typed at sign-in.
    pub login: LoginName,
    /// The person's name.
    pub name: Name,
    /// Where one-time passwords go.
    pub email: MailAddress,
    /// The hash of the initial password (`passwords`).
    pub password_hash: String,
}

/// What a user is in an establishment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// 事業所の管理者.
    Admin,
    /// 追加ユーザー.
    Added,
}

impl Role {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Added => "added",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Admin, Self::Added]
            .into_iter()
            .find(|role| role.as_str() == word)
    }

    /// What pages call it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Admin => "事業所の管理者",
            Self::Added => "追加ユーザー",
        }
    }
}

/// Something could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// An establishment with this number is there already.
    #[error("establishment {0} is registered already")]
    NumberTaken(EstablishmentNumber),
    /// An account with this user ID is there already.
    #[error("user ID is taken")]
    LoginTaken,
    /// The user is a member already.
    #[error("user is a member already")]
    MemberAlready,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AddError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::NumberTaken(number) => Some(format!(
                "事業所番号「{number}」はすでに登録されています。番号をご確認ください。"
            )),
            Self::LoginTaken => Some(
                "このユーザーIDはすでに使われています。別のユーザーIDを入力してください。"
                    .to_owned(),
            ),
            Self::MemberAlready => {
                Some("このユーザーはすでにこの事業所に登録されています。".to_owned())
            }
            Self::Store(_) => None,
        }
    }
}

/// An establishment's key or zip password cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealed under another master key, or changed.
    #[error(transparent)]
    Unsealable(#[from] Unsealable),
    /// No such establishment.
    #[error("no establishment {0}")]
    NotFound(EstablishmentId),
}

/// A registration code, shown once: `ABCD-EFGH-JKLM`.
#[derive(Clone)]
pub struct RegistrationCode(Zeroizing<String>);

impl RegistrationCode {
    fn generate() -> Self {
        Self(Zeroizing::new(random_readable(CODE_LENGTH)))
    }

    /// Reads what somebody typed: case, spaces and hyphens do not matter, nor full-width
    /// letters. Another length, or other characters, cannot be a code.
    pub fn read(typed: &str) -> Option<Self> {
        let mut code = Zeroizing::new(String::with_capacity(CODE_LENGTH));
        for c in typed.chars() {
            let c = match c {
                '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0)?,
                _ => c,
            };
            match c {
                '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30FC}' | '\u{FF70}' => {}
                _ if c.is_whitespace() => {}
                _ if c.is_ascii_alphanumeric() && code.len() < CODE_LENGTH => {
                    code.push(c.to_ascii_uppercase());
                }
                _ => return None,
            }
        }
        (code.len() == CODE_LENGTH).then_some(Self(code))
    }

    /// The hash that is kept.
    pub fn hash(&self, keys: &MasterKey) -> String {
        keys.hash(Purpose::RegistrationCode, self.0.as_bytes())
    }
}

impl fmt::Display for RegistrationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, rest) = self.0.split_at(4);
        let (second, third) = rest.split_at(4);
        write!(f, "{first}-{second}-{third}")
    }
}

impl fmt::Debug for RegistrationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistrationCode(…)")
    }
}

/// A code that was just issued.
#[derive(Debug)]
pub struct IssuedCode {
    /// Its row.
    pub id: RegistrationCodeId,
    /// The code; it cannot be shown again.
    pub code: RegistrationCode,
    /// When it stops being good.
    pub expires: OffsetDateTime,
}

/// Registers an establishment together with its admin's account, with a key and a zip
/// password of its own.
pub async fn register(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    establishment: &NewEstablishment,
    admin: &NewUser,
    now: OffsetDateTime,
) -> Result<(EstablishmentId, UserId), AddError> {
    let id = EstablishmentId::new();
    let key = Zeroizing::new(random_bytes::<32>());
    let zip_password = Zeroizing::new(random_readable(ZIP_PASSWORD_LENGTH));
    let sealed = store::SealedSecrets {
        key_wrapped: keys.seal(Purpose::EstablishmentKey, &place(id), &*key),
        zip_password_sealed: keys.seal(Purpose::ZipPassword, &place(id), zip_password.as_bytes()),
    };
    store::add(tx, id, establishment, &sealed, now)
        .await
        .map_err(taken(AddError::NumberTaken(establishment.number)))?;
    let user = UserId::new();
    store::add_user(tx, user, admin, now)
        .await
        .map_err(taken(AddError::LoginTaken))?;
    store::add_membership(tx, id, user, Role::Admin, now).await?;
    audit::record(tx, keys, actor, Act::EstablishmentAdded(id), now).await?;
    audit::record(tx, keys, actor, Act::UserAdded(user), now).await?;
    audit::record(tx, keys, actor, Act::MembershipAdded(user, id), now).await?;
    Ok((id, user))
}

/// Adds a user with an account of his own to an establishment.
pub async fn add_user(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    establishment: EstablishmentId,
    user: &NewUser,
    role: Role,
    now: OffsetDateTime,
) -> Result<UserId, AddError> {
    let id = UserId::new();
    store::add_user(tx, id, user, now)
        .await
        .map_err(taken(AddError::LoginTaken))?;
    store::add_membership(tx, establishment, id, role, now).await?;
    audit::record(tx, keys, actor, Act::UserAdded(id), now).await?;
    let act = Act::MembershipAdded(id, establishment);
    audit::record(tx, keys, actor, act, now).await?;
    Ok(id)
}

/// Makes somebody who has an account a member of one more establishment.
pub async fn add_member(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    establishment: EstablishmentId,
    user: UserId,
    role: Role,
    now: OffsetDateTime,
) -> Result<(), AddError> {
    store::add_membership(tx, establishment, user, role, now)
        .await
        .map_err(taken(AddError::MemberAlready))?;
    let act = Act::MembershipAdded(user, establishment);
    audit::record(tx, keys, actor, act, now).await?;
    Ok(())
}

/// Issues a registration code for a PC of `user`. `None` if he is no member (any more), or
/// the establishment is suspended.
pub async fn issue_code(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<Option<IssuedCode>, StoreError> {
    if !store::is_live_member(tx, establishment, user).await? {
        return Ok(None);
    }
    let issued = IssuedCode {
        id: RegistrationCodeId::new(),
        code: RegistrationCode::generate(),
        expires: now + CODE_VALIDITY,
    };
    let row = store::NewCode {
        id: issued.id,
        establishment,
        user,
        hash: issued.code.hash(keys),
        created_by: actor.name_for_rows(),
        created_ms: unix_ms(now),
        expires_ms: unix_ms(issued.expires),
    };
    store::add_code(tx, &row).await?;
    let act = Act::RegistrationCodeIssued(issued.id);
    audit::record(tx, keys, actor, act, now).await?;
    Ok(Some(issued))
}

/// Opens an establishment's zip password.
pub async fn open_zip_password(
    tx: &mut Tx,
    keys: &MasterKey,
    id: EstablishmentId,
) -> Result<Zeroizing<String>, SecretError> {
    let sealed = store::secrets(tx, id)
        .await?
        .ok_or(SecretError::NotFound(id))?;
    let text = keys.open(
        Purpose::ZipPassword,
        &place(id),
        &sealed.zip_password_sealed,
    )?;
    let text = std::str::from_utf8(&text).map_err(|_| Unsealable)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Gives an establishment a new zip password and returns it. `None` if there is no such
/// establishment.
pub async fn change_zip_password(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    id: EstablishmentId,
    now: OffsetDateTime,
) -> Result<Option<Zeroizing<String>>, StoreError> {
    let password = Zeroizing::new(random_readable(ZIP_PASSWORD_LENGTH));
    let sealed = keys.seal(Purpose::ZipPassword, &place(id), password.as_bytes());
    if !store::replace_zip_password(tx, id, &sealed).await? {
        return Ok(None);
    }
    audit::record(tx, keys, actor, Act::ZipPasswordChanged(id), now).await?;
    Ok(Some(password))
}

/// Where an establishment's sealed values stand.
fn place(id: EstablishmentId) -> String {
    format!("establishments/{id}")
}

/// Turns a unique violation into the error that it means.
fn taken(meaning: AddError) -> impl FnOnce(StoreError) -> AddError {
    move |error| {
        if error.is_unique_violation() {
            meaning
        } else {
            error.into()
        }
    }
}

#[cfg(test)]
mod tests;
