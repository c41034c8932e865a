//! The list of all profiles, and the question whether one shall be removed. Shows only; what a
//! button does is decided in [`super::profiles`].

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use askama::Template;

use super::views::{EnrolForm, Frame, REFRESH_SOON_S, finish, picture_of, spell_seconds};
use crate::desk::Profile;
use crate::status::StateName;
use crate::update::running_version_text;

/// One profile in the list.
struct Entry {
    id: String,
    name: String,
    fund_name: Option<String>,
    establishment: Option<String>,
    state: &'static str,
    is_connected: bool,
    remaining: Option<String>,
    matching_code: Option<String>,
    sentence: Option<String>,
}

#[derive(Template)]
#[template(path = "profiles.html")]
struct ProfilesPage<'a> {
    frame: Frame<'a>,
    entries: Vec<Entry>,
    form: &'a EnrolForm,
    problem: Option<&'a str>,
    is_adding: bool,
}

#[derive(Template)]
#[template(path = "remove_profile.html")]
struct RemoveProfilePage<'a> {
    frame: Frame<'a>,
    entry: Entry,
}

/// The mark of a list: see [`picture_of`].
pub fn picture_of_all(profiles: &[Profile]) -> String {
    let mut hasher = DefaultHasher::new();
    for profile in profiles {
        (profile.id, picture_of(&profile.view)).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// Renders the list of all profiles.
pub fn render_list(
    profiles: &[Profile],
    csrf: &str,
    form: &EnrolForm,
    problem: Option<&str>,
) -> String {
    let page = ProfilesPage {
        frame: list_frame(profiles, csrf),
        entries: profiles.iter().map(entry).collect(),
        is_adding: problem.is_some() || form.has_errors(),
        form,
        problem,
    };
    finish(page.render())
}

/// Renders the question whether a profile shall be removed.
pub fn render_removal(profile: &Profile, csrf: &str) -> String {
    let page = RemoveProfilePage {
        frame: Frame {
            picture: picture_of(&profile.view),
            // What is asked about does not change by itself.
            source: "",
            ..list_frame(&[], csrf)
        },
        entry: entry(profile),
    };
    finish(page.render())
}

fn list_frame<'a>(profiles: &[Profile], csrf: &'a str) -> Frame<'a> {
    Frame {
        picture: picture_of_all(profiles),
        source: "/profiles.json",
        csrf,
        fund_name: None,
        notice: None,
        warning: None,
        skew: None,
        update: None,
        update_refused: false,
        rehearsal: false,
        refresh_s: Some(REFRESH_SOON_S),
        version: running_version_text(),
    }
}

fn entry(profile: &Profile) -> Entry {
    let report = &profile.report;
    Entry {
        id: profile.id.to_string(),
        name: match (&report.establishment_name, &report.establishment) {
            (Some(name), _) => name.clone(),
            (None, Some(number)) => format!("事業所番号 {number}"),
            (None, None) => "まだ登録されていません".to_owned(),
        },
        fund_name: report.fund_name.clone(),
        establishment: report.establishment.clone(),
        state: report.state_text(),
        is_connected: report.state == StateName::Connected,
        remaining: report.remaining_s.map(spell_seconds),
        matching_code: report.matching_code.clone(),
        // Where the sentence says no more than the state does, once is enough.
        sentence: report
            .reason
            .clone()
            .filter(|reason| reason.trim_end_matches('。') != report.state.page_text()),
    }
}
