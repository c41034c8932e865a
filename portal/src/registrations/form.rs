//! Reads a 電子連携管理者登録届 (FEATURES S003-13 to -15): a workbook whose row 2 is the data
//! and whose bottom holds an example that is none.
//!
//! What is read was sent by mail from anywhere: the workbook is unpacked within bounds before
//! a spreadsheet reader sees it, a formula is never taken for what it shows, and every fault of
//! the row is named at once.

use std::fmt;
use std::io::{Cursor, Read as _, Write as _};

use calamine::{Data, Range, Reader as _, Xlsx};
use protocol::EstablishmentNumber;
use unicode_normalization::UnicodeNormalization as _;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::establishments::{DEVICE_LIMIT, DeviceLimit, LoginName, MailAddress, Name};

/// Largest form, in bytes. An honest one has some 10 KB.
pub const FORM_LIMIT_BYTES: usize = 1024 * 1024;
/// What a form may unpack to, in bytes, all its parts together.
const UNPACKED_LIMIT_BYTES: u64 = 8 * 1024 * 1024;
/// Parts that a workbook may have.
const PART_LIMIT: usize = 100;
/// Where the data stand, counted from zero.
const DATA_ROW: u32 = 1;

/// A column of the form, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// When the form was filled in.
    Written,
    /// 事業所番号.
    Number,
    /// The admin's name.
    Admin,
    /// The same in katakana.
    Kana,
    /// The admin's mail address.
    Email,
    /// What the admin will type at sign-in.
    Login,
    /// The establishment's name.
    Establishment,
    /// How many PCs will be used.
    Devices,
}

impl Column {
    const ALL: [Self; 8] = [
        Self::Written,
        Self::Number,
        Self::Admin,
        Self::Kana,
        Self::Email,
        Self::Login,
        Self::Establishment,
        Self::Devices,
    ];

    /// The heading in row 1.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Written => "入力日",
            Self::Number => "事業所番号",
            Self::Admin => "管理者氏名(漢字)",
            Self::Kana => "管理者氏名(カナ)",
            Self::Email => "管理者メールアドレス",
            Self::Login => "ユーザーID",
            Self::Establishment => "事業所名",
            Self::Devices => "利用予定台数",
        }
    }
}

/// A form that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// 事業所番号.
    pub number: EstablishmentNumber,
    /// The establishment's name.
    pub establishment: Name,
    /// The admin's name.
    pub admin: Name,
    /// The same in full-width katakana.
    pub kana: String,
    /// The admin's mail address.
    pub email: MailAddress,
    /// What the admin types at sign-in.
    pub login: LoginName,
    /// PCs that are to be used.
    pub devices: DeviceLimit,
}

/// What is wrong with a form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Larger than any form.
    #[error("larger than a form can be")]
    TooLarge,
    /// Not a workbook, or a broken one.
    #[error("not a workbook")]
    NotAWorkbook,
    /// Row 1 does not have the form's headings.
    #[error("not the form: {0} is missing")]
    NotTheForm(Column),
    /// Row 2 is empty.
    #[error("nothing filled in")]
    Empty,
    /// A field of row 2 is empty.
    #[error("{0} is empty")]
    Missing(Column),
    /// A field of row 2 holds a formula.
    #[error("{0} is a formula")]
    Formula(Column),
    /// A field of row 2 is not what it must be.
    #[error("{column} is wrong")]
    Wrong {
        /// Which.
        column: Column,
        /// Why, in Japanese.
        why: String,
    },
    /// The file's name says another number than row 2.
    #[error("the file's name has number {in_name}, the form {in_form}")]
    NumberDiffers {
        /// In the name.
        in_name: EstablishmentNumber,
        /// In row 2.
        in_form: EstablishmentNumber,
    },
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.heading())
    }
}

