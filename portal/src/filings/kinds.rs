//! The kinds of filings (届書) that the fund takes in: their names, deadlines, and which come
//! on paper (FEATURES S003-10, S003-45).
//!
//! Which filings a fund knows is its own matter: the kinds are rows, and staff edit them
//! ([`pages`]). The name rule and the forms ask [`Kinds`]; nothing keeps a list of its own. A
//! kind is never removed, for old filings carry its name: it ends on a day.
//!
//! Here are the rules, without a row or a clock.

pub mod pages;
pub mod store;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::RwLock;

use time::{Date, Duration};
use unicode_normalization::UnicodeNormalization as _;

/// Longest name of a kind, in characters.
pub const NAME_LIMIT_CHARS: usize = 40;
/// How many other names a kind may have.
pub const ALIASES_LIMIT: usize = 20;
/// How many kinds there may be.
pub const KINDS_LIMIT: usize = 200;
/// Longest text of what a deadline counts from, in characters.
pub const EVENT_LIMIT_CHARS: usize = 40;
/// Longest deadline, in days.
pub const DAYS_LIMIT: u16 = 365;
/// Last day of a month that every month has.
pub const MONTH_DAY_LIMIT: u8 = 28;
/// How far back a working day is looked for.
const LOOKBACK_DAYS: usize = 31;

/// What joins the other names in a row.
const ALIAS_SEPARATOR: char = '|';

/// A kind of filing: its code and its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(&'static Named);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Named {
    code: String,
    name: String,
}

/// Every code with every name it has had while this program runs. Rows alone put something
/// in, and staff make few: so they can stay for good, and a [`Kind`] can be copied.
static NAMED: RwLock<Vec<&'static Named>> = RwLock::new(Vec::new());

impl Kind {
    /// The kind with this code and name, as a row has them.
    pub(in crate::filings) fn of(code: &str, name: &str) -> Self {
        let is_it = |named: &&&'static Named| named.code == code && named.name == name;
        let known = NAMED
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(named) = known.iter().find(is_it) {
            return Self(named);
        }
        drop(known);
        let mut known = NAMED
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(named) = known.iter().find(is_it) {
            return Self(named);
        }
        let named = Box::leak(Box::new(Named {
            code: code.to_owned(),
            name: name.to_owned(),
        }));
        known.push(named);
        Self(named)
    }

    /// The stable ASCII code.
    pub fn code(self) -> &'static str {
        &self.0.code
    }

    /// The name that stands in file names (届書名称).
    pub fn name(self) -> &'static str {
        &self.0.name
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

/// All that the fund says about one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilingKind {
    /// Code and name.
    pub kind: Kind,
    /// Where a form lists it.
    pub position: i64,
    /// Other ways in which people write the name: understood in order to suggest the right
    /// one, not accepted.
    pub aliases: Vec<String>,
    /// What it belongs to.
    pub procedure: Procedure,
    /// How it comes.
    pub form: Form,
    /// By when it is due.
    pub deadline: Deadline,
    /// The first day on which it is taken in; `None`: always has been.
    pub starts: Option<Date>,
    /// The last one; `None`: none is planned.
    pub ends: Option<Date>,
    /// How often it was edited: an edit of an older version is refused.
    pub version: i64,
}

/// What kinds of filings belong together: a sharoushi is entrusted with a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Procedure {
    /// Who is a member.
    Membership,
    /// What is written down of a member.
    Record,
    /// What contributions are reckoned from.
    Salary,
    /// The establishment itself.
    Establishment,
}

impl Procedure {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Membership,
        Self::Record,
        Self::Salary,
        Self::Establishment,
    ];

    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Record => "record",
            Self::Salary => "salary",
            Self::Establishment => "establishment",
        }
    }

    /// Reads the word in the database.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.code() == code)
    }

    /// The word on pages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Membership => "加入者の資格",
            Self::Record => "加入者の届出事項",
            Self::Salary => "給与",
            Self::Establishment => "事業所",
        }
    }
}

/// How a filing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Through the portal.
    Online,
    /// With a seal (押印), by post.
    Paper,
}

impl Form {
    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Paper => "paper",
        }
    }

    /// Reads the word in the database.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Online, Self::Paper]
            .into_iter()
            .find(|form| form.code() == code)
    }
}

/// By when a filing is due: the earlier of what it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deadline {
    /// What it counts from, in words; may be empty.
    pub event: String,
    /// So many days after that.
    pub within: Option<Within>,
    /// On this day of the month after that.
    pub month_day: Option<u8>,
}

/// A number of days, the first one not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// How many.
    pub days: u16,
    /// Which days count.
    pub counting: Counting,
}

/// Which days count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// All.
    Calendar,
    /// Those on which the fund works.
    Working,
}

impl Counting {
    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Calendar => "calendar",
            Self::Working => "working",
        }
    }

    /// Reads the word in the database.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Calendar, Self::Working]
            .into_iter()
            .find(|counting| counting.code() == code)
    }
}

