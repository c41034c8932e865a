//! 「企業年金電子連携サービス管理者情報登録完了」のお知らせ: the letters to new admins, as one PDF
//! to print and post. They hold what no mail may hold, and are made once.

use std::num::NonZeroU16;

use time::{OffsetDateTime, UtcOffset};
use zeroize::Zeroizing;

use super::Registration;
use crate::documents::{
    Align, Cell, DocumentError, Ink, Role, RowPlace, Sheet, Style, date_text, drawable,
};
use crate::establishments::RegistrationCode;
use crate::ids::EstablishmentId;

const TITLE: &str = "「企業年金電子連携サービス管理者情報登録完了」のお知らせ";
/// Where letters are dated.
const JAPAN: UtcOffset = time::macros::offset!(+9);
const LABEL_WIDTH: f32 = 120.0;
const TEXT: Style = Style::new(10.5);
const HEADING: Style = Style::new(13.0);

/// What goes to one admin by post.
#[derive(Debug)]
pub struct Letter {
    /// The establishment.
    pub establishment: EstablishmentId,
    /// What was registered.
    pub registration: Registration,
    /// The registration code for the first PC, and until when it is good.
    pub code: Option<(RegistrationCode, OffsetDateTime)>,
    /// The password for the first sign-in; `None` for somebody who has an own one already.
    pub password: Option<Zeroizing<String>>,
}

/// From whom the letters come.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The fund's name.
    pub fund: &'a str,
    /// Whom to ask, and where.
    pub contact: &'a str,
    /// What the program on the PC is told to connect to.
    pub gateway: Option<&'a str>,
}

/// Lays the letters out, each on a page of its own.
///
/// # Errors
/// [`DocumentError`], if they are more than any document can hold.
pub fn to_pdf(
    letters: &[&Letter],
    sender: Sender<'_>,
    now: OffsetDateTime,
) -> Result<Vec<u8>, DocumentError> {
    let mut sheet = Sheet::new(TITLE, &drawable(sender.fund), now);
    for (index, letter) in letters.iter().enumerate() {
        if index > 0 {
            sheet.need(f32::INFINITY);
        }
        write(&mut sheet, letter, sender, now);
    }
    sheet.finish()
}

fn write(sheet: &mut Sheet, letter: &Letter, sender: Sender<'_>, now: OffsetDateTime) {
    let registration = &letter.registration;
    let paragraph = |sheet: &mut Sheet, text: &str| {
        sheet.paragraph(Role::Paragraph, &drawable(text), TEXT.ink(Ink::Text));
    };
    let right = TEXT.align(Align::Right);
    let today = date_text(now.to_offset(JAPAN).date());
    sheet.paragraph(Role::Paragraph, &today, right);
    paragraph(sheet, registration.establishment.as_str());
    paragraph(sheet, &format!("{}　様", registration.admin.as_str()));
    sheet.paragraph(Role::Paragraph, &drawable(sender.fund), right);
    sheet.skip(14.0);
    let centre = HEADING.align(Align::Centre);
    sheet.paragraph(Role::Heading(NonZeroU16::MIN), TITLE, centre);
    sheet.skip(10.0);
    paragraph(
        sheet,
        "　企業年金電子連携サービスの管理者として、次のとおり登録しました。この用紙には、ご利用に必要な登録コードと初期パスワードを記載しています。ほかの方の目にふれないよう、大切に保管してください。",
    );
    sheet.skip(12.0);

    let heading = Role::Heading(NonZeroU16::MIN.saturating_add(1));
    let number = registration.number.to_string();
    let devices = format!("{}台", registration.devices.as_u16());
    sheet.paragraph(heading, "登録した内容", HEADING);
    let facts = [
        ("事業所番号", number.as_str()),
        ("事業所", registration.establishment.as_str()),
        ("管理者", registration.admin.as_str()),
        ("利用予定台数", &devices),
    ];
    table(sheet, &facts);
    sheet.skip(16.0);

    if let Some((code, expires)) = &letter.code {
        let code = code.to_string();
        let until = format!(
            "{}まで、一度だけ使えます。",
            date_text(expires.to_offset(JAPAN).date())
        );
        sheet.paragraph(heading, "1　パソコンの登録", HEADING);
        paragraph(
            sheet,
            "　接続用プログラムを起動し、次の内容を入力してください。画面に照合番号が表示されたら、基金事務局へお電話ください。",
        );
        let mut facts = vec![
            ("事業所番号", number.as_str()),
            ("登録コード", &code),
            ("有効期限", &until),
        ];
        if let Some(gateway) = sender.gateway {
            facts.insert(0, ("接続先", gateway));
        }
        table(sheet, &facts);
        sheet.skip(16.0);
    }
    sheet.paragraph(heading, "2　ログイン", HEADING);
    let login = ("ユーザーID", registration.login.as_str());
    if let Some(password) = &letter.password {
        paragraph(
            sheet,
            "　最初のログインのあと、ご自身のパスワードに変えていただきます。",
        );
        table(sheet, &[login, ("初期パスワード", password.as_str())]);
    } else {
        paragraph(
            sheet,
            "　パスワードは、ご自身で決めたものをお使いください。",
        );
        table(sheet, &[login]);
    }
    sheet.skip(16.0);
    paragraph(sheet, &format!("お問い合わせ：{}", sender.contact));
}

fn table(sheet: &mut Sheet, facts: &[(&str, &str)]) {
    let widths = [LABEL_WIDTH, sheet.width() - LABEL_WIDTH];
    let table = sheet.open(None, Role::Table);
    let body = sheet.open(Some(table), Role::TableBody);
    sheet.rule();
    for (label, text) in facts {
        let text = drawable(text);
        let cell = |text, role| Cell {
            text,
            align: Align::Left,
            role,
        };
        let cells = [cell(label, Role::RowHeader), cell(&text, Role::Data)];
        if sheet.row(Some(body), &widths, &cells, TEXT) == RowPlace::NoRoom {
            sheet.need(f32::INFINITY);
            sheet.row(Some(body), &widths, &cells, TEXT);
        }
    }
}
