//! The database: SQLite by default, PostgreSQL where several portals share it.
//!
//! One SQL text for both (`$1`, TEXT ids, BIGINT, no booleans, no vendor functions). Every
//! change runs in a [`Tx`] from [`Db::begin`], which takes SQLite's write lock at once, so
//! that no transaction finds out half-way that another one wrote first.
//!
//! Recipe for a store function: take `&mut Tx` (or `&Db` to only read) and the principal,
//! name what you are doing in [`StoreError::doing`], bind ids as text, read rows through
//! `try_get`.

pub mod conditions;
pub mod rows;

use std::time::Duration;

use sqlx::any::{AnyPoolOptions, AnyRow, install_default_drivers};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, Executor as _, SqlSafeStr as _};

/// How long a statement waits for SQLite's write lock, in milliseconds.
const BUSY_TIMEOUT_MS: u32 = 15_000;
/// Connections to the database at most.
const POOL_LIMIT: u32 = 16;
/// How long a request waits for a free connection.
const POOL_WAIT: Duration = Duration::from_secs(10);
/// How long a change waits for those before it, where they stand in one queue.
const QUEUE_WAIT: Duration = Duration::from_secs(50);

/// A transaction that may write.
pub type Tx = sqlx::Transaction<'static, sqlx::Any>;

/// A pool of connections to one database.
#[derive(Debug, Clone)]
pub struct Db {
    pool: AnyPool,
    /// SQLite takes one change at a time. With a connection of their own, changes wait in one
    /// queue, first come first served, and hold up none of those who read.
    changes: AnyPool,
    backend: Backend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Sqlite,
    Postgres,
}

/// A question to the database that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The statement failed; says what it was for.
    #[error("database: {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds something the program cannot have written.
    #[error("database: unreadable {what}")]
    Unreadable {
        /// Which value.
        what: &'static str,
    },
}

/// The database cannot be opened or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is neither `sqlite:` nor `postgres:`.
    #[error("database.url must begin with sqlite: or postgres:")]
    UnknownKind,
    /// No connection.
    #[error("cannot open the database")]
    Connect(#[source] sqlx::Error),
    /// A migration failed.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// Wraps a driver's error with what was being done, for `map_err`.
    pub fn doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// Says whether a statement failed because the row was there already.
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Database { source, .. } => source
                .as_database_error()
                .is_some_and(|error| error.is_unique_violation()),
            Self::Unreadable { .. } => false,
        }
    }
}

impl Db {
    /// Opens `sqlite:PATH` (made if missing) or `postgres://…`.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        install_default_drivers();
        let (backend, url) = if url.starts_with("sqlite:") {
            let mode = if url.contains('?') { "" } else { "?mode=rwc" };
            (Backend::Sqlite, format!("{url}{mode}"))
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            (Backend::Postgres, url.to_owned())
        } else {
            return Err(OpenError::UnknownKind);
        };
        let open = async |connections, wait| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(wait)
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        if backend == Backend::Sqlite {
                            let pragmas = format!(
                                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                                 PRAGMA foreign_keys = ON; PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"
                            );
                            connection.execute(sqlx::AssertSqlSafe(pragmas)).await?;
                        }
                        Ok(())
                    })
                })
                .connect(&url)
                .await
                .map_err(OpenError::Connect)
        };
        let pool = open(POOL_LIMIT, POOL_WAIT).await?;
        let changes = match backend {
            Backend::Sqlite => open(1, QUEUE_WAIT).await?,
            Backend::Postgres => pool.clone(),
        };
        Ok(Self {
            pool,
            changes,
            backend,
        })
    }

    /// Applies every migration that this database has not seen.
    pub async fn migrate(&self) -> Result<(), OpenError> {
        let migrations = MIGRATIONS
            .iter()
            .map(|(version, name, sql)| {
                Migration::new(
                    *version,
                    (*name).into(),
                    MigrationType::Simple,
                    (*sql).into_sql_str(),
                    false,
                )
            })
            .collect();
        Migrator::with_migrations(migrations)
            .run(&self.pool)
            .await
            .map_err(OpenError::Migrate)
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let begun = match self.backend {
            Backend::Sqlite => self.changes.begin_with("BEGIN IMMEDIATE").await,
            Backend::Postgres => begin_whole(&self.pool, "BEGIN").await,
        };
        begun.map_err(StoreError::doing("begin"))
    }

    /// Begins a transaction that reads one state of the whole database, whatever others write
    /// meanwhile.
    pub async fn begin_snapshot(&self) -> Result<Tx, StoreError> {
        let begun = match self.backend {
            Backend::Sqlite => self.pool.begin_with("BEGIN").await,
            Backend::Postgres => {
                let how = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                begin_whole(&self.pool, how).await
            }
        };
        begun.map_err(StoreError::doing("begin"))
    }

    /// Commits. Until this returns, nothing has happened.
    pub async fn commit(tx: Tx) -> Result<(), StoreError> {
        tx.commit().await.map_err(StoreError::doing("commit"))
    }

    /// Says whether the database answers.
    pub async fn answers(&self) -> Result<(), StoreError> {
        let asked = sqlx::query("SELECT 1").execute(&self.pool).await;
        asked.map(|_| ()).map_err(StoreError::doing("ask"))
    }

    /// For reading outside a transaction.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }
}

