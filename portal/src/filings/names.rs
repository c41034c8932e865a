//! The name of a filing: `届出年月日_事業所番号4桁_届書名称` (FEATURES S003-45).
//!
//! One way to write it is right: eight digits of a western date, the establishment's number
//! in four digits, the filing's name, joined by `_`. Everything else is refused, but never
//! without saying what is wrong and, whenever it can be worked out, what the right name is:
//! the page offers it for one click.
//!
//! Nothing here opens a file. [`super::check`] asks for every file that is handed in, the
//! form asks [`FilingName::build`], the store reads names back with [`FilingName::read`]. Which
//! kinds there are, it is told: they are rows ([`super::kinds`]).

mod repair;

use std::fmt;

use protocol::EstablishmentNumber;
use time::{Date, Duration, Month};
use unicode_normalization::UnicodeNormalization;

use super::kinds::{FilingKind, Form, Kinds};

pub use super::kinds::Kind;

/// Longer names are not looked at: no file system makes them.
pub const NAME_LIMIT_CHARS: usize = 255;

/// How far ahead a filing may be dated. Further away it is a slip of the pen.
pub const DATE_AHEAD_LIMIT: Duration = Duration::days(31);

/// The right name of a filing. There is no other way to have one than by the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilingName {
    date: Date,
    establishment: EstablishmentNumber,
    kind: Kind,
}

impl FilingName {
    /// The name of a filing whose parts were chosen in a form.
    pub const fn build(date: Date, establishment: EstablishmentNumber, kind: Kind) -> Self {
        Self {
            date,
            establishment,
            kind,
        }
    }

    /// The date of the filing (届出年月日).
    pub const fn date(&self) -> Date {
        self.date
    }

    /// Whose filing it is.
    pub const fn establishment(&self) -> EstablishmentNumber {
        self.establishment
    }

    /// Which filing it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The name with `.pdf`, as the file is kept and handed out.
    pub fn file_name(&self) -> String {
        format!("{self}.pdf")
    }
}

impl fmt::Display for FilingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date.to_calendar_date();
        let month = u8::from(month);
        let (establishment, kind) = (self.establishment, self.kind);
        write!(f, "{year:04}{month:02}{day:02}_{establishment}_{kind}")
    }
}

/// A text that is no filing's name, where only right names can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a filing")]
pub struct NotAFilingName;

impl FilingName {
    /// Reads back what `Display` wrote, for the kind with the code `kind`: its name may have
    /// been another then.
    ///
    /// # Errors
    /// [`NotAFilingName`], if `Display` cannot have written this.
    pub fn read(text: &str, kind: &str) -> Result<Self, NotAFilingName> {
        let (date, establishment, name) = parts(text).ok_or(NotAFilingName)?;
        if name.is_empty() || kind.is_empty() {
            return Err(NotAFilingName);
        }
        let kind = Kind::of(kind, name);
        Ok(Self::build(date, establishment, kind))
    }
}

/// Of a new portal's kinds: for tests, which have no rows.
#[cfg(test)]
impl std::str::FromStr for FilingName {
    type Err = NotAFilingName;

    fn from_str(text: &str) -> Result<Self, NotAFilingName> {
        let (date, establishment, name) = parts(text).ok_or(NotAFilingName)?;
        let kinds = Kinds::of_a_new_portal();
        let kind = kinds.by_name(name).ok_or(NotAFilingName)?.kind;
        Ok(Self::build(date, establishment, kind))
    }
}

