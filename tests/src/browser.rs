//! A real browser, driven by WebDriver (Debian's chromium and chromedriver).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use fantoccini::elements::Element;
use fantoccini::error::{CmdError, ErrorStatus, WebDriver};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::process::{Process, free_port, wait_for};

/// How long a page may take to show something.
const PATIENCE: Duration = Duration::from_secs(20);

/// How high a page is taken to be at least, in pixels.
const LOWEST_PX: u32 = 600;
/// How high a page is taken to be at most, in pixels.
const HIGHEST_PX: u32 = 8_000;

/// Whether an element may be there for a click in a moment.
fn passes(error: &WebDriver) -> bool {
    matches!(
        error.error,
        ErrorStatus::NoSuchElement
            | ErrorStatus::StaleElementReference
            | ErrorStatus::ElementNotInteractable
            | ErrorStatus::ElementClickIntercepted
    )
}

/// One window of one person.
#[derive(Debug)]
pub struct Browser {
    /// The WebDriver session.
    pub client: Client,
    /// Where downloads land.
    pub downloads: PathBuf,
    _driver: Process,
}

impl Browser {
    /// Opens a window in `folder` that reaches the world through `proxy`, or directly, and
    /// trusts one key beside the public authorities: its hash as [`key_shown_at`] returns it.
    pub async fn open(
        folder: &Path,
        name: &str,
        proxy: Option<&str>,
        trusted_key: Option<&str>,
    ) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new("chromedriver");
        // Debian's chromium comes in English alone; a date field takes month, day, year.
        command
            .arg(format!("--port={port}"))
            .env("LANGUAGE", "en_US");
        let driver = Process::start(&format!("chromedriver-{name}"), folder, &mut command)?;
        let downloads = folder.join(format!("downloads-{name}"));
        std::fs::create_dir_all(&downloads)?;
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-quic".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--disable-dev-shm-usage".into(),
            "--lang=ja".into(),
            format!(
                "--user-data-dir={}",
                folder.join(format!("profile-{name}")).display()
            ),
        ];
        if let Some(key) = trusted_key {
            arguments.push(format!("--ignore-certificate-errors-spki-list={key}"));
        }
        if let Some(proxy) = proxy {
            arguments.push(format!("--proxy-server=http://{proxy}"));
        }
        let mut capabilities = Capabilities::new();
        capabilities.insert(
            "goog:chromeOptions".into(),
            json!({
                "binary": "/usr/bin/chromium",
                "args": arguments,
                "prefs": {"download.default_directory": downloads, "plugins.always_open_pdf_externally": true},
            }),
        );
        let client = wait_for("chromedriver", 30, async || {
            let mut builder =
                ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            Ok(Some(
                builder
                    .capabilities(capabilities.clone())
                    .connect(&format!("http://127.0.0.1:{port}"))
                    .await?,
            ))
        })
        .await?;
        Ok(Self {
            client,
            downloads,
            _driver: driver,
        })
    }

    /// Goes to a page.
    pub async fn go(&self, url: &str) -> Result<()> {
        self.client
            .goto(url)
            .await
            .with_context(|| format!("go to {url}"))
    }

    /// Waits for the element that `css` finds.
    pub async fn find(&self, css: &str) -> Result<Element> {
        match self
            .client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await
        {
            Ok(element) => Ok(element),
            Err(error) => bail!(
                "no {css}: {error}; the page says: {}",
                self.text().await.unwrap_or_default()
            ),
        }
    }

    /// Waits until the page says `words`.
    pub async fn wait_text(&self, words: &str) -> Result<()> {
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        let waited = wait_for(words, PATIENCE.as_secs(), async || {
            Ok(squeeze(&self.text().await?)
                .contains(&squeeze(words))
                .then_some(()))
        })
        .await;
        let url = self.client.current_url().await?;
        let text = self.text().await.unwrap_or_default();
        waited.with_context(|| format!("{url} says: {text}"))
    }

    /// What the page shows.
    pub async fn text(&self) -> Result<String> {
        Ok(self.client.find(Locator::Css("body")).await?.text().await?)
    }

    /// Types into the field with this `name`.
    pub async fn type_into(&self, name: &str, text: &str) -> Result<()> {
        let css = format!("[name='{name}']");
        let typing = self.act(Locator::Css(&css), async |field| {
            field.clear().await?;
            field.send_keys(text).await
        });
        typing.await.with_context(|| format!("type into {name}"))
    }

    /// Clicks the first button or link whose text contains `words`.
    pub async fn click(&self, words: &str) -> Result<()> {
        let path = format!(
            "//*[self::button or self::a or self::summary][contains(normalize-space(.), '{words}')]"
        );
        let clicking = self.act(Locator::XPath(&path), async |element| element.click().await);
        clicking.await.with_context(|| format!("click {words}"))
    }

    /// Clicks the element that `css` finds, for words that a page says more than once.
    pub async fn press(&self, css: &str) -> Result<()> {
        let pressing = self.act(Locator::Css(css), async |element| element.click().await);
        pressing.await.with_context(|| format!("press {css}"))
    }

    /// Waits for an element and does `action` with it, again while the page has it out of
    /// sight or replaces it: a person waits and tries again too.
    async fn act(
        &self,
        locator: Locator<'_>,
        action: impl AsyncFn(&Element) -> Result<(), CmdError>,
    ) -> Result<()> {
        let acted = wait_for("the element", PATIENCE.as_secs(), async || {
            let found = match self.client.find(locator).await {
                Ok(element) => action(&element).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(()) => Ok(Some(Ok(()))),
                Err(CmdError::Standard(error)) if passes(&error) => Err(error.into()),
                Err(error) => Ok(Some(Err(error))),
            }
        })
        .await;
        match acted {
            Ok(done) => Ok(done?),
            Err(error) => {
                let text = self.text().await.unwrap_or_default();
                Err(error.context(format!("the page says: {text}")))
            }
        }
    }

    /// Makes the page `width` wide, and as high as it then is.
    pub async fn resize(&self, width: u32) -> Result<()> {
        self.set_size(width, LOWEST_PX).await?;
        let height = self
            .client
            .execute("return document.documentElement.scrollHeight", vec![])
            .await?
            .as_u64()
            .and_then(|height| u32::try_from(height).ok())
            .context("a page has a height")?;
        self.set_size(width, height.clamp(LOWEST_PX, HIGHEST_PX))
            .await
    }

    async fn set_size(&self, width: u32, height: u32) -> Result<()> {
        // A window cannot be as narrow as a phone; the page in it can.
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await?;
        Ok(())
    }

    /// Keeps a picture of the page as `name-WIDTH.png` in `folder`, the whole page high.
    pub async fn picture(&self, folder: &Path, name: &str, width: u32) -> Result<PathBuf> {
        self.resize(width).await?;
        let png = self.client.screenshot().await?;
        std::fs::create_dir_all(folder)?;
        let file = folder.join(format!("{name}-{width}.png"));
        std::fs::write(&file, png)?;
        Ok(file)
    }

    /// Keeps a picture of the page's upper part, at most `highest` pixels high.
    pub async fn picture_of_top(
        &self,
        folder: &Path,
        name: &str,
        (width, highest): (u32, u32),
    ) -> Result<PathBuf> {
        self.resize(width).await?;
        let whole = "return document.documentElement.scrollHeight";
        let height = self.client.execute(whole, vec![]).await?.as_u64();
        let height = u32::try_from(height.context("a page has a height")?)?;
        self.set_size(width, height.min(highest)).await?;
        let top = "window.scrollTo(0, 0)";
        self.client.execute(top, vec![]).await?;
        let png = self.client.screenshot().await?;
        let file = folder.join(format!("{name}-{width}.png"));
        std::fs::write(&file, png)?;
        Ok(file)
    }

    /// By how many pixels the page is wider than the window: the reader would have to scroll
    /// sideways.
    pub async fn overhang_px(&self) -> Result<u64> {
        let script = "return Math.max(0, document.documentElement.scrollWidth - window.innerWidth)";
        self.client
            .execute(script, vec![])
            .await?
            .as_u64()
            .context("a page has a width")
    }

    /// Gives the browser the cookies of somebody who is signed in at `url` already, as a `Cookie`
    /// header has them.
    pub async fn take_cookies(&self, url: &str, header: &str) -> Result<()> {
        for (name, value) in header.split("; ").filter_map(|pair| pair.split_once('=')) {
            let cookie = json!({"name": name, "value": value, "url": url, "path": "/",
                "secure": true, "httpOnly": true, "sameSite": "Strict"});
            let set = self.devtools("Network.setCookie", cookie).await?;
            anyhow::ensure!(set["success"] == true, "cookie {name}: {set}");
        }
        Ok(())
    }

    /// Pretends media features, such as `forced-colors: active`.
    pub async fn prefer(&self, features: &[(&str, &str)]) -> Result<()> {
        let features: Vec<Value> = features
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}))
            .await
            .map(drop)
    }

    /// Makes the page `width` by `height` pixels.
    pub async fn set_window(&self, width: u32, height: u32) -> Result<()> {
        self.set_size(width, height).await
    }

    /// A command of Chromium's developer tools.
    pub async fn devtools(&self, command: &'static str, parameters: Value) -> Result<Value> {
        let command = Devtools {
            command,
            parameters,
        };
        self.client
            .issue_cmd(command)
            .await
            .context("a command to the browser's developer tools")
    }

    /// Runs axe-core (its source is `axe`) and fails with what it finds.
    pub async fn accessible(&self, axe: &str) -> Result<()> {
        self.client.execute(axe, vec![]).await?;
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations.map(v =>
                v.id + ': ' + v.help + ' -> ' + v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary).join(' | '))));";
        let violations = self.client.execute_async(script, vec![]).await?;
        let url = self.client.current_url().await?;
        match violations {
            Value::Array(found) if found.is_empty() => Ok(()),
            found => bail!("{url}: {found:#}"),
        }
    }

    /// Closes the window.
    pub async fn close(self) -> Result<()> {
        Ok(self.client.close().await?)
    }
}

