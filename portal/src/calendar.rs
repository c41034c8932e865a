//! The fund's calendar as staff edit it, and what an edit does to sessions that are open.
//!
//! The rules (weekends, national holidays, half-open hours) are `access`'s; here the data
//! comes from the database. An edit never lengthens a session: in the same transaction it
//! shortens those that would otherwise outlive the new window, and the feed tells the
//! gateways. Sessions are opened under the same lock, so that none slips past an edit.
//!
//! On the pages, nothing is saved that was not looked at first ([`changes`]), and only
//! supervisors and system administrators save.

use std::collections::BTreeMap;

use access::{Calendar, HOLIDAYS_KNOWN_UNTIL, Opening, OpeningHours, WeekHours};
use protocol::SessionId;
use protocol::agent_api::EndCode;
use serde_json::json;
use time::{Date, OffsetDateTime, Time};

use crate::audit::{self, Act, Actor};
use crate::db::{StoreError, Tx};
use crate::deadlines;
use crate::keys::MasterKey;
use crate::web::dates;

mod changes;
mod days;
pub mod pages;
mod rules;
pub mod store;

/// Longest reason of a calendar day, in characters.
pub const REASON_LIMIT: usize = 40;
/// How long before the bundled holidays end staff are told.
const HOLIDAY_WARNING: time::Duration = time::Duration::days(90);
/// Days that can be entered at most.
const DAYS_LIMIT: usize = 2_000;

/// How a day differs from the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DayKind {
    /// The fund is closed.
    Closing,
    /// The service is open although the rule says no, or at other hours.
    Extra(OpeningHours),
}

/// A day that staff entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarDay {
    /// Which day.
    pub day: Date,
    /// What is different.
    pub kind: DayKind,
    /// Why, for the sentence that users read. May be empty.
    pub reason: String,
}

/// The days that staff entered, and the ordinary hours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entries {
    /// The hours of each weekday.
    pub week: WeekHours,
    /// The days, one entry each.
    pub days: BTreeMap<Date, CalendarDay>,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Enters a day, in place of what was entered for it before.
    Enter(CalendarDay),
    /// Removes what was entered for a day.
    Remove(Date),
    /// Changes the hours of the weekdays.
    Week(WeekHours),
}

/// What an edit did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Sessions that now end earlier.
    pub shortened: Vec<SessionId>,
    /// Sessions that ended at once.
    pub ended: Vec<SessionId>,
}

/// An edit that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The reason is too long or has control characters.
    #[error("reason is no line of at most {REASON_LIMIT} characters")]
    Reason,
    /// No weekday would have hours.
    #[error("no weekday has hours")]
    NeverOpen,
    /// Nothing was entered for that day.
    #[error("nothing is entered for {0}")]
    NotEntered(Date),
    /// More days than anybody needs.
    #[error("more than {DAYS_LIMIT} days are entered")]
    TooMany,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EditError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::Reason => Some(format!(
                "理由は{REASON_LIMIT}文字以内の1行で入力してください。"
            )),
            Self::NeverOpen => Some("少なくとも1つの曜日に利用時間を入力してください。".to_owned()),
            Self::NotEntered(day) => Some(format!(
                "{}の登録はすでに削除されています。画面を更新してご確認ください。",
                access::japanese_day(*day)
            )),
            Self::TooMany => Some(
                "登録できる日数の上限に達しました。過ぎた日の登録を削除してください。".to_owned(),
            ),
            Self::Store(_) => None,
        }
    }
}

impl Entries {
    /// The calendar that these entries make. A rehearsal's never closes.
    pub fn calendar(&self, rehearsal: bool) -> Calendar {
        if rehearsal {
            return Calendar::always_open();
        }
        let mut calendar = Calendar::weekly(self.week);
        for entry in self.days.values() {
            match &entry.kind {
                DayKind::Closing => calendar.close_on(entry.day, entry.reason.clone()),
                DayKind::Extra(hours) => calendar.open_on(entry.day, *hours),
            }
        }
        calendar
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::Enter(entry) => {
                let reason = &entry.reason;
                if reason.chars().count() > REASON_LIMIT || reason.chars().any(char::is_control) {
                    return Err(EditError::Reason);
                }
                self.days.insert(entry.day, entry.clone());
                if self.days.len() > DAYS_LIMIT {
                    return Err(EditError::TooMany);
                }
            }
            Edit::Remove(day) => {
                self.days.remove(day).ok_or(EditError::NotEntered(*day))?;
            }
            Edit::Week(week) if week.is_never() => return Err(EditError::NeverOpen),
            Edit::Week(week) => self.week = *week,
        }
        Ok(())
    }
}