impl FormError {
    /// What staff are told.
    pub fn page_text(&self) -> String {
        match self {
            Self::TooLarge => "ファイルが大きすぎます。登録届のファイルかどうかご確認ください。".to_owned(),
            Self::NotAWorkbook => {
                "Excelのファイル（.xlsx）として開けません。ファイルが壊れていないか、ご確認ください。".to_owned()
            }
            Self::NotTheForm(column) => {
                format!("登録届の様式と違います。1行目に「{column}」の欄がありません。")
            }
            Self::Empty => "2行目に何も入力されていません。".to_owned(),
            Self::Missing(column) => format!("「{column}」が入力されていません。"),
            Self::Formula(column) => format!(
                "「{column}」に計算式が入っています。式ではなく、文字で入力するよう事業所へお伝えください。"
            ),
            Self::Wrong { column, why } => format!("「{column}」：{why}"),
            Self::NumberDiffers { in_name, in_form } => format!(
                "ファイル名の事業所番号（{}）と、入力された事業所番号（{}）が違います。",
                in_name.six_digits(),
                in_form.six_digits()
            ),
        }
    }
}

/// Reads a form.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file_name: &str, bytes: &[u8]) -> Result<Registration, Vec<FormError>> {
    let row = Row::open(bytes).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let number = row.field(Column::Number, number, &mut errors);
    let admin = row.field(Column::Admin, name, &mut errors);
    let kana = row.field(Column::Kana, kana, &mut errors);
    let email = row.field(Column::Email, email, &mut errors);
    let login = row.field(Column::Login, login, &mut errors);
    let establishment = row.field(Column::Establishment, name, &mut errors);
    let devices = row.field(Column::Devices, devices, &mut errors);
    if let (Some(in_form), Some(in_name)) = (number, number_in_name(file_name))
        && in_form != in_name
    {
        errors.push(FormError::NumberDiffers { in_name, in_form });
    }
    match (number, establishment, admin, kana, email, login, devices) {
        (
            Some(number),
            Some(establishment),
            Some(admin),
            Some(kana),
            Some(email),
            Some(login),
            Some(devices),
        ) if errors.is_empty() => Ok(Registration {
            number,
            establishment,
            admin,
            kana,
            email,
            login,
            devices,
        }),
        _ => Err(errors),
    }
}

/// The number that the file's name has between brackets: `電子連携管理者登録届(000123).xlsx`.
/// Of a name without one nothing can be said.
fn number_in_name(file_name: &str) -> Option<EstablishmentNumber> {
    let name: String = file_name.nfkc().collect();
    let (_, rest) = name.split_once("登録届(")?;
    let (digits, _) = rest.split_once(')')?;
    digits.parse().ok()
}

fn number(text: &str) -> Result<EstablishmentNumber, String> {
    let wrong = |_| "事業所番号は1から9999までの数字で入力してください。".to_owned();
    text.parse().map_err(wrong)
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.page_text().to_owned())
}

/// Katakana, long-vowel marks and middle dots; half-width ones become full-width before.
fn kana(text: &str) -> Result<String, String> {
    let fits = |c| {
        matches!(
            c,
            'ァ'..='ヺ' | '・' | 'ー' | 'ヽ' | 'ヾ' | ' ' | '\u{3000}'
        )
    };
    let text: String = text.nfkc().collect();
    if text.chars().all(fits) {
        Ok(text.split_whitespace().collect::<Vec<_>>().join("　"))
    } else {
        Err("カタカナで入力してください。".to_owned())
    }
}

fn email(text: &str) -> Result<MailAddress, String> {
    MailAddress::new(text).map_err(|error| error.page_text().to_owned())
}

fn login(text: &str) -> Result<LoginName, String> {
    let text: String = text.nfkc().collect();
    LoginName::new(&text).map_err(|error| error.page_text().to_owned())
}

/// More than three need another form (増設届).
fn devices(text: &str) -> Result<DeviceLimit, String> {
    crate::one_time_codes::digits(text)
        .parse()
        .ok()
        .filter(|count| (1..=DEVICE_LIMIT).contains(count))
        .and_then(|count| DeviceLimit::new(count).ok())
        .ok_or_else(|| {
            format!("1台から{DEVICE_LIMIT}台までの数字で入力してください。{DEVICE_LIMIT}台を超えるときは、増設届が必要です。")
        })
}

/// Row 2, with the place of each column.
struct Row {
    values: Range<Data>,
    formulas: Range<String>,
    places: [u32; Column::ALL.len()],
}

