//! The main job, step by step, as the people in it do it over HTTP.
//!
//! Each step returns what the person then holds in hand: a code from a letter, a receipt, a
//! file. The demonstration narrates the steps; the stories begin with them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::pages::{Page, staff_code};
use crate::process::output;
use crate::stage::{Agent, ESTABLISHMENT_NAME, ESTABLISHMENT_NUMBER, Staff, Stage};
use crate::{MemberPages, OfficePages};

/// The invented admin's user ID.
pub const ADMIN_USER_ID: &str = "mihon-taro";
/// The invented admin's name.
pub const ADMIN_NAME: &str = "見本 太郎";
/// The invented admin's mail address.
pub const ADMIN_EMAIL: &str = "taro@mihon-denki.example";
/// The password that the admin chooses at the first sign-in.
pub const ADMIN_PASSWORD: &str = "asagao-ga-saku-mado-3";
/// The corpus's zip password.
pub const CORPUS_PASSWORD: &str = "Rene52hsqx3ca4q2";
/// A password zip of the corpus.
pub const FILED_ZIP: &str = "20240524_0123_資格取得届.zip";
/// A bare PDF of the corpus.
pub const FILED_PDF: &str = "20240229_0123_資格喪失届.pdf";
/// Size of an upload's parts, in bytes.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// Everybody at work: staff signed in, one PC connected, the clerk signed in through it.
#[derive(Debug)]
pub struct AtWork {
    /// The reviewer.
    pub office: OfficePages,
    /// What the establishment's letter said.
    pub letter: Letter,
    /// The PC.
    pub agent: Agent,
    /// The one-time password that the clerk signed in with.
    pub code: String,
    /// The clerk.
    pub pages: MemberPages,
}

impl AtWork {
    /// Plays everything up to the clerk's first sign-in.
    pub async fn on(stage: &Stage) -> Result<Self> {
        let office = OfficePages::open(stage)?;
        office.sign_in(stage).await?;
        let letter = office.register().await?;
        let mut agent = office
            .enrol(stage, "pc1", &letter.registration_code)
            .await?;
        agent.connect().await?;
        let code = stage.mailbox().wait_code(ADMIN_EMAIL, 0).await?;
        let pages = MemberPages::through(stage, &agent)?;
        pages.first_sign_in(&letter, &code).await?;
        Ok(Self {
            office,
            letter,
            agent,
            code,
            pages,
        })
    }
}

/// A file of the corpus.
pub fn corpus(name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    std::fs::read(&path).with_context(|| path.display().to_string())
}

/// A document of the corpus with so many comments in it that it has `length` bytes. The comments
/// are numbers without a pattern, the same for the same `seed` (a linear congruential generator).
pub fn large_pdf(length: usize, seed: u64) -> Result<Vec<u8>> {
    let mut pdf = corpus(&format!("good/{FILED_PDF}"))?;
    let tail_at = pdf
        .windows(9)
        .rposition(|window| window == b"startxref")
        .context("startxref")?;
    let tail = pdf.split_off(tail_at);
    let mut noise = seed;
    let line_bytes = 1 + 1 + 16;
    while pdf.len() + line_bytes + 1 + tail.len() <= length {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        pdf.extend_from_slice(format!("\n%{noise:016x}").as_bytes());
    }
    pdf.push(b'\n');
    pdf.extend_from_slice(&tail);
    Ok(pdf)
}

