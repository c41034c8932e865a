//! Batches of notices, as the people of the office handle them over HTTP.

use anyhow::{Context as _, Result, ensure};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};

use crate::pages::{Page, Site};
use crate::stage::Stage;
use crate::{MemberPages, OfficePages};

/// The supervisor's user ID.
pub const SUPERVISOR: &str = "sekininsha";

/// Somebody else of the office: a supervisor (責任者), signed in.
///
/// # Errors
/// If the account cannot be made or does not sign in.
pub async fn supervisor(stage: &Stage) -> Result<OfficePages> {
    let account = stage.further_staff(SUPERVISOR, "責任 太郎", "supervisor")?;
    let office = OfficePages::open(stage)?;
    office.sign_in_as(&account).await?;
    Ok(office)
}

impl OfficePages {
    /// Drops a batch; the page that says what was found.
    ///
    /// # Errors
    /// If it is not read.
    pub async fn drop_batch(
        &self,
        source: &str,
        month: &str,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<Page> {
        let csrf = csrf(&self.site, "/batches/new").await?;
        let mut form = Form::new()
            .text("csrf", csrf)
            .text("source", source.to_owned())
            .text("month", month.to_owned())
            .text("edition", "first");
        for (name, bytes) in files {
            form = form.part("files", Part::bytes(bytes).file_name(name));
        }
        let request = self.site.request(Method::POST, "/batches/new");
        let response = self.site.send(request.multipart(form)).await?;
        let status = response.status();
        let to = response.headers().get("location").cloned();
        ensure!(
            status == StatusCode::SEE_OTHER,
            "batch: {status} {}",
            response.text().await?
        );
        self.site.get(to.context("a batch")?.to_str()?).await
    }

    /// Asks for the second person's word on the batch of this page.
    ///
    /// # Errors
    /// If the batch cannot be proposed.
    pub async fn propose_batch(&self, batch: &Page) -> Result<Page> {
        let form = batch
            .form("/propose")?
            .fill("reason", "件数と合計金額を照合済み")?;
        let page = self.site.submit(&form).await?;
        page.must_say("承認待ち")?;
        Ok(page)
    }

    /// Approves the one proposal that is open.
    ///
    /// # Errors
    /// If there is none or it is refused.
    pub async fn approve_proposal(&self) -> Result<Page> {
        let page = self.site.get("/approvals").await?;
        let page = self.site.submit(&page.form("/approve")?).await?;
        ensure!(page.status == StatusCode::OK, "approve: {}", page.text());
        page.must_say("承認しました")?;
        Ok(page)
    }
}

impl MemberPages {
    /// Posts the form of a page and takes the file that comes back.
    ///
    /// # Errors
    /// If there is no such form or no file.
    pub async fn take_file(&self, page: &str, action: &str) -> Result<Vec<u8>> {
        let csrf = csrf(&self.site, page).await?;
        let request = self.site.request(Method::POST, action);
        let response = self.site.send(request.form(&[("csrf", csrf)])).await?;
        let status = response.status();
        let bytes = response.bytes().await?.to_vec();
        ensure!(
            status == StatusCode::OK,
            "{action}: {status} {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes)
    }
}

async fn csrf(site: &Site, path: &str) -> Result<String> {
    site.get(path).await?.attribute("input[name=csrf]", "value")
}