/// Makes edits together and shortens what would outlive the new window. After the commit, tell
/// `signals.sessions_changed()`.
pub async fn edit(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    edits: &[Edit],
    rehearsal: bool,
    now: OffsetDateTime,
) -> Result<Effect, EditError> {
    store::lock_for_edit(tx).await?;
    let mut entries = store::entries(tx).await?;
    for edit in edits {
        entries.apply(edit)?;
        match edit {
            Edit::Enter(entry) => store::enter(tx, entry, actor, now).await?,
            Edit::Remove(day) => store::remove(tx, *day).await?,
            Edit::Week(week) => store::set_week(tx, *week).await?,
        }
    }
    deadlines::store::follow_the_rules(tx).await?;
    let effect = shorten(tx, &entries.calendar(rehearsal), now).await?;
    for edit in edits {
        let details = edit.details();
        audit::record_with(tx, keys, actor, Act::CalendarEdited, "", &details, now).await?;
    }
    for session in &effect.shortened {
        audit::record(tx, keys, actor, Act::SessionShortened(*session), now).await?;
    }
    for session in &effect.ended {
        let act = Act::SessionEnded(*session, EndCode::ClosingTime.as_str());
        audit::record(tx, keys, actor, act, now).await?;
    }
    Ok(effect)
}

/// Lays `calendar` over the sessions that are open at `now`: all are inside the same window.
async fn shorten(
    tx: &mut Tx,
    calendar: &Calendar,
    now: OffsetDateTime,
) -> Result<Effect, StoreError> {
    use crate::tunnel_sessions::store as sessions;
    match calendar.opening(now) {
        Opening::Open { closes_at: None } => Ok(Effect::default()),
        Opening::Open {
            closes_at: Some(closes),
        } => Ok(Effect {
            shortened: sessions::shorten_all(tx, closes, now).await?,
            ended: Vec::new(),
        }),
        Opening::Closed(_) => Ok(Effect {
            shortened: Vec::new(),
            ended: sessions::end_all(tx, EndCode::ClosingTime, now).await?,
        }),
    }
}

impl Edit {
    /// For the audit log: days and hours, and no free text.
    fn details(&self) -> serde_json::Value {
        match self {
            Self::Enter(entry) => match &entry.kind {
                DayKind::Closing => json!({"close": entry.day.to_string()}),
                DayKind::Extra(hours) => json!({
                    "open": entry.day.to_string(),
                    "from": clock_text(hours.opens()),
                    "to": clock_text(hours.closes()),
                }),
            },
            Self::Remove(day) => json!({"remove": day.to_string()}),
            Self::Week(week) => json!({ "week": store::week_to_json(*week) }),
        }
    }
}

/// Writes a time of day as `08:00`.
pub fn clock_text(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

/// What staff are told when the bundled national holidays end soon, or have ended: later ones
/// count only if somebody enters them.
pub fn holiday_warning(today: Date) -> Option<String> {
    let is_near = HOLIDAYS_KNOWN_UNTIL - today <= HOLIDAY_WARNING;
    is_near.then(|| {
        format!(
            "このシステムに入っている祝日は{}までです。それより後の祝日は、休業日としてカレンダーに登録してください。システムが更新されると、この表示は消えます。",
            dates::date(HOLIDAYS_KNOWN_UNTIL)
        )
    })
}

/// Reads `08:00` or `8:00`; `24:00` is not a time of day.
pub fn clock_from_text(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    if minute.len() != 2 || hour.len() > 2 {
        return None;
    }
    Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, 0).ok()
}

#[cfg(test)]
mod tests;