/// The parts of a name that is written by the rule, the kind as it stands there.
fn parts(text: &str) -> Option<(Date, EstablishmentNumber, &str)> {
    let mut parts = text.splitn(3, '_');
    let (date, number, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = |text: &str, len| text.len() == len && is_digits(text);
    if !plain(date, 8) || !plain(number, 4) {
        return None;
    }
    Some((date_from_digits(date)?, number.parse().ok()?, kind))
}

/// Whose filing it must be that has `part` somewhere in its name: `0150_訂正届` can only be
/// that of 0150. Nothing where the number does not stand between both of its signs, or could
/// be the end of a date. No kind's name has the sign in it, or begins with a digit.
pub fn establishment_in(part: &str) -> Option<EstablishmentNumber> {
    let pieces: Vec<&str> = part.split('_').collect();
    let number = match *pieces.as_slice() {
        [_, number, _] => number,
        [_, number] if number.starts_with(|first: char| first.is_ascii_digit()) => number,
        [number, kind] if !kind.is_empty() => number,
        _ => return None,
    };
    let is_whole = number.len() == 4 && is_digits(number);
    is_whole.then(|| number.parse().ok()).flatten()
}

/// One thing that is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// No `.pdf` at the end.
    #[error("the name does not end in .pdf")]
    Extension,
    /// Longer than [`NAME_LIMIT_CHARS`].
    #[error("the name is too long")]
    TooLong,
    /// Nothing at the front that is a date.
    #[error("there is no date")]
    MissingDate,
    /// A date that no calendar has.
    #[error("there is no such date")]
    NoSuchDate {
        /// The date as it was written.
        written: String,
    },
    /// A date in a Japanese era.
    #[error("the date is in a Japanese era")]
    EraDate {
        /// The date as it was written.
        written: String,
    },
    /// A western date that is not eight digits.
    #[error("the date is not eight digits")]
    DateForm {
        /// The date as it was written.
        written: String,
    },
    /// A date more than [`DATE_AHEAD_LIMIT`] ahead.
    #[error("the date {0} is too far ahead")]
    DateAhead(Date),
    /// No establishment number after the date.
    #[error("there is no establishment number")]
    MissingNumber,
    /// The establishment's own number, but not in four digits; or no number at all.
    #[error("the establishment number is not four digits")]
    NumberForm {
        /// The number as it was written.
        written: String,
    },
    /// The number of another establishment.
    #[error("the number of establishment {written} stands in a name for {own}")]
    OtherEstablishment {
        /// The number in the name.
        written: EstablishmentNumber,
        /// The establishment that files.
        own: EstablishmentNumber,
    },
    /// Something else than one `_` between the parts.
    #[error("the parts are not joined by one underscore")]
    Separators,
    /// Full-width digits or signs.
    #[error("full-width characters stand for plain ones")]
    FullWidth,
    /// What a computer adds to a copy's name.
    #[error("a copy's mark is at the end")]
    CopyMark {
        /// The mark as it was written.
        written: String,
    },
    /// Nothing after the number.
    #[error("there is no kind of filing")]
    MissingKind,
    /// A known filing under another name.
    #[error("the kind of filing is written differently")]
    KindSpelling {
        /// The kind as it was written.
        written: String,
        /// The kind that is meant.
        kind: Kind,
    },
    /// A filing that needs a seal, and so comes on paper (FEATURES S003-10).
    #[error("the kind of filing comes on paper")]
    OnPaper(Kind),
    /// A filing that is not taken in yet, or no longer.
    #[error("the kind of filing is not taken in on this day")]
    NotOpen {
        /// The kind.
        kind: Kind,
        /// From when; `None`: it has ended.
        starts: Option<Date>,
    },
    /// No filing that the fund knows.
    #[error("the kind of filing is unknown")]
    UnknownKind {
        /// The kind as it was written.
        written: String,
        /// The kind that is probably meant.
        nearest: Option<Kind>,
    },
}

