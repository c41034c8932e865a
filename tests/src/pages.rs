//! Pages over HTTP: reads them, fills in their forms, follows their links.
//!
//! What a browser does, without scripts: cookies are kept, hidden fields go along, redirects
//! are followed. Whoever uses it names fields and buttons as the page does, so that a form
//! that lost its field fails the story.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Client, Method, Response, StatusCode};
use scraper::{ElementRef, Html, Selector};
use totp_rs::{Algorithm, Secret};

use crate::stage::{Agent, Staff, Stage};

/// Redirects that are followed at most.
const REDIRECT_LIMIT: usize = 5;

/// A site seen by one person.
#[derive(Debug)]
pub struct Site {
    client: Client,
    base: String,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// A page as it arrived.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where it came from, without the host.
    pub path: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The HTML.
    pub html: String,
}

/// A form of a page, with the values it arrived with.
#[derive(Debug, Clone)]
pub struct Form {
    method: Method,
    action: String,
    multipart: bool,
    fields: Vec<(String, String)>,
}

impl Site {
    /// A person who sees `base` (`https://host/`) through `proxy`, or directly. Trusts
    /// `ca_file` alone.
    pub fn new(base: &str, ca_file: &Path, proxy: Option<&str>) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&std::fs::read(
                ca_file,
            )?)?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(60))
            // The portal ends a connection that rests for 30 s; a story that does something
            // else meanwhile does not see it.
            .pool_idle_timeout(std::time::Duration::from_secs(10));
        builder = match proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(format!("http://{proxy}"))?),
            None => builder.no_proxy(),
        };
        Ok(Self {
            client: builder.build()?,
            base: base.trim_end_matches('/').to_owned(),
            cookies: Mutex::default(),
        })
    }

    /// The base URL, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The cookies as a browser would send them.
    pub fn cookie_header(&self) -> String {
        let cookies = self.cookies.lock().expect("no panic while held");
        cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Takes over another person's cookies.
    pub fn steal_cookies(&self, from: &Self) {
        let stolen = from.cookies.lock().expect("no panic while held").clone();
        *self.cookies.lock().expect("no panic while held") = stolen;
    }

    /// Sends a request as it is, cookies included, and keeps the cookies that come back.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response> {
        let response = request.header(COOKIE, self.cookie_header()).send().await?;
        let mut cookies = self.cookies.lock().expect("no panic while held");
        for set in response.headers().get_all(SET_COOKIE) {
            let pair = set.to_str()?.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                if value.is_empty() {
                    cookies.remove(name);
                } else {
                    cookies.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        drop(cookies);
        Ok(response)
    }

    /// A request to `path`, to be sent with [`Site::send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("https://") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        };
        self.client
            .request(method, url)
            .header("origin", &self.base)
    }

    /// Opens a page, whatever its status.
    pub async fn open(&self, path: &str) -> Result<Page> {
        let response = self.send(self.request(Method::GET, path)).await?;
        self.follow(path, response).await
    }

    /// Opens a page that must be there.
    pub async fn get(&self, path: &str) -> Result<Page> {
        let page = self.open(path).await?;
        ensure!(
            page.status == StatusCode::OK,
            "{} is {}: {}",
            page.path,
            page.status,
            page.text()
        );
        Ok(page)
    }

    /// Fetches a file.
    pub async fn download(&self, path: &str) -> Result<(HeaderMap, Vec<u8>)> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        ensure!(
            status == StatusCode::OK,
            "{path} is {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok((headers, body))
    }

    /// Submits a form and returns the page that follows, whatever its status.
    pub async fn submit(&self, form: &Form) -> Result<Page> {
        let request = self.request(form.method.clone(), &form.action);
        let request = if form.method == Method::GET {
            request.query(&form.fields)
        } else if form.multipart {
            let body = form
                .fields
                .iter()
                .fold(reqwest::multipart::Form::new(), |body, (name, value)| {
                    body.text(name.clone(), value.clone())
                });
            request.multipart(body)
        } else {
            request.form(&form.fields)
        };
        let response = self.send(request).await?;
        self.follow(&form.action, response).await
    }

    async fn follow(&self, path: &str, mut response: Response) -> Result<Page> {
        let mut path = path.to_owned();
        for _ in 0..REDIRECT_LIMIT {
            if !response.status().is_redirection() {
                let (status, headers) = (response.status(), response.headers().clone());
                return Ok(Page {
                    path,
                    status,
                    headers,
                    html: response.text().await?,
                });
            }
            let to = response
                .headers()
                .get(LOCATION)
                .context("a redirect without a target")?
                .to_str()?;
            path = to.strip_prefix(&self.base).unwrap_or(to).to_owned();
            response = self.send(self.request(Method::GET, &path)).await?;
        }
        bail!("{path}: more than {REDIRECT_LIMIT} redirects")
    }
}