/// A command that only Chromium's driver knows.
#[derive(Debug)]
struct Devtools {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(
        &self,
        base: &reqwest::Url,
        session: Option<&str>,
    ) -> Result<reqwest::Url, <reqwest::Url as FromStr>::Err> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &reqwest::Url) -> (reqwest::Method, Option<String>) {
        let body = json!({"cmd": self.command, "params": self.parameters});
        (reqwest::Method::POST, Some(body.to_string()))
    }
}

/// Base64 of the SHA-256 of the key (SubjectPublicKeyInfo) of the certificate at `url`, which
/// must be signed by the authority in `ca_file`.
pub async fn key_shown_at(url: &str, ca_file: &Path) -> Result<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = reqwest::Certificate::from_pem_bundle(&std::fs::read(ca_file)?)?;
    let client = reqwest::Client::builder()
        .tls_certs_only(authority)
        .tls_info(true)
        .no_proxy()
        .build()?;
    let response = client.get(url).send().await?;
    let certificate = response
        .extensions()
        .get::<reqwest::tls::TlsInfo>()
        .and_then(reqwest::tls::TlsInfo::peer_certificate)
        .context("a certificate")?;
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate)?;
    let key = certificate.public_key().raw;
    Ok(base64::engine::general_purpose::STANDARD.encode(Sha256::digest(key)))
}