impl Deadline {
    /// The last day for a filing about an event of `event`. Where that is no working day, the
    /// one before: who keeps it is never late. `None` if there is no deadline.
    pub fn due(&self, event: Date, is_working: impl Fn(Date) -> bool) -> Option<Date> {
        let by_days = self.within.and_then(|within| match within.counting {
            Counting::Calendar => event.checked_add(Duration::days(within.days.into())),
            Counting::Working => std::iter::successors(event.next_day(), |day| day.next_day())
                .filter(|day| is_working(*day))
                .nth(usize::from(within.days).saturating_sub(1)),
        });
        let by_month = self.month_day.and_then(|day| {
            let (year, month) = match event.month() {
                time::Month::December => (event.year() + 1, time::Month::January),
                month => (event.year(), month.next()),
            };
            Date::from_calendar_date(year, month, day.min(MONTH_DAY_LIMIT)).ok()
        });
        let due = by_days.into_iter().chain(by_month).min()?;
        let before = std::iter::successors(Some(due), |day| day.previous_day());
        before
            .take(LOOKBACK_DAYS)
            .find(|day| is_working(*day))
            .or(Some(due))
    }

    /// The deadline in words; empty if there is none.
    pub fn page_text(&self) -> String {
        let event = if self.event.is_empty() {
            "届出の事由が生じた日"
        } else {
            &self.event
        };
        let within = self.within.map(|within| {
            let unit = match within.counting {
                Counting::Calendar => "日",
                Counting::Working => "営業日",
            };
            format!("{event}から{}{unit}以内", within.days)
        });
        match (within, self.month_day) {
            (None, None) => String::new(),
            (Some(within), None) => within,
            (None, Some(day)) => format!("{event}の翌月{day}日まで"),
            (Some(within), Some(day)) => {
                format!("{within}、または翌月{day}日の、いずれか早い日まで")
            }
        }
    }
}

impl FilingKind {
    /// Whether it is taken in on `day`.
    pub fn is_open_on(&self, day: Date) -> bool {
        self.starts.is_none_or(|starts| starts <= day) && self.ends.is_none_or(|ends| day <= ends)
    }

    /// Whether the portal may take it in on `day`.
    pub fn is_offered_on(&self, day: Date) -> bool {
        self.form == Form::Online && self.is_open_on(day)
    }
}

/// Every kind, in the order in which a form lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(Vec<FilingKind>);

impl Kinds {
    /// Puts them in order.
    pub fn new(mut kinds: Vec<FilingKind>) -> Self {
        kinds.sort_by(|a, b| (a.position, a.kind.code()).cmp(&(b.position, b.kind.code())));
        Self(kinds)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, FilingKind> {
        self.0.iter()
    }

    /// Those that a form offers on `day`.
    pub fn offered_on(&self, day: Date) -> impl Iterator<Item = &FilingKind> {
        self.iter().filter(move |kind| kind.is_offered_on(day))
    }

    /// Those that come by post.
    pub fn on_paper(&self, day: Date) -> impl Iterator<Item = &FilingKind> {
        self.iter()
            .filter(move |kind| kind.form == Form::Paper && kind.is_open_on(day))
    }

    /// The kind with this code.
    pub fn find(&self, code: &str) -> Option<&FilingKind> {
        self.iter().find(|kind| kind.kind.code() == code)
    }

    /// The kind with exactly this name.
    pub fn by_name(&self, name: &str) -> Option<&FilingKind> {
        self.iter().find(|kind| kind.kind.name() == name)
    }

    /// The kind that is known under this other name.
    pub fn by_alias(&self, text: &str) -> Option<&FilingKind> {
        self.iter()
            .find(|kind| kind.aliases.iter().any(|alias| alias == text))
    }

    /// The one kind that somebody most probably meant, if there is only one such.
    pub fn nearest(&self, text: &str) -> Option<&FilingKind> {
        let name = |kind: &FilingKind| kind.kind.name();
        only(self.iter().filter(|kind| text.contains(name(kind))))
            .or_else(|| {
                let long_enough = text.chars().count() >= 3;
                only(
                    self.iter()
                        .filter(|kind| long_enough && name(kind).contains(text)),
                )
            })
            .or_else(|| {
                let near = |kind: &&FilingKind| {
                    let distance = edit_distance(text, name(kind));
                    match name(kind).chars().count() {
                        0..=3 => false,
                        4..=5 => distance <= 1,
                        _ => distance <= 2,
                    }
                };
                only(self.iter().filter(near))
            })
    }

    /// The kind that a document is most probably of: the one whose name or other name stands
    /// first in its text. Of two that begin at one place, the longer.
    pub fn in_text(&self, text: &str) -> Option<&FilingKind> {
        let found = self.iter().flat_map(|kind| {
            let names = std::iter::once(kind.kind.name())
                .chain(kind.aliases.iter().map(String::as_str))
                .filter(|name| name.chars().count() >= 3);
            names.filter_map(move |name| {
                let at = text.find(name)?;
                Some((at, std::cmp::Reverse(name.len()), kind))
            })
        });
        found
            .min_by_key(|(at, length, _)| (*at, *length))
            .map(|(_, _, kind)| kind)
    }

    /// The kinds that a new portal begins with.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of_a_new_portal() -> Self {
        store::seed()
    }
}

