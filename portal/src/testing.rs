//! What the portal's own tests share: an empty, migrated database of each kind.
//!
//! PostgreSQL comes from `scripts/test-postgres`, which starts a server of its own on a free
//! port, once per test run, and stops it when this process ends.

pub mod key;
pub mod people;
pub mod world;

use std::ops::Deref;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sqlx::Connection as _;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::keys::MasterKey;
pub use world::worlds;

/// A database that goes away with the test.
pub struct TestDb {
    pub(crate) db: Db,
    _place: Place,
}

/// Where a database lies; what it keeps is there to be dropped.
enum Place {
    Folder { _folder: TempDir },
    Server { name: String },
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Server { name } = self {
            // Hundreds of them would fill the disk. One that stays goes with the server.
            let _ = Command::new("psql")
                .args(["-X", "-q", "-c"])
                .arg(format!("DROP DATABASE {name} WITH (FORCE)"))
                .arg(format!("{}/postgres", postgres_url()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Deref for TestDb {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}

/// One empty database of each kind.
pub async fn databases() -> [TestDb; 2] {
    [sqlite().await, postgres().await]
}

/// An empty SQLite database.
pub async fn sqlite() -> TestDb {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite:{}", folder.path().join("portal.db").display());
    TestDb {
        db: migrated(&url).await,
        _place: Place::Folder { _folder: folder },
    }
}

/// An empty PostgreSQL database.
pub async fn postgres() -> TestDb {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    // Migrated once and copied then: a hundred tables take longer to make than a test.
    let template = TEMPLATE.get_or_init(async || {
        let name = create_database("").await;
        let db = migrated(&format!("{}/{name}", postgres_url())).await;
        db.pool().close().await;
        name
    });
    let name = create_database(&format!("TEMPLATE {}", template.await)).await;
    let url = format!("{}/{name}", postgres_url());
    TestDb {
        db: Db::open(&url).await.expect("opens"),
        _place: Place::Server { name },
    }
}

/// Makes a database and returns its name.
async fn create_database(how: &str) -> String {
    sqlx::any::install_default_drivers();
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let mut admin = sqlx::AnyConnection::connect(&format!("{}/postgres", postgres_url()))
        .await
        .expect("a PostgreSQL server");
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} {how}")))
        .execute(&mut admin)
        .await
        .expect("a new database");
    name
}

/// What the tests call now: a Friday morning, inside the service window.
pub const NOW: OffsetDateTime = time::macros::datetime!(2026-03-13 10:00 +9);

/// A portal on `db` whose clock stands at [`NOW`], with the fund's ordinary calendar.
pub async fn app(db: &Db) -> App {
    app_with(db, Clock::set_to(NOW), "").await
}

/// A portal on `db` with the machine's clock, for tests with real TLS, and a calendar that
/// never closes.
pub async fn rehearsal(db: &Db) -> App {
    app_with(db, Clock::System, "rehearsal = true").await
}

async fn app_with(db: &Db, clock: Clock, more: &str) -> App {
    App::start(db.clone(), clock, MasterKey::generate(), config(more))
        .await
        .expect("starts")
}

pub fn config(more: &str) -> Config {
    let config = format!(
        r#"
        fund_name = "見本企業年金基金"
        fund_contact = "基金事務局 業務課 03-0000-0000"
        database_url = "sqlite:unused"
        documents_dir = "{}"
        {more}
        [member]
        listen = "127.0.0.1:0"
        url = "https://renkei.example.jp/"
        [office]
        listen = "127.0.0.1:0"
        url = "https://office.example.jp/"
        [control]
        listen = "127.0.0.1:0"
        [smtp]
        host = "127.0.0.1"
        port = 587
        from = "renkei@example.jp"
        "#,
        std::env::temp_dir().join("renkei-portal-tests").display()
    );
    toml::from_str(&config).expect("a whole configuration")
}

async fn migrated(url: &str) -> Db {
    let db = Db::open(url).await.expect("opens");
    db.migrate().await.expect("migrates");
    db
}

/// `postgres://user@127.0.0.1:port`, without a database.
fn postgres_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        if let Ok(url) = std::env::var("RENKEI_TEST_POSTGRES") {
            return url;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-postgres");
        let started = Command::new(script)
            .arg(std::process::id().to_string())
            .output()
            .expect("scripts/test-postgres runs");
        assert!(
            started.status.success(),
            "{}",
            String::from_utf8_lossy(&started.stderr)
        );
        String::from_utf8(started.stdout)
            .expect("a URL")
            .trim()
            .to_owned()
    })
}

#[tokio::test]
async fn migrations_can_be_applied_twice() {
    for db in databases().await {
        db.migrate().await.expect("nothing to do");
    }
}

#[tokio::test]
async fn numbers_have_no_gaps_under_parallel_use() {
    for db in databases().await {
        let takers: Vec<_> = (0..20)
            .map(|_| {
                let db = db.db.clone();
                tokio::spawn(async move {
                    let mut tx = db.begin().await.expect("begins");
                    let number = crate::db::next_number(&mut tx, "receipt")
                        .await
                        .expect("counts");
                    Db::commit(tx).await.expect("commits");
                    number
                })
            })
            .collect();
        let mut numbers = Vec::new();
        for taker in takers {
            numbers.push(taker.await.expect("no panic"));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<i64>>());
    }
}
