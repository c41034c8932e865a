//! Tables as lines of JSON: one object a row, texts and numbers and nothing else.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Column as _, Row as _};
use tokio::io::AsyncBufReadExt as _;

use super::files::{at, hex, new_file};
use super::{BackupError, TableFile};
use crate::db::{StoreError, Tx};

/// Writes a table to a file. Rows go by their first column: ids sort by time, so that a row
/// stands after the rows of its own table that it refers to.
pub(super) async fn dump(
    tx: &mut Tx,
    table: &'static str,
    path: &Path,
) -> Result<TableFile, BackupError> {
    let mut file = BufWriter::new(new_file(path)?);
    let (mut hash, mut count) = (Sha256::new(), 0);
    let select = format!("SELECT * FROM {table} ORDER BY 1");
    let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(&mut **tx);
    while let Some(row) = rows
        .try_next()
        .await
        .map_err(StoreError::doing("read rows for the copy"))?
    {
        let mut line = to_json(&row)?.to_string();
        line.push('\n');
        file.write_all(line.as_bytes()).map_err(at(path))?;
        hash.update(line.as_bytes());
        count += 1;
    }
    let file = file
        .into_inner()
        .map_err(|error| at(path)(error.into_error()))?;
    file.sync_all().map_err(at(path))?;
    Ok(TableFile {
        table: table.to_owned(),
        rows: count,
        sha256: hex(&hash.finalize()),
    })
}

/// Says whether a table is as the migrations left it.
pub(super) async fn is_untouched(tx: &mut Tx, table: &'static str) -> Result<bool, StoreError> {
    let count = match table {
        HEAD => "SELECT COUNT(*) AS n FROM audit_head WHERE seq > 0".to_owned(),
        KINDS => "SELECT COUNT(*) AS n FROM filing_kinds WHERE changed_ms > 0".to_owned(),
        _ => format!("SELECT COUNT(*) AS n FROM {table}"),
    };
    sqlx::query(AssertSqlSafe(count))
        .fetch_one(&mut **tx)
        .await
        .and_then(|row| row.try_get::<i64, _>("n"))
        .map(|rows| rows == 0)
        .map_err(StoreError::doing("count rows"))
}

/// The tables that migrations fill.
const HEAD: &str = "audit_head";
const KINDS: &str = "filing_kinds";

/// Fills a table from a file.
pub(super) async fn load(tx: &mut Tx, table: &'static str, path: &Path) -> Result<(), BackupError> {
    if [HEAD, KINDS].contains(&table) {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")))
            .execute(&mut **tx)
            .await
            .map_err(StoreError::doing("clear what the migrations wrote"))?;
    }
    let file = tokio::fs::File::open(path).await.map_err(at(path))?;
    let mut lines = tokio::io::BufReader::new(file).lines();
    while let Some(line) = lines.next_line().await.map_err(at(path))? {
        let not_a_copy = |reason: String| BackupError::NotACopy {
            path: path.to_owned(),
            reason,
        };
        let row: Map<String, Value> =
            serde_json::from_str(&line).map_err(|error| not_a_copy(error.to_string()))?;
        insert(tx, table, &row).await?.map_err(not_a_copy)?;
    }
    Ok(())
}

/// Inserts a row; columns without a value are left out. The inner error says what in the
/// row is none of ours.
async fn insert(
    tx: &mut Tx,
    table: &'static str,
    row: &Map<String, Value>,
) -> Result<Result<(), String>, StoreError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let filled: Vec<_> = row.iter().filter(|(_, value)| !value.is_null()).collect();
    if let Some((column, _)) = filled.iter().find(|(column, _)| !column.chars().all(plain)) {
        return Ok(Err(format!("column {column:?}")));
    }
    let columns: Vec<&str> = filled.iter().map(|(column, _)| column.as_str()).collect();
    let places: Vec<String> = (1..=filled.len()).map(|n| format!("${n}")).collect();
    let text = format!(
        "INSERT INTO {table} ({}) VALUES ({})",
        columns.join(", "),
        places.join(", ")
    );
    let mut insert = sqlx::query(AssertSqlSafe(text));
    for (column, value) in filled {
        insert = match (value, value.as_i64()) {
            (_, Some(number)) => insert.bind(number),
            (Value::String(text), _) => insert.bind(text.clone()),
            _ => return Ok(Err(format!("value of column {column:?}"))),
        };
    }
    insert
        .execute(&mut **tx)
        .await
        .map(|_| Ok(()))
        .map_err(StoreError::doing("restore row"))
}

fn to_json(row: &AnyRow) -> Result<Value, StoreError> {
    let mut object = Map::new();
    for column in row.columns() {
        let at = column.ordinal();
        let value = match row.try_get::<Option<String>, _>(at) {
            Ok(Some(text)) => Value::String(text),
            Ok(None) => Value::Null,
            Err(_) => row
                .try_get::<i64, _>(at)
                .map(Value::from)
                .map_err(StoreError::doing("read a value for the copy"))?,
        };
        object.insert(column.name().to_owned(), value);
    }
    Ok(Value::Object(object))
}
