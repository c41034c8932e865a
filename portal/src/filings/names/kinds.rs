//! The kinds of filings (届書名称) that the fund takes in.
//!
//! A table, not an enum: which filings a fund knows is its own matter, and a later version
//! reads the rows from the database. Nothing here decides what happens to a filing; the
//! name rule and the forms ask it what a filing may be called.

use std::fmt;

/// One row of the table.
struct Row {
    /// Stable, ASCII; what the database and the forms keep.
    code: &'static str,
    /// What stands in the file name.
    name: &'static str,
    /// Other ways in which people write the same filing's name. They are understood in order
    /// to suggest the right name, not accepted.
    aliases: &'static [&'static str],
}

const fn row(code: &'static str, name: &'static str, aliases: &'static [&'static str]) -> Row {
    Row {
        code,
        name,
        aliases,
    }
}

/// In the order in which a form lists them: the frequent ones first.
const TABLE: &[Row] = &[
    row(
        "acquisition",
        "資格取得届",
        &["加入者資格取得届", "取得届", "資格取得"],
    ),
    row(
        "loss",
        "資格喪失届",
        &["加入者資格喪失届", "喪失届", "資格喪失"],
    ),
    row(
        "name-change",
        "氏名変更届",
        &["加入者氏名変更届", "氏名変更(訂正)届", "氏名変更"],
    ),
    row(
        "salary-change",
        "基準給与変更届",
        &["基準給与変更", "給与変更届"],
    ),
    row("suspension", "中断者届", &["中断届"]),
    row("resumption", "復活者届", &["復活届"]),
    row("correction", "訂正届", &["訂正(変更)届", "届出事項訂正届"]),
    row("cancellation", "取消届", &["届出事項取消届", "取り消し届"]),
    row(
        "birth-date-change",
        "生年月日変更届",
        &["生年月日訂正届", "生年月日変更(訂正)届"],
    ),
    row(
        "sex-change",
        "性別変更届",
        &["性別訂正届", "性別変更(訂正)届"],
    ),
    row(
        "pension-number-change",
        "基礎年金番号変更届",
        &[
            "基礎年金番号届",
            "基礎年金番号訂正届",
            "基礎年金番号変更(訂正)届",
        ],
    ),
    row(
        "employer-change",
        "事業主関係変更届",
        &["事業主変更届", "事業主関係変更"],
    ),
    row(
        "establishment-change",
        "事業所関係変更届",
        &["事業所変更届", "事業所関係変更"],
    ),
    row("assessment-base", "算定基礎届", &["報酬月額算定基礎届"]),
    row(
        "monthly-salary-change",
        "月額変更届",
        &["標準給与等月額変更届", "標準給与月額変更届"],
    ),
    row(
        "maternity-leave-end",
        "産休終了時変更届",
        &["産前産後休業終了時変更届"],
    ),
    row(
        "childcare-leave-end",
        "育休終了時変更届",
        &["育児休業終了時変更届"],
    ),
    row(
        "waiting-member",
        "加入待期者連絡票",
        &["加入待期者届", "加入待機者連絡票"],
    ),
    row(
        "member-card-reissue",
        "加入者証再交付申請書",
        &["加入者証再交付届", "基金加入者証再交付願"],
    ),
    row("bank-transfer", "預金口座振替依頼書", &["口座振替依頼書"]),
    row("delegation", "業務委託書", &["業務委託届"]),
    row(
        "summary",
        "適用データ届出総括表",
        &["届出総括表", "適用データ総括表", "総括表"],
    ),
];

/// A kind of filing: one row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(usize);

impl Kind {
    /// Every kind, in the order in which a form lists them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TABLE.len()).map(Self)
    }

    /// The kind with this code, as the database and the forms keep it.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::all().find(|kind| kind.code() == code)
    }

    /// The kind with exactly this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// The stable ASCII code.
    pub fn code(self) -> &'static str {
        TABLE[self.0].code
    }

    /// The name that stands in file names (届書名称).
    pub fn name(self) -> &'static str {
        TABLE[self.0].name
    }

    /// The kind that is known under this other name.
    pub(super) fn from_alias(text: &str) -> Option<Self> {
        Self::all().find(|kind| TABLE[kind.0].aliases.contains(&text))
    }

    /// The one kind that somebody most probably meant, if there is only one such.
    pub(super) fn nearest(text: &str) -> Option<Self> {
        only(Self::all().filter(|kind| text.contains(kind.name())))
            .or_else(|| {
                let long_enough = text.chars().count() >= 3;
                only(Self::all().filter(|kind| long_enough && kind.name().contains(text)))
            })
            .or_else(|| {
                let distance = |kind: &Self| edit_distance(text, kind.name());
                let near = |kind: &Self| match kind.name().chars().count() {
                    0..=3 => false,
                    4..=5 => distance(kind) <= 1,
                    _ => distance(kind) <= 2,
                };
                only(Self::all().filter(near))
            })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.code())
    }
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Levenshtein's distance, in characters. Names are at most [`super::NAME_LIMIT_CHARS`] long.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_are_unique_and_codes_are_ascii() {
        let codes: BTreeSet<_> = Kind::all().map(Kind::code).collect();
        let names: BTreeSet<_> = Kind::all()
            .map(Kind::name)
            .chain(TABLE.iter().flat_map(|row| row.aliases.iter().copied()))
            .collect();
        let aliases: usize = TABLE.iter().map(|row| row.aliases.len()).sum();
        assert_eq!(codes.len(), TABLE.len());
        assert_eq!(names.len(), TABLE.len() + aliases);
        assert!(
            codes
                .iter()
                .all(|code| { code.chars().all(|c| c.is_ascii_lowercase() || c == '-') })
        );
    }

    #[test]
    fn a_slip_of_one_character_is_understood_and_a_guess_between_two_is_not_made() {
        assert_eq!(Kind::nearest("資格取得屆"), Kind::from_name("資格取得届"));
        assert_eq!(Kind::nearest("資格喪失届2"), Kind::from_name("資格喪失届"));
        assert_eq!(Kind::nearest("変更届"), None);
        assert_eq!(Kind::nearest("お知らせ"), None);
        assert_eq!(Kind::nearest(""), None);
    }
}