/// What is wrong with a kind as somebody edited it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No name, too long, or with characters that file names cannot have.
    #[error("the name cannot stand in a file's name")]
    Name,
    /// The same with one of the other names.
    #[error("another name is unusable")]
    Alias {
        /// Which.
        written: String,
    },
    /// More than [`ALIASES_LIMIT`] other names.
    #[error("more than {ALIASES_LIMIT} other names")]
    TooManyAliases,
    /// Another kind has this name, or this one has it twice.
    #[error("the name {written} is taken by {by}")]
    Taken {
        /// The name.
        written: String,
        /// Who has it.
        by: Kind,
    },
    /// What the deadline counts from is too long or no line.
    #[error("the event is no line of at most {EVENT_LIMIT_CHARS} characters")]
    Event,
    /// It ends before it starts.
    #[error("it ends before it starts")]
    Ends,
    /// More than [`KINDS_LIMIT`].
    #[error("there are {KINDS_LIMIT} kinds already")]
    TooMany,
    /// Somebody else edited it meanwhile.
    #[error("the kind was edited meanwhile")]
    Moved,
}

impl EditError {
    /// The field of the form that it belongs to.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Alias { .. } | Self::TooManyAliases => "aliases",
            Self::Taken { .. } => "name",
            Self::Event => "event",
            Self::Ends => "ends",
            Self::TooMany | Self::Moved => "",
        }
    }

    /// What is wrong and what to do.
    pub fn page_text(&self) -> String {
        match self {
            Self::Name => format!(
                "名称は{NAME_LIMIT_CHARS}文字以内で入力してください。空白や「_ . / \\ : * ? \" < > |」は使えません。数字で始めることもできません。"
            ),
            Self::Alias { written } => format!(
                "別名「{written}」は使えません。{NAME_LIMIT_CHARS}文字以内で、空白や「_ . / \\ : * ? \" < > |」を使わずに入力してください。"
            ),
            Self::TooManyAliases => format!("別名は{ALIASES_LIMIT}個までです。"),
            Self::Taken { written, by } => format!(
                "「{written}」は、「{by}」の名称または別名としてすでに使われています。ほかの名称にしてください。"
            ),
            Self::Event => {
                format!("期限の起点は{EVENT_LIMIT_CHARS}文字以内の1行で入力してください。")
            }
            Self::Ends => "受付の終了日は、開始日より後の日付にしてください。".into(),
            Self::TooMany => {
                format!("届書の種類は{KINDS_LIMIT}件までです。基金のシステム管理者にご相談ください。")
            }
            Self::Moved => {
                "ほかの人がこの届書の種類を先に変更しました。画面を開き直して、内容をご確認ください。".into()
            }
        }
    }
}

/// Says whether `edited` may stand among `others` (which may hold its older version).
///
/// # Errors
/// The first thing that is wrong.
pub fn check(edited: &FilingKind, others: &Kinds) -> Result<(), EditError> {
    if !is_usable(edited.kind.name()) {
        return Err(EditError::Name);
    }
    if edited.aliases.len() > ALIASES_LIMIT {
        return Err(EditError::TooManyAliases);
    }
    if let Some(alias) = edited.aliases.iter().find(|alias| !is_usable(alias)) {
        let written = alias.clone();
        return Err(EditError::Alias { written });
    }
    let event = &edited.deadline.event;
    if event.chars().count() > EVENT_LIMIT_CHARS || event.chars().any(char::is_control) {
        return Err(EditError::Event);
    }
    if let (Some(starts), Some(ends)) = (edited.starts, edited.ends)
        && ends < starts
    {
        return Err(EditError::Ends);
    }
    let is_new = others.find(edited.kind.code()).is_none();
    if is_new && others.0.len() >= KINDS_LIMIT {
        return Err(EditError::TooMany);
    }
    let mut own = BTreeSet::new();
    for written in std::iter::once(edited.kind.name()).chain(edited.aliases.iter().map(|a| &**a)) {
        let taken = |by| EditError::Taken {
            written: written.to_owned(),
            by,
        };
        if !own.insert(written) {
            return Err(taken(edited.kind));
        }
        let other = others
            .by_name(written)
            .or_else(|| others.by_alias(written))
            .filter(|other| other.kind.code() != edited.kind.code());
        if let Some(other) = other {
            return Err(taken(other.kind));
        }
    }
    Ok(())
}

/// Whether a text can be the last part of a file's name, and be read back as it.
fn is_usable(name: &str) -> bool {
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || r#"_./\:*?"<>|"#.contains(c);
    (1..=NAME_LIMIT_CHARS).contains(&name.chars().count())
        && !name.chars().any(is_bad)
        && !name.starts_with(|c: char| c.is_numeric())
        && name.nfc().eq(name.chars())
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Levenshtein's distance, in characters. Names are at most
/// [`super::names::NAME_LIMIT_CHARS`] long.
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
mod tests;
