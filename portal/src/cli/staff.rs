//! `portal staff add`

use std::io::BufRead as _;

use anyhow::{Context as _, anyhow};
use portal::app::App;
use portal::audit::Actor;
use portal::authenticator::Authenticator;
use portal::db::Db;
use portal::establishments::{LoginName, Name};
use portal::passwords;
use portal::staff::{self, NewStaff};
use serde_json::json;
use zeroize::Zeroizing;

use super::StaffAdd;

/// Adds the account and prints, once, what its owner needs.
pub(super) async fn add(app: &App, add: StaffAdd) -> anyhow::Result<()> {
    let login = LoginName::new(&add.user_id).context("--user-id")?;
    let name = Name::new(&add.name).context("--name")?;
    let (password, made) = match add.password_stdin {
        true => (read_password(&login, app)?, false),
        false => (passwords::initial(), true),
    };
    let new = NewStaff {
        password_hash: passwords::hash(&password).await?,
        login,
        name,
        role: add.role.into(),
    };
    let authenticator = Authenticator::generate();
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let actor = Actor::CommandLine;
    staff::add(&mut tx, &app.keys, &actor, &new, &authenticator, now).await?;
    Db::commit(tx).await?;

    let login = new.login.as_str();
    let secret = Zeroizing::new(authenticator.to_base32());
    let url = authenticator.url(&app.config.fund_name, login)?;
    if add.json {
        let plain: String = secret.chars().filter(|c| !c.is_whitespace()).collect();
        let mut out = json!({
            "user_id": login,
            "role": new.role.as_str(),
            "totp_secret": plain,
            "otpauth_url": url,
        });
        if made {
            out["password"] = json!(*password);
        }
        println!("{out}");
    } else {
        println!("staff account {login} added ({})", new.role.as_str());
        if made {
            println!("password:             {}", *password);
        }
        println!("authenticator secret: {}", *secret);
        println!("authenticator URL:    {url}");
        println!("These are not shown again.");
    }
    Ok(())
}

/// Reads one line; it must be good enough.
fn read_password(login: &LoginName, app: &App) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read the password")?;
    let password = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    passwords::check_new(&password, &[login.as_str(), &app.config.fund_name])
        .map_err(|weak| anyhow!("password refused: {weak}"))?;
    Ok(password)
}