impl NameFault {
    /// What is wrong, for the person who named the file.
    pub fn page_text(&self) -> String {
        match self {
            Self::Extension => "ファイル名の最後に「.pdf」がありません。".into(),
            Self::TooLong => format!("ファイル名が長すぎます（{NAME_LIMIT_CHARS}文字まで）。"),
            Self::MissingDate => {
                "ファイル名の先頭に届出年月日（西暦8桁、例：20240524）がありません。".into()
            }
            Self::NoSuchDate { written } => {
                format!("届出年月日「{written}」は、暦にない日付です。")
            }
            Self::EraDate { written } => format!(
                "届出年月日「{written}」は和暦です。西暦8桁（例：20240524）で書いてください。"
            ),
            Self::DateForm { written } => format!(
                "届出年月日「{written}」の書き方が違います。西暦8桁の数字（例：20240524）で書いてください。"
            ),
            Self::DateAhead(date) => format!(
                "届出年月日「{}年{}月{}日」は、1か月以上先の日付です。",
                date.year(),
                u8::from(date.month()),
                date.day()
            ),
            Self::MissingNumber => "事業所番号（4桁）がありません。".into(),
            Self::NumberForm { written } => format!(
                "事業所番号「{written}」の書き方が違います。4桁の数字（前にゼロを付けます）で書いてください。"
            ),
            Self::OtherEstablishment { written, own } => format!(
                "ファイル名の事業所番号「{written}」は、届け出る事業所の番号「{own}」と違います。別の事業所の届書ではないか、中身をご確認ください。"
            ),
            Self::Separators => {
                "届出年月日・事業所番号・届書名称の間は、半角の「_」（アンダーバー）1つで区切ってください。"
                    .into()
            }
            Self::FullWidth => {
                "全角の数字や記号が使われています。数字と「_」は半角で書いてください。".into()
            }
            Self::CopyMark { written } => {
                format!("コピーしたときに付く「{}」が残っています。", written.trim())
            }
            Self::MissingKind => "届書名称（例：資格取得届）がありません。".into(),
            Self::KindSpelling { written, kind } => {
                format!("届書名称「{written}」は、「{kind}」と書いてください。")
            }
            Self::OnPaper(kind) => format!(
                "「{kind}」は押印が必要なため、この画面からは提出できません。押印した用紙を、基金事務局へ郵送してください。"
            ),
            Self::NotOpen {
                kind,
                starts: Some(day),
            } => format!(
                "「{kind}」は、{}年{}月{}日から提出できます。",
                day.year(),
                u8::from(day.month()),
                day.day()
            ),
            Self::NotOpen { kind, starts: None } => format!(
                "「{kind}」の受付は終了しました。ほかの届書ではないか、基金事務局へお問い合わせください。"
            ),
            Self::UnknownKind {
                written,
                nearest: Some(kind),
            } => format!("届書名称「{written}」はありません。「{kind}」のことでしょうか。"),
            Self::UnknownKind {
                written,
                nearest: None,
            } => format!(
                "届書名称「{written}」はありません。「資格取得届」など、決められた届書名称を書いてください。"
            ),
        }
    }
}

/// Why a name is refused: all that is wrong with it, and the right one where it is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file's name breaks the rule: {}", join(.faults))]
pub struct NameError {
    faults: Vec<NameFault>,
    suggestion: Option<FilingName>,
}

impl NameError {
    /// All that is wrong, in the order of the name. Never empty.
    pub fn faults(&self) -> &[NameFault] {
        &self.faults
    }

    /// The right name, if it can be worked out from the wrong one. A name that carries
    /// another establishment's number gets none: with one click somebody's filing would land
    /// in the wrong establishment.
    pub fn suggestion(&self) -> Option<FilingName> {
        self.suggestion
    }

    /// Says whether the name carries another establishment's number. Then no chosen name may
    /// stand for it: the file has to be looked at.
    pub fn names_another_establishment(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| matches!(fault, NameFault::OtherEstablishment { .. }))
    }

    /// What is wrong and what to do, for the person who named the file.
    pub fn page_text(&self) -> String {
        let mut text: String = self.faults.iter().map(NameFault::page_text).collect();
        let is_final =
            |fault: &NameFault| matches!(fault, NameFault::OnPaper(_) | NameFault::NotOpen { .. });
        if self.faults.iter().any(is_final) {
            return text;
        }
        text.push_str(&match self.suggestion {
            Some(name) => format!("正しい名前は「{}」です。", name.file_name()),
            None => {
                "「届出年月日_事業所番号4桁_届書名称.pdf」（例：20240524_0123_資格取得届.pdf）の形に直してください。"
                    .into()
            }
        });
        text
    }
}