impl Page {
    /// What a person reads, in one line.
    pub fn text(&self) -> String {
        let html = Html::parse_document(&self.html);
        let main = html
            .select(&selector("main"))
            .next()
            .unwrap_or_else(|| html.root_element());
        main.text()
            .collect::<Vec<_>>()
            .join(" ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Fails unless the page says `words`.
    pub fn must_say(&self, words: &str) -> Result<&Self> {
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        ensure!(
            squeeze(&self.text()).contains(&squeeze(words)),
            "{} does not say {words:?}: {}",
            self.path,
            self.text()
        );
        Ok(self)
    }

    /// The text of the first element that `css` finds.
    pub fn find(&self, css: &str) -> Result<String> {
        let html = Html::parse_document(&self.html);
        let found = html
            .select(&selector(css))
            .next()
            .with_context(|| format!("no {css} on {}", self.path))?;
        Ok(found.text().collect::<String>().trim().to_owned())
    }

    /// The texts of all elements that `css` finds.
    pub fn find_all(&self, css: &str) -> Vec<String> {
        let html = Html::parse_document(&self.html);
        html.select(&selector(css))
            .map(|found| found.text().collect::<String>().trim().to_owned())
            .collect()
    }

    /// The entries of the page's timeline: when, and what.
    pub fn timeline(&self) -> Vec<(String, String)> {
        let who = self.find_all(".timeline__who");
        let what = self.find_all(".timeline__what");
        let what = what
            .iter()
            .zip(&who)
            .map(|(what, who)| what.trim_end_matches(who.as_str()).to_owned());
        self.find_all(".timeline__at")
            .into_iter()
            .zip(what)
            .collect()
    }

    /// An attribute of the first element that `css` finds.
    pub fn attribute(&self, css: &str, name: &str) -> Result<String> {
        let html = Html::parse_document(&self.html);
        let found = html
            .select(&selector(css))
            .next()
            .with_context(|| format!("no {css} on {}", self.path))?;
        Ok(found
            .attr(name)
            .with_context(|| format!("no {name} at {css} on {}", self.path))?
            .to_owned())
    }

    /// Every link's target that contains `part`.
    pub fn links(&self, part: &str) -> Vec<String> {
        let html = Html::parse_document(&self.html);
        html.select(&selector("a[href]"))
            .filter_map(|link| link.attr("href"))
            .filter(|href| href.contains(part))
            .map(str::to_owned)
            .collect()
    }

    /// The form whose action ends with `action`.
    pub fn form(&self, action: &str) -> Result<Form> {
        let html = Html::parse_document(&self.html);
        let forms: Vec<ElementRef<'_>> = html.select(&selector("form")).collect();
        let found = forms
            .iter()
            .find(|form| form.attr("action").unwrap_or(&self.path).ends_with(action))
            .with_context(|| {
                let actions: Vec<_> = forms.iter().map(|form| form.attr("action")).collect();
                format!(
                    "no form {action} on {} ({}), only {actions:?}: {}",
                    self.path,
                    self.status,
                    self.text()
                )
            })?;
        let mut fields = Vec::new();
        for field in found.select(&selector("input[name], textarea[name], select[name]")) {
            let name = field.attr("name").unwrap_or_default().to_owned();
            match (field.value().name(), field.attr("type").unwrap_or("text")) {
                ("input", "checkbox" | "radio") if field.attr("checked").is_none() => {}
                ("input", "submit" | "file") => {}
                ("textarea", _) => fields.push((name, field.text().collect())),
                ("select", _) => {
                    let chosen = field
                        .select(&selector("option[selected]"))
                        .next()
                        .or_else(|| field.select(&selector("option")).next());
                    fields.push((
                        name,
                        chosen
                            .and_then(|option| option.attr("value"))
                            .unwrap_or_default()
                            .to_owned(),
                    ));
                }
                _ => fields.push((name, field.attr("value").unwrap_or_default().to_owned())),
            }
        }
        Ok(Form {
            method: if found
                .attr("method")
                .is_some_and(|method| method.eq_ignore_ascii_case("post"))
            {
                Method::POST
            } else {
                Method::GET
            },
            action: found.attr("action").unwrap_or(&self.path).to_owned(),
            multipart: found.attr("enctype") == Some("multipart/form-data"),
            fields,
        })
    }
}

impl Form {
    /// Types `value` into the field `name`, which the form must have.
    pub fn fill(mut self, name: &str, value: &str) -> Result<Self> {
        let names: Vec<_> = self.fields.iter().map(|(name, _)| name.clone()).collect();
        let field = self.fields.iter_mut().find(|(field, _)| field == name);
        field
            .with_context(|| format!("no field {name} in {}, only {names:?}", self.action))?
            .1 = value.to_owned();
        Ok(self)
    }

    /// Adds a field that the form does not show as filled: a ticked box, a pressed button.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The members' pages, through one PC's tunnel.
#[derive(Debug)]
pub struct MemberPages {
    /// The site.
    pub site: Site,
}

/// The office's pages.
#[derive(Debug)]
pub struct OfficePages {
    /// The site.
    pub site: Site,
}

impl MemberPages {
    /// The pages as the connected `agent` reaches them.
    pub fn through(stage: &Stage, agent: &Agent) -> Result<Self> {
        Ok(Self {
            site: Site::new(&stage.member_url(), &stage.ca_file(), Some(&agent.proxy()?))?,
        })
    }
}

impl OfficePages {
    /// The pages, nobody signed in.
    pub fn open(stage: &Stage) -> Result<Self> {
        Ok(Self {
            site: Site::new(&stage.office_url(), &stage.ca_file(), None)?,
        })
    }
}

/// The code that an authenticator app with `secret` (base32) shows at `unix_s`.
pub fn authenticator_code(secret: &str, unix_s: u64) -> Result<String> {
    let secret = Secret::try_from_base32(secret).map_err(|error| anyhow::anyhow!("{error}"))?;
    let totp = totp_rs::Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(secret)
        .build()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(totp.generate(unix_s).to_string())
}

/// The code that the reviewer's authenticator shows now.
#[expect(
    clippy::disallowed_methods,
    reason = "the story runs on the machine's clock"
)]
pub fn staff_code(staff: &Staff) -> Result<String> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    authenticator_code(&staff.totp_secret, now)
}

fn selector(css: &str) -> Selector {
    Selector::parse(css).unwrap_or_else(|error| panic!("{css}: {error}"))
}
