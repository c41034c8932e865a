//! 事業所情報 and 管理者情報: how the fund reaches an establishment and its admin, confirmed or
//! corrected by the admin (FEATURES S003-34, S003-35).
//!
//! What stands on notices (the establishment's name) is not changed here: it becomes a request
//! to the fund (`people::requests`). All else is the establishment's to say.

use time::OffsetDateTime;
use unicode_normalization::UnicodeNormalization as _;

use super::store;
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{StoreError, Tx};
use crate::establishments::Name;
use crate::people::requests::{self, Wish};
use crate::web::forms::FieldErrors;
use crate::web::principals::Member;

/// Longest address and department, in characters.
const LINE_LIMIT: usize = 200;
/// Digits of a telephone number in Japan.
const TELEPHONE_DIGITS: std::ops::RangeInclusive<usize> = 10..=11;
/// Digits of a postal code.
const POSTAL_CODE_DIGITS: usize = 7;

/// 事業所情報 as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EstablishmentContacts {
    /// `123-4567`
    pub postal_code: String,
    /// 所在地.
    pub address: String,
    /// `03-0000-0000`
    pub telephone: String,
    /// 担当部署; may be empty.
    pub department: String,
}

/// 管理者情報 as it is kept, beside the name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PersonContacts {
    /// The name in katakana.
    pub kana: String,
    /// Where to call during the day.
    pub telephone: String,
    /// 担当部署; may be empty.
    pub department: String,
}

/// What was typed about an establishment.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct EstablishmentForm {
    /// 事業所名称.
    pub name: String,
    /// 郵便番号.
    pub postal_code: String,
    /// 所在地.
    pub address: String,
    /// 電話番号.
    pub telephone: String,
    /// 担当部署.
    pub department: String,
}

/// What was typed about a person.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct PersonForm {
    /// 氏名.
    pub user_name: String,
    /// フリガナ.
    pub kana: String,
    /// 日中の連絡先.
    pub telephone: String,
    /// 部署.
    pub department: String,
}

/// One form of the ways to type the same: full-width digits and hyphens become plain.
fn plain(text: &str) -> String {
    text.nfkc()
        .map(|c| match c {
            '\u{2010}'..='\u{2015}' | '\u{2212}' | 'ー' | '－' => '-',
            c => c,
        })
        .collect::<String>()
        .trim()
        .to_owned()
}

fn telephone(text: &str) -> Option<String> {
    let text = plain(text);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let fits = TELEPHONE_DIGITS.contains(&digits)
        && text.starts_with('0')
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || "-()".contains(c));
    fits.then_some(text)
}

fn postal_code(text: &str) -> Option<String> {
    let text = plain(text);
    let text = text.trim_start_matches('〒');
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let fits =
        digits.len() == POSTAL_CODE_DIGITS && text.chars().all(|c| c.is_ascii_digit() || c == '-');
    fits.then(|| format!("{}-{}", &digits[..3], &digits[3..]))
}

fn line(text: &str, least: usize) -> Option<String> {
    let text = text.trim();
    let fits = (least..=LINE_LIMIT).contains(&text.chars().count());
    (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn kana(text: &str) -> Option<String> {
    let text: String = text.nfkc().collect();
    let fits = |c| matches!(c, 'ァ'..='ヺ' | '・' | 'ー' | 'ヽ' | 'ヾ' | ' ');
    let text = line(&text, 1)?;
    text.chars().all(fits).then_some(text)
}

/// What is typed into both forms.
fn common(telephone_typed: &str, department: &str, errors: &mut FieldErrors) -> (String, String) {
    let telephone = telephone(telephone_typed).unwrap_or_else(|| {
        errors.add(
            "telephone",
            "電話番号は「03-1234-5678」のように、市外局番から入力してください。",
        );
        String::new()
    });
    let department = line(department, 0).unwrap_or_else(|| {
        errors.add(
            "department",
            format!("部署は{LINE_LIMIT}文字以内で入力してください。"),
        );
        String::new()
    });
    (telephone, department)
}

impl EstablishmentForm {
    /// Checks the fields; what is wrong goes into `errors`.
    pub fn read(&self, errors: &mut FieldErrors) -> Option<(Name, EstablishmentContacts)> {
        let name = Name::new(&self.name)
            .map_err(|error| errors.add("name", error.page_text()))
            .ok();
        let postal_code = postal_code(&self.postal_code).unwrap_or_else(|| {
            errors.add(
                "postal_code",
                "郵便番号は「123-4567」のように7桁の数字で入力してください。",
            );
            String::new()
        });
        let address = line(&self.address, 1).unwrap_or_else(|| {
            errors.add(
                "address",
                format!("所在地は1文字以上{LINE_LIMIT}文字以内で入力してください。"),
            );
            String::new()
        });
        let (telephone, department) = common(&self.telephone, &self.department, errors);
        let contacts = EstablishmentContacts {
            postal_code,
            address,
            telephone,
            department,
        };
        name.filter(|_| errors.is_empty())
            .map(|name| (name, contacts))
    }
}

impl PersonForm {
    /// Checks the fields; what is wrong goes into `errors`.
    pub fn read(&self, errors: &mut FieldErrors) -> Option<(Name, PersonContacts)> {
        let name = Name::new(&self.user_name)
            .map_err(|error| errors.add("user_name", error.page_text()))
            .ok();
        let kana = kana(&self.kana).unwrap_or_else(|| {
            errors.add("kana", "フリガナはカタカナで入力してください。");
            String::new()
        });
        let (telephone, department) = common(&self.telephone, &self.department, errors);
        let contacts = PersonContacts {
            kana,
            telephone,
            department,
        };
        name.filter(|_| errors.is_empty())
            .map(|name| (name, contacts))
    }
}

/// Confirms or corrects 事業所情報. Says whether another name was asked for.
pub async fn confirm_establishment(
    tx: &mut Tx,
    app: &App,
    member: &Member,
    (name, contacts): (&Name, &EstablishmentContacts),
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let renamed = name.as_str() != member.establishment_name();
    if renamed {
        requests::ask(tx, app, member, &Wish::Name(name.clone()), "", now).await?;
    }
    store::put_establishment(tx, member, contacts, now).await?;
    let act = Act::ContactsChanged(member.establishment());
    audit::record(tx, &app.keys, &member.actor(), act, now).await?;
    Ok(renamed)
}

/// Confirms or corrects 管理者情報.
pub async fn confirm_person(
    tx: &mut Tx,
    app: &App,
    member: &Member,
    (name, contacts): (&Name, &PersonContacts),
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    store::put_person(tx, member, name, contacts, now).await?;
    let act = Act::OwnContactsChanged(member.user());
    audit::record(tx, &app.keys, &member.actor(), act, now).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_into_an_address_is_understood() {
        for (typed, kept) in [
            ("１０１ー００５１", Some("101-0051")),
            ("〒1010051", Some("101-0051")),
            ("101-005", None),
            ("東京都", None),
        ] {
            assert_eq!(postal_code(typed).as_deref(), kept, "{typed}");
        }
        for (typed, kept) in [
            ("０３－１２３４－５６７８", Some("03-1234-5678")),
            ("09012345678", Some("09012345678")),
            ("03(1234)5678", Some("03(1234)5678")),
            ("12345", None),
            ("でんわ", None),
        ] {
            assert_eq!(telephone(typed).as_deref(), kept, "{typed}");
        }
        assert_eq!(kana("ｽｽﾞｷ　ﾊﾅｺ").as_deref(), Some("スズキ ハナコ"));
        assert_eq!(kana("すずき"), None);
        assert_eq!(kana(""), None);
    }
}