fn join(faults: &[NameFault]) -> String {
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Reads the name of a PDF that `own` hands in. `today` serves to notice slips in the year
/// and to read years of two digits; without it neither is done.
///
/// # Errors
/// [`NameError`] for every name but the one right form, with the right name where it can be
/// worked out.
pub fn parse(
    file_name: &str,
    own: EstablishmentNumber,
    today: Option<Date>,
    kinds: &Kinds,
) -> Result<FilingName, NameError> {
    if file_name.chars().nth(NAME_LIMIT_CHARS).is_some() {
        return Err(NameError {
            faults: vec![NameFault::TooLong],
            suggestion: None,
        });
    }
    let name: String = file_name.nfc().collect();
    if let Some((date, establishment, written)) = stem(&name).and_then(parts)
        && let Some(kind) = kinds.by_name(written)
        && establishment == own
        && !is_ahead(date, today)
        && not_taken_in(kind, today).is_none()
    {
        return Ok(FilingName::build(date, own, kind.kind));
    }
    Err(repair::explain(&name, own, today, kinds))
}

/// Why the portal does not take this kind in, if it does not.
fn not_taken_in(kind: &FilingKind, today: Option<Date>) -> Option<NameFault> {
    match kind.form {
        Form::Paper => Some(NameFault::OnPaper(kind.kind)),
        Form::Online => {
            let today = today.filter(|today| !kind.is_open_on(*today))?;
            Some(NameFault::NotOpen {
                kind: kind.kind,
                starts: kind.starts.filter(|starts| today < *starts),
            })
        }
    }
}

/// The first date with 年, 月 and 日 in a document's text, if it is on a calendar.
pub fn date_in_text(text: &str, today: Date) -> Option<Date> {
    let text: String = text.nfkc().filter(|c| !c.is_whitespace()).collect();
    text.char_indices()
        .filter(|(_, c)| c.is_ascii_digit() || matches!(c, '令' | '平'))
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_ascii_digit()))
        .find_map(|(at, _)| repair::japanese_date(&text[at..], today))
}

/// The name without `.pdf`, if it ends so.
fn stem(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(4)?;
    let extension = name.get(at..)?;
    extension.eq_ignore_ascii_case(".pdf").then(|| &name[..at])
}

