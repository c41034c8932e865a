//! The list of all profiles: choose one, add one, remove one.
//!
//! Every profile's window can show it. What is wished for goes to the [`crate::desk`].

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::list::{picture_of_all, render_list, render_removal};
use super::views::EnrolForm;
use super::{PICTURE_PATIENCE, Page, field, html, insert, protect, see};
use crate::desk::{DeskError, Landing, Profile};
use crate::store::profiles::ProfileId;

impl Page {
    /// The list, with a form that was filled in or not, and what went wrong.
    pub(super) fn list(
        &self,
        form: EnrolForm,
        problem: Option<&str>,
        status: StatusCode,
    ) -> Response<Full<Bytes>> {
        let profiles = self.desk.profiles();
        let text = render_list(&profiles, self.csrf.expose(), &form, problem);
        html(status, text, None)
    }

    fn list_with_problem(&self, error: &DeskError) -> Response<Full<Bytes>> {
        let form = EnrolForm::default().for_another();
        let text = error.page_text();
        self.list(form, Some(&text), StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// How every profile stands. Whoever has `seen` that picture already waits a moment for
    /// another one.
    pub(super) async fn list_json(&self, seen: Option<&str>) -> Response<Full<Bytes>> {
        let mut changes = self.desk.changes();
        let has_news = |seen: &str| picture_of_all(&self.desk.profiles()) != seen;
        for profile in self.desk.profiles() {
            if let Some(agent) = self.desk.agent(profile.id) {
                agent.look();
            }
        }
        if let Some(seen) = seen {
            let news = async { while !has_news(seen) && changes.changed().await.is_ok() {} };
            // Nothing new is an answer too.
            let _ = tokio::time::timeout(PICTURE_PATIENCE, news).await;
        }
        let profiles = self.desk.profiles();
        let picture = picture_of_all(&profiles);
        let reports: Vec<_> = profiles.into_iter().map(|profile| profile.report).collect();
        let json = json!({ "picture": picture, "remaining_s": null, "profiles": reports });
        let mut response = Response::new(Full::from(json.to_string()));
        insert(&mut response, CONTENT_TYPE, "application/json");
        protect(&mut response, None);
        response
    }

    fn find(&self, named: Option<&str>) -> Option<Profile> {
        let id: ProfileId = named?.parse().ok()?;
        let mut profiles = self.desk.profiles().into_iter();
        profiles.find(|profile| profile.id == id)
    }

    /// Asks whether a profile shall really be removed.
    pub(super) fn confirm_removal(&self, named: Option<&str>) -> Response<Full<Bytes>> {
        match self.find(named) {
            Some(profile) => html(
                StatusCode::OK,
                render_removal(&profile, self.csrf.expose()),
                None,
            ),
            None => see("/profiles"),
        }
    }

    /// Brings the window of a profile up; in its own window, shows it.
    pub(super) async fn open_profile(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let Some(profile) = self.find(field(body, "profile").as_deref()) else {
            return see("/profiles");
        };
        if profile.id == self.profile {
            return see("/");
        }
        match self
            .desk
            .bring_up(profile.id, Landing::Profile, false)
            .await
        {
            Ok(_) => see("/profiles"),
            Err(error) => self.list_with_problem(&error),
        }
    }

    /// Asks a fund to register this PC for one more establishment.
    pub(super) async fn add_profile(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let typed = |name| field(body, name).unwrap_or_default();
        let (form, application) =
            EnrolForm::read(typed("gateway"), typed("establishment"), &typed("code"));
        let form = form.for_another();
        let Some(application) = application else {
            return self.list(form, None, StatusCode::UNPROCESSABLE_ENTITY);
        };
        match self.desk.enrol(None, application).await {
            Ok(_) => see("/profiles"),
            Err(error) => self.list(
                form,
                Some(&error.page_text()),
                StatusCode::UNPROCESSABLE_ENTITY,
            ),
        }
    }

    /// Removes a profile; the question was answered.
    pub(super) async fn remove_profile(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let Some(profile) = self.find(field(body, "profile").as_deref()) else {
            return see("/profiles");
        };
        match self.desk.remove(profile.id).await {
            Ok(()) => see("/profiles"),
            Err(error) => self.list_with_problem(&error),
        }
    }
}