/// The id at the end of an upload's path.
pub fn upload_id(location: &str) -> String {
    location.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What the office puts into the letter to a new admin.
#[derive(Debug, Clone)]
pub struct Letter {
    /// For `vpn-agent enrol`.
    pub registration_code: String,
    /// For the first sign-in.
    pub initial_password: String,
}

impl OfficePages {
    /// The reviewer signs in with password and authenticator.
    pub async fn sign_in(&self, stage: &Stage) -> Result<Page> {
        self.sign_in_as(&stage.staff).await
    }

    /// Somebody of the staff signs in with password and authenticator.
    pub async fn sign_in_as(&self, staff: &Staff) -> Result<Page> {
        let page = self.site.open("/sign-in").await?;
        let form = page
            .form("/sign-in")?
            .fill("user_id", &staff.user_id)?
            .fill("password", &staff.password)?
            .fill("code", &staff_code(staff)?)?;
        let page = self.site.submit(&form).await?;
        ensure!(
            page.status == StatusCode::OK && page.path != "/sign-in",
            "office sign-in: {} {}",
            page.path,
            page.text()
        );
        Ok(page)
    }

    /// Registers the stage's establishment and its admin; returns what goes into the letter.
    pub async fn register(&self) -> Result<Letter> {
        self.register_as(
            ESTABLISHMENT_NUMBER,
            ESTABLISHMENT_NAME,
            ADMIN_USER_ID,
            ADMIN_NAME,
            ADMIN_EMAIL,
        )
        .await
    }

    /// Registers an establishment and its admin.
    pub async fn register_as(
        &self,
        number: &str,
        name: &str,
        user_id: &str,
        admin: &str,
        email: &str,
    ) -> Result<Letter> {
        let page = self.site.get("/establishments/new").await?;
        let form = page
            .form("/establishments/new")?
            .fill("number", number)?
            .fill("name", name)?
            .fill("user_name", admin)?
            .fill("login", user_id)?
            .fill("email", email)?;
        let page = self.site.submit(&form).await?;
        ensure!(page.status == StatusCode::OK, "register: {}", page.text());
        Ok(Letter {
            registration_code: page.find("#registration-code")?,
            initial_password: page.find("#initial-password")?,
        })
    }

    /// Compares the matching code with what the clerk reads out and approves the PC.
    pub async fn approve(&self, matching_code: &str) -> Result<()> {
        let page = self.site.get("/devices").await?;
        page.must_say(matching_code)?;
        let form = page.form("/approve")?.with("matched", "yes");
        let page = self.site.submit(&form).await?;
        ensure!(page.status == StatusCode::OK, "approve: {}", page.text());
        Ok(())
    }

    /// Enrols a PC called `name` with a registration code, approves it and starts its window's
    /// program; it can connect then.
    pub async fn enrol(&self, stage: &Stage, name: &str, code: &str) -> Result<Agent> {
        let mut agent = stage.agent(name)?;
        self.enrol_agent(&mut agent, code).await?;
        Ok(agent)
    }

    /// The same for a PC that exists already.
    pub async fn enrol_agent(&self, agent: &mut Agent, code: &str) -> Result<()> {
        self.enrol_agent_of(agent, ESTABLISHMENT_NUMBER, code).await
    }

    /// The same for a PC of another establishment.
    pub async fn enrol_agent_of(
        &self,
        agent: &mut Agent,
        establishment: &str,
        code: &str,
    ) -> Result<()> {
        let printed = agent.enrol(establishment, code)?;
        let matching =
            matching_code_in(&printed).with_context(|| format!("a matching code in {printed}"))?;
        self.approve(&matching).await?;
        agent.start(&["open", "--no-browser"])?;
        agent.wait_state("ready").await?;
        Ok(())
    }

    /// Issues a further registration code for the first user of the only establishment.
    pub async fn further_code(&self) -> Result<String> {
        let list = self.site.get("/establishments").await?;
        let path = list
            .links("/establishments/")
            .into_iter()
            .find(|path| !path.ends_with("/new"))
            .context("an establishment")?;
        let page = self.site.get(&path).await?;
        let letter = self.site.submit(&page.form("/code")?).await?;
        letter.find("#registration-code")
    }

    /// Takes the oldest filing of the queue into review; returns its page's path.
    pub async fn take_oldest(&self) -> Result<String> {
        let queue = self.site.get("/filings").await?;
        let path = queue
            .links("/filings/")
            .into_iter()
            .next()
            .with_context(|| format!("a filing in: {}", queue.text()))?;
        let page = self.site.get(&path).await?;
        let page = self.site.submit(&page.form("/take")?).await?;
        ensure!(page.status == StatusCode::OK, "take: {}", page.text());
        Ok(path)
    }

    /// Decides the filing and issues a determination notice made from one person's row;
    /// returns the filing's page.
    pub async fn decide(&self, filing: &str) -> Result<Page> {
        let page = self.site.get(&format!("{filing}/determination")).await?;
        let event = page.attribute("select[name=event] option:nth-child(2)", "value")?;
        let form = page
            .form("/determination")?
            .fill("member_number", "0001234")?
            .fill("name", "髙﨑 一郎")?
            .fill("event", &event)?
            .fill("event_on", "2024-05-01")?
            .fill("salary", "320000")?;
        let page = self.site.submit(&form).await?;
        ensure!(page.status == StatusCode::OK, "draft: {}", page.text());
        let page = self.site.submit(&page.form("/issue")?).await?;
        ensure!(page.status == StatusCode::OK, "issue: {}", page.text());
        Ok(page)
    }
}

impl MemberPages {
    /// Signs in; returns the page that follows.
    pub async fn sign_in(&self, user_id: &str, password: &str, code: &str) -> Result<Page> {
        let page = self.site.open("/sign-in").await?;
        let form = page
            .form("/sign-in")?
            .fill("user_id", user_id)?
            .fill("password", password)?
            .fill("code", code)?
            .with("action", "sign_in");
        self.site.submit(&form).await
    }

    /// Signs in for the first time: with the letter's password, and chooses one's own.
    pub async fn first_sign_in(&self, letter: &Letter, code: &str) -> Result<Page> {
        self.first_sign_in_as(ADMIN_USER_ID, letter, code).await
    }

    /// The same for the admin of another establishment.
    pub async fn first_sign_in_as(
        &self,
        user_id: &str,
        letter: &Letter,
        code: &str,
    ) -> Result<Page> {
        let page = self
            .sign_in(user_id, &letter.initial_password, code)
            .await?;
        let form = page
            .form("password")
            .with_context(|| format!("after the first sign-in: {}", page.text()))?
            .fill("new_password", ADMIN_PASSWORD)?
            .fill("new_password_again", ADMIN_PASSWORD)?;
        let page = self.site.submit(&form).await?;
        ensure!(
            page.status == StatusCode::OK,
            "first password: {}",
            page.text()
        );
        self.first_steps(page).await
    }

    /// Goes through what follows the own password: terms, what is on file of the
    /// establishment and of the admin, the offer of an authenticator app.
    async fn first_steps(&self, page: Page) -> Result<Page> {
        let form = page.form("/terms")?.with("accept", "yes");
        let page = self.site.submit(&form).await?;
        let form = page
            .form("/establishment")?
            .fill("postal_code", "101-0051")?
            .fill("address", "東京都千代田区神田神保町1-1")?
            .fill("telephone", "03-1234-5678")?;
        let page = self.site.submit(&form).await?;
        let form = page
            .form("/profile")?
            .fill("kana", "スズキ ハナコ")?
            .fill("telephone", "03-1234-5678")?;
        let page = self.site.submit(&form).await?;
        let form = page.form("/welcome")?.with("next", "home");
        let page = self.site.submit(&form).await?;
        // An establishment's first page is the home page, a sharoushi's office's its desk.
        let first = ["/", "/desk"].contains(&page.path.as_str());
        ensure!(first, "{}: {}", page.path, page.text());
        Ok(page)
    }

    /// This session's anti-forgery token, as the page's script reads it.
    pub async fn csrf(&self) -> Result<String> {
        self.site
            .get("/")
            .await?
            .attribute("input[name=csrf]", "value")
    }

    /// Begins an upload; returns its path.
    pub async fn begin_upload(&self, name: &str, length: usize) -> Result<String> {
        let csrf = self.csrf().await?;
        self.begin_upload_with(&csrf, name, length).await
    }

    /// Begins an upload with an anti-forgery token that is known; returns its path.
    pub async fn begin_upload_with(&self, csrf: &str, name: &str, length: usize) -> Result<String> {
        let request = self
            .site
            .request(Method::POST, "/uploads")
            .header("renkei-csrf", csrf)
            .header("tus-resumable", "1.0.0")
            .header("upload-length", length)
            .header(
                "upload-metadata",
                format!("filename {}", STANDARD.encode(name)),
            );
        let created = self.site.send(request).await?;
        let status = created.status();
        let location = created
            .headers()
            .get("location")
            .map(|path| path.to_str().map(str::to_owned))
            .transpose()?;
        match location {
            Some(location) if status == StatusCode::CREATED => Ok(location),
            _ => anyhow::bail!("upload: {status} {}", created.text().await?),
        }
    }

    /// Sends one part of the upload at `location`; returns the answer, whatever it is.
    pub async fn send_part(
        &self,
        location: &str,
        csrf: &str,
        offset: usize,
        part: impl Into<reqwest::Body>,
    ) -> Result<Response> {
        let request = self
            .site
            .request(Method::PATCH, location)
            .header("renkei-csrf", csrf)
            .header("tus-resumable", "1.0.0")
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", offset)
            .body(part);
        self.site.send(request).await
    }

    /// How much of the upload at `location` has arrived, in bytes.
    pub async fn offset(&self, location: &str) -> Result<usize> {
        let answer = self
            .site
            .send(self.site.request(Method::HEAD, location))
            .await?;
        ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        let offset = answer.headers().get("upload-offset").context("an offset")?;
        Ok(offset.to_str()?.parse()?)
    }

    /// Uploads a file in parts; returns the upload's id.
    pub async fn upload(&self, name: &str, bytes: &[u8]) -> Result<String> {
        let location = self.begin_upload(name, bytes.len()).await?;
        self.finish_upload(&location, bytes, 0).await?;
        Ok(upload_id(&location))
    }

    /// Sends what is missing of the upload at `location` from `offset` on, in parts.
    pub async fn finish_upload(&self, location: &str, bytes: &[u8], offset: usize) -> Result<()> {
        let csrf = self.csrf().await?;
        let mut offset = offset;
        for part in bytes[offset..].chunks(PART_BYTES) {
            let taken = self
                .send_part(location, &csrf, offset, part.to_vec())
                .await?;
            let status = taken.status();
            ensure!(
                status == StatusCode::NO_CONTENT,
                "part at {offset}: {status} {}",
                taken.text().await?
            );
            offset += part.len();
        }
        Ok(())
    }

    /// Takes an upload back.
    pub async fn drop_upload(&self, upload: &str) -> Result<()> {
        let request = self
            .site
            .request(Method::DELETE, &format!("/uploads/{upload}"))
            .header("renkei-csrf", self.csrf().await?)
            .header("tus-resumable", "1.0.0");
        let taken_back = self.site.send(request).await?;
        ensure!(
            taken_back.status() == StatusCode::NO_CONTENT,
            "take back: {}",
            taken_back.status()
        );
        Ok(())
    }

    /// Hands in finished uploads, each with its password; returns status and answer.
    pub async fn hand_in(&self, uploads: &[(String, Option<&str>)]) -> Result<(StatusCode, Value)> {
        let files: Vec<Value> = uploads
            .iter()
            .map(|(upload, password)| json!({"upload": upload, "password": password}))
            .collect();
        let request = self
            .site
            .request(Method::POST, "/filings")
            .header("renkei-csrf", self.csrf().await?)
            .json(&json!({
                "files": files,
                "duplicates_confirmed": true,
                "duplicate_reason": "測定のため",
            }));
        let answer = self.site.send(request).await?;
        let status = answer.status();
        Ok((status, answer.json().await?))
    }

    /// Uploads and hands in one file that must be accepted; returns the receipt's path.
    pub async fn file(&self, name: &str, bytes: &[u8], password: Option<&str>) -> Result<String> {
        let upload = self.upload(name, bytes).await?;
        let (status, answer) = self.hand_in(&[(upload, password)]).await?;
        ensure!(status == StatusCode::CREATED, "{name}: {status} {answer:#}");
        Ok(answer["receipt"].as_str().context("a receipt")?.to_owned())
    }
}

impl MemberPages {
    /// The establishment's zip password, shown after the password was typed again.
    pub async fn zip_password(&self, password: &str) -> Result<String> {
        let page = self.site.get("/settings/zip-password").await?;
        let form = page
            .form("/settings/zip-password")?
            .fill("password", password)?;
        let page = self.site.submit(&form).await?;
        page.find(".big-code").with_context(|| page.text())
    }
}

impl Agent {
    /// 接続, and waits until the tunnel stands.
    pub async fn connect(&mut self) -> Result<Value> {
        output(&mut self.command(&["connect"]))?;
        self.wait_state("connected").await
    }

    /// Asks to be registered and returns the matching code that the window shows.
    pub fn ask_to_enrol(&self, letter: &Letter) -> Result<String> {
        let printed = self.enrol(ESTABLISHMENT_NUMBER, &letter.registration_code)?;
        matching_code_in(&printed).with_context(|| format!("a matching code in {printed}"))
    }
}

/// `1234-5678` anywhere in a text.
pub fn matching_code_in(text: &str) -> Option<String> {
    text.split(|c: char| !c.is_ascii_digit() && c != '-')
        .find(|word| {
            word.len() == 9
                && word.char_indices().all(|(at, c)| {
                    if at == 4 {
                        c == '-'
                    } else {
                        c.is_ascii_digit()
                    }
                })
        })
        .map(str::to_owned)
}