impl Row {
    fn open(bytes: &[u8]) -> Result<Self, FormError> {
        if bytes.len() > FORM_LIMIT_BYTES {
            return Err(FormError::TooLarge);
        }
        let plain = repack(bytes)?;
        let broken = |_| FormError::NotAWorkbook;
        let mut book = Xlsx::new(Cursor::new(plain)).map_err(broken)?;
        let sheet = book
            .sheet_names()
            .into_iter()
            .next()
            .ok_or(FormError::NotAWorkbook)?;
        let values = book.worksheet_range(&sheet).map_err(broken)?;
        let formulas = book.worksheet_formula(&sheet).map_err(broken)?;
        let mut places = [0; Column::ALL.len()];
        for (place, column) in places.iter_mut().zip(Column::ALL) {
            *place = place_of(&values, column).ok_or(FormError::NotTheForm(column))?;
        }
        let row = Self {
            values,
            formulas,
            places,
        };
        let empty = |column| matches!(row.text(column), Err(FormError::Missing(_)));
        if Column::ALL.into_iter().all(empty) {
            return Err(FormError::Empty);
        }
        Ok(row)
    }

    /// Reads a field; what is wrong with it goes into `errors`.
    fn field<T>(
        &self,
        column: Column,
        read: impl FnOnce(&str) -> Result<T, String>,
        errors: &mut Vec<FormError>,
    ) -> Option<T> {
        let read = self.text(column).and_then(|text| {
            let wrong = |why| FormError::Wrong { column, why };
            read(&text).map_err(wrong)
        });
        read.map_err(|error| errors.push(error)).ok()
    }

    /// What a field says, or that it says nothing.
    fn text(&self, column: Column) -> Result<String, FormError> {
        let at = (DATA_ROW, self.places[column as usize]);
        if self
            .formulas
            .get_value(at)
            .is_some_and(|text| !text.is_empty())
        {
            return Err(FormError::Formula(column));
        }
        let text = match self.values.get_value(at) {
            Some(Data::String(text)) => text.trim().to_owned(),
            // Numbers are kept as floating-point ones: 123 is `123`, and 2.5 stays wrong.
            Some(Data::Float(number)) => number.to_string(),
            Some(Data::Int(number)) => number.to_string(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        if text.is_empty() {
            return Err(FormError::Missing(column));
        }
        Ok(text)
    }
}

/// Where a heading stands in row 1; brackets and blanks may be of either width.
fn place_of(values: &Range<Data>, column: Column) -> Option<u32> {
    let plain = |text: &str| {
        let text: String = text.nfkc().filter(|c| !c.is_whitespace()).collect();
        text
    };
    let wanted = plain(column.heading());
    (0..64).find(|at| {
        let value = values.get_value((0, *at));
        matches!(value, Some(Data::String(text)) if plain(text) == wanted)
    })
}

/// Unpacks a workbook within bounds and packs it again without compression, so that the
/// reader of spreadsheets meets no bomb.
fn repack(bytes: &[u8]) -> Result<Vec<u8>, FormError> {
    let broken = |_| FormError::NotAWorkbook;
    let mut packed = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if packed.len() > PART_LIMIT {
        return Err(FormError::TooLarge);
    }
    let mut plain = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut left = UNPACKED_LIMIT_BYTES;
    for index in 0..packed.len() {
        let part = packed.by_index(index).map_err(broken)?;
        let name = part.name().map_err(broken)?.into_owned();
        let mut unpacked = Vec::new();
        let mut bounded = part.take(left + 1);
        bounded
            .read_to_end(&mut unpacked)
            .map_err(|_| FormError::NotAWorkbook)?;
        left = left
            .checked_sub(unpacked.len() as u64)
            .ok_or(FormError::TooLarge)?;
        plain.start_file(name, stored).map_err(broken)?;
        plain
            .write_all(&unpacked)
            .map_err(|_| FormError::NotAWorkbook)?;
    }
    let plain = plain.finish().map_err(broken)?;
    Ok(plain.into_inner())
}

#[cfg(test)]
mod tests;