/// Begins a transaction in a task of its own, which is not cut short with the caller: of a
/// BEGIN that is dropped on its way to PostgreSQL sqlx 0.9.0 does not know, hands the connection
/// back inside the transaction, and nothing that is written through it is ever kept. A
/// transaction that nobody waits for any more is rolled back.
async fn begin_whole(pool: &AnyPool, statement: &'static str) -> Result<Tx, sqlx::Error> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await });
    match begun.await {
        Ok(begun) => begun,
        Err(cut_short) => match cut_short.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The program is ending.
            Err(_) => Err(sqlx::Error::PoolClosed),
        },
    }
}

/// Takes the next value of a named counter, beginning with 1. The row stays locked until
/// the transaction ends, so that numbers have no gaps.
pub async fn next_number(tx: &mut Tx, counter: &str) -> Result<i64, StoreError> {
    use sqlx::Row as _;
    let row: AnyRow = sqlx::query(
        "INSERT INTO counters (name, value) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
    )
    .bind(counter)
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count"))?;
    row.try_get("value")
        .map_err(StoreError::doing("read counter"))
}

/// Returns what [`next_number`] would take now.
pub async fn coming_number(tx: &mut Tx, counter: &str) -> Result<i64, StoreError> {
    let taken: Option<i64> = sqlx::query_scalar("SELECT value FROM counters WHERE name = $1")
        .bind(counter)
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("look at a counter"))?;
    Ok(taken.unwrap_or_default() + 1)
}

/// All tables, each after those that it refers to.
pub fn tables() -> impl Iterator<Item = &'static str> {
    MIGRATIONS
        .iter()
        .flat_map(|(_, _, sql)| sql.lines())
        .filter_map(|line| line.strip_prefix("CREATE TABLE "))
        .filter_map(|rest| rest.split_whitespace().next())
}

/// The version of the schema that this program works with.
pub fn schema_version() -> i64 {
    MIGRATIONS
        .iter()
        .map(|(version, ..)| *version)
        .max()
        .unwrap_or_default()
}

/// Version, name and text of each migration. Never edit one after release; add the next.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../migrations/0001_first.sql")),
    (2, "people", include_str!("../migrations/0002_people.sql")),
    (
        3,
        "standing",
        include_str!("../migrations/0003_standing.sql"),
    ),
    (4, "filing", include_str!("../migrations/0004_filing.sql")),
    (5, "review", include_str!("../migrations/0005_review.sql")),
    (6, "notices", include_str!("../migrations/0006_notices.sql")),
    (7, "around", include_str!("../migrations/0007_around.sql")),
    (8, "signin", include_str!("../migrations/0008_signin.sql")),
    (9, "desk", include_str!("../migrations/0009_desk.sql")),
    (10, "scale", include_str!("../migrations/0010_scale.sql")),
    (11, "search", include_str!("../migrations/0011_search.sql")),
    (12, "staff", include_str!("../migrations/0012_staff.sql")),
    (13, "twins", include_str!("../migrations/0013_twins.sql")),
];

#[cfg(test)]
mod tests;