fn is_ahead(date: Date, today: Option<Date>) -> bool {
    today.is_some_and(|today| date - today > DATE_AHEAD_LIMIT)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `YYYYMMDD`. Filings before 1900 are slips, and years have four digits.
fn date_from_digits(digits: &str) -> Option<Date> {
    let number: u32 = digits.parse().ok()?;
    date(
        i32::try_from(number / 10_000).ok()?,
        number / 100 % 100,
        number % 100,
    )
}

fn date(year: i32, month: u32, day: u32) -> Option<Date> {
    if !(1900..=9999).contains(&year) {
        return None;
    }
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::date;

    fn own() -> EstablishmentNumber {
        "0123".parse().unwrap()
    }

    fn read(name: &str) -> Result<FilingName, NameError> {
        parse(
            name,
            own(),
            Some(date!(2026 - 11 - 20)),
            &Kinds::of_a_new_portal(),
        )
    }

    fn suggested(name: &str) -> Option<String> {
        let error = read(name).unwrap_err();
        let text = error.page_text();
        let suggestion = error.suggestion()?;
        assert!(text.contains(&suggestion.file_name()), "{text}");
        Some(suggestion.to_string())
    }

    #[test]
    fn the_example_of_the_rule_is_right() {
        let name = read("20240524_0123_資格取得届.pdf").unwrap();
        assert_eq!(name.to_string(), "20240524_0123_資格取得届");
        assert_eq!(FilingName::read(&name.to_string(), "acquisition"), Ok(name));
        assert_eq!(
            name,
            FilingName::build(
                date!(2024 - 05 - 24),
                own(),
                Kind::of("acquisition", "資格取得届")
            )
        );
        assert_eq!(read("20240524_0123_資格取得届.PDF"), Ok(name));
    }

    #[test]
    fn names_as_macos_writes_them_are_right() {
        let decomposed: String = "20240524_0123_適用データ届出総括表.pdf".nfd().collect();
        assert_ne!(decomposed, "20240524_0123_適用データ届出総括表.pdf");
        assert!(read(&decomposed).is_ok());
    }

    #[test]
    fn what_can_be_repaired_is_refused_with_the_right_name() {
        let right = Some("20240524_0123_資格取得届".to_owned());
        for wrong in [
            "20240524_資格取得届.pdf",
            "20240524-0123-資格取得届.pdf",
            "20240524 0123 資格取得届.pdf",
            "20240524__0123__資格取得届.pdf",
            "202405240123資格取得届.pdf",
            "R060524_0123_資格取得届.pdf",
            "R6.5.24_0123_資格取得届.pdf",
            "Ｒ６．５．２４_0123_資格取得届.pdf",
            "令和6年5月24日_0123_資格取得届.pdf",
            "2024-05-24_0123_資格取得届.pdf",
            "2024年5月24日_0123_資格取得届.pdf",
            "2024/5/24_0123_資格取得届.pdf",
            "240524_0123_資格取得届.pdf",
            "060524_0123_資格取得届.pdf",
            "20240524_000123_資格取得届.pdf",
            "20240524_123_資格取得届.pdf",
            "２０２４０５２４＿０１２３＿資格取得届.pdf",
            "20240524_0123_資格取得届 (1).pdf",
            "20240524_0123_資格取得届（1）.pdf",
            "20240524_0123_資格取得届 - コピー.pdf",
            "20240524_0123_資格取得届 - コピー (2).pdf",
            "20240524_0123_資格取得届のコピー.pdf",
            "20240524_0123_資格取得届のコピー 2.pdf",
            "20240524_0123_資格取得届 copy.pdf",
            "コピー ～ 20240524_0123_資格取得届.pdf",
            "20240524_0123_加入者資格取得届.pdf",
            "20240524_0123_取得届.pdf",
            "20240524_0123_資格取得屆.pdf",
            "20240524_0123_資格取得届.pdf.pdf",
            "20240524_0123_資格取得届",
            " 20240524_0123_資格取得届.pdf",
            "20240524_0123_資格取得届 .pdf",
        ] {
            assert_eq!(suggested(wrong), right, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_repaired_is_refused_without_a_guess() {
        for wrong in [
            "20240230_0123_資格取得届.pdf",
            "20240524_0124_資格取得届.pdf",
            "20240524_0123_.pdf",
            "20240524_0123_お知らせ.pdf",
            "20240524_0123_変更届.pdf",
            "資格取得届.pdf",
            "0123_資格取得届.pdf",
            "R990524_0123_資格取得届.pdf",
            "20240524_99999_資格取得届.pdf",
            "",
            ".pdf",
            "____.pdf",
        ] {
            assert_eq!(suggested(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_fault_has_its_own_variant() {
        let faults = |name: &str| read(name).unwrap_err().faults().to_vec();
        let written = |text: &str| text.to_owned();
        assert_eq!(
            faults("20240524_資格取得届.pdf"),
            [NameFault::MissingNumber]
        );
        assert_eq!(
            faults("20240230_0123_資格取得届.pdf"),
            [NameFault::NoSuchDate {
                written: written("20240230")
            }]
        );
        assert_eq!(
            faults("20240524_0124_資格取得届.pdf"),
            [NameFault::OtherEstablishment {
                written: "0124".parse().unwrap(),
                own: own()
            }]
        );
        assert_eq!(faults("20240524_0123_.pdf"), [NameFault::MissingKind]);
        assert_eq!(
            faults("20240524-0123-資格取得届.pdf"),
            [NameFault::Separators]
        );
        assert_eq!(
            faults("R060524_0123_資格取得届.pdf"),
            [NameFault::EraDate {
                written: written("R060524")
            }]
        );
        assert_eq!(
            faults("20240524_0123_資格取得届 (1).pdf"),
            [NameFault::CopyMark {
                written: written(" (1)")
            }]
        );
        assert_eq!(
            faults("20240524_000123_資格取得届.pdf"),
            [NameFault::NumberForm {
                written: written("000123")
            }]
        );
        assert_eq!(
            faults("20240524_0123_お知らせ.pdf"),
            [NameFault::UnknownKind {
                written: written("お知らせ"),
                nearest: None
            }]
        );
        assert_eq!(
            faults("２０２４０５２４_0123_資格取得届.pdf"),
            [NameFault::FullWidth]
        );
        assert_eq!(faults(&"あ".repeat(300)), [NameFault::TooLong]);
    }

    #[test]
    fn a_slip_in_the_year_is_noticed_and_next_weeks_filing_is_not() {
        assert_eq!(
            read("20620524_0123_資格取得届.pdf").unwrap_err().faults(),
            [NameFault::DateAhead(date!(2062 - 05 - 24))]
        );
        assert!(read("20261127_0123_資格取得届.pdf").is_ok());
    }

    #[test]
    fn a_date_in_a_text_is_one_that_is_written_out() {
        let today = date!(2026 - 11 - 20);
        let found = |text| date_in_text(text, today);
        assert_eq!(
            found("提出日 令和 ８年１１月 ２日 生年月日"),
            Some(date!(2026 - 11 - 02))
        );
        assert_eq!(found("届出2026年11月3日"), Some(date!(2026 - 11 - 03)));
        assert_eq!(found("03-1234-5678 2026.11.3"), None);
        assert_eq!(found("令和8年2月30日"), None);
    }

    #[test]
    fn a_form_with_a_seal_is_sent_to_the_post_and_no_click_changes_that() {
        let error = read("20261120_0123_預金口座振替依頼書.pdf").unwrap_err();
        assert!(matches!(error.faults(), [NameFault::OnPaper(_)]));
        assert_eq!(error.suggestion(), None);
        assert!(
            error
                .page_text()
                .ends_with("基金事務局へ郵送してください。")
        );
        // However it is written.
        let error = read("20261120_口座振替依頼書.pdf").unwrap_err();
        assert_eq!(error.suggestion(), None);
        assert!(error.page_text().contains("郵送"));
    }

    #[test]
    fn a_kind_that_has_ended_or_not_begun_is_refused_with_the_day() {
        let edit = |starts, ends| {
            let mut kinds: Vec<_> = Kinds::of_a_new_portal().iter().cloned().collect();
            (kinds[0].starts, kinds[0].ends) = (starts, ends);
            let name = "20261120_0123_資格取得届.pdf";
            parse(name, own(), Some(date!(2026 - 11 - 20)), &Kinds::new(kinds))
        };
        assert!(edit(None, Some(date!(2026 - 11 - 20))).is_ok());
        let ended = edit(None, Some(date!(2026 - 11 - 19))).unwrap_err();
        assert!(ended.page_text().contains("受付は終了しました"));
        let early = edit(Some(date!(2026 - 12 - 01)), None).unwrap_err();
        assert!(early.page_text().contains("2026年12月1日から"));
    }

    proptest! {
        #[test]
        fn no_name_panics_and_every_suggestion_is_right(name in "\\PC{0,40}") {
            if let Err(error) = read(&name) {
                prop_assert!(!error.faults().is_empty());
                if let Some(right) = error.suggestion() {
                    prop_assert_eq!(read(&right.file_name()), Ok(right));
                }
            }
        }

        #[test]
        fn pieces_in_any_order_never_panic(
            pieces in proptest::collection::vec(prop_oneof![
                Just("R"), Just("令和"), Just("元年"), Just("6"), Just("20240524"), Just("_"), Just("0123"),
                Just("資格取得届"), Just(" (1)"), Just("コピー"), Just("."), Just("年"), Just("月"), Just("日"),
                Just(".pdf"), Just("１２"), Just("-"),
            ], 0..12),
        ) {
            let name: String = pieces.concat();
            if let Err(error) = read(&name) {
                prop_assert!(!error.faults().is_empty());
                if let Some(right) = error.suggestion() {
                    prop_assert_eq!(read(&right.file_name()), Ok(right));
                }
            }
        }
    }
}
