//! Short texts about an establishment's filings that people write names into: comments, reasons
//! for a withdrawal. They lie under the establishment's key, so that destroying it destroys
//! them with the documents.
//!
//! Rows from before lie under the master key ([`Purpose::FilingComment`]). They are read as
//! they are, [`reseal`] moves them over, and [`forget`] empties what was not moved yet when a
//! key is destroyed. What cannot be read any more says so in its place ([`DESTROYED`]).

use crate::app::App;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{EstablishmentId, FilingId, RowId};
use crate::keys::{MasterKey, Purpose};
use crate::vault::EstablishmentKey;

/// What stands in place of a text whose key is destroyed.
pub const DESTROYED: &str = "（事業所の鍵が破棄されたため、内容は残っていません。）";
/// Rows that are moved in one transaction.
const BATCH: i64 = 200;

/// The columns that hold such texts.
const COLUMNS: [(&str, &str); 2] = [
    ("filing_comments", "text_sealed"),
    ("withdrawal_requests", "reason_sealed"),
];

/// Where a text stands, to be sealed with it.
pub fn place(table: &str, id: RowId) -> String {
    format!("{table}/{id}")
}

/// Seals a text about a filing. `None` if the key is destroyed: nothing is written then.
pub async fn seal(
    tx: &mut Tx,
    keys: &MasterKey,
    filing: FilingId,
    place: &str,
    text: &str,
) -> Result<Option<String>, StoreError> {
    let key = key_of(tx, keys, filing).await?;
    Ok(key.map(|key| key.seal_text(place, text)))
}

/// The key under which texts about a filing lie. `None` if it is destroyed.
async fn key_of(
    tx: &mut Tx,
    keys: &MasterKey,
    filing: FilingId,
) -> Result<Option<EstablishmentKey>, StoreError> {
    let row = sqlx::query(
        "SELECT e.id, e.key_wrapped FROM filings f
           JOIN establishments e ON e.id = f.establishment_id WHERE f.id = $1",
    )
    .bind(filing.to_string())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("find the key for a text"))?;
    open_key(keys, row.parsed("id")?, &row.text("key_wrapped")?)
}

/// Opens the texts of one establishment.
#[derive(Debug)]
pub struct Reader<'a> {
    master: &'a MasterKey,
    key: Option<EstablishmentKey>,
}

impl<'a> Reader<'a> {
    /// Fetches the establishment's key.
    pub async fn of(
        db: &Db,
        master: &'a MasterKey,
        establishment: EstablishmentId,
    ) -> Result<Self, StoreError> {
        let wrapped = super::store::sealed_key(db, establishment).await?;
        let key = open_key(master, establishment, &wrapped.unwrap_or_default())?;
        Ok(Self { master, key })
    }

    /// Opens a text in either form.
    pub fn open(&self, place: &str, sealed: &str) -> Result<String, StoreError> {
        let Some(key) = &self.key else {
            return Ok(DESTROYED.to_owned());
        };
        if sealed.is_empty() {
            return Ok(DESTROYED.to_owned());
        }
        let opened = match EstablishmentKey::has_sealed(sealed) {
            true => key.open_text(place, sealed),
            false => self.master.open(Purpose::FilingComment, place, sealed),
        };
        let unreadable = |_| StoreError::Unreadable { what: "text" };
        String::from_utf8(
            opened
                .map_err(|_| StoreError::Unreadable { what: "text" })?
                .to_vec(),
        )
        .map_err(unreadable)
    }
}

fn open_key(
    master: &MasterKey,
    establishment: EstablishmentId,
    wrapped: &str,
) -> Result<Option<EstablishmentKey>, StoreError> {
    if wrapped.is_empty() {
        return Ok(None);
    }
    EstablishmentKey::open(wrapped, master, establishment)
        .map(Some)
        .map_err(|_| StoreError::Unreadable {
            what: "establishment's key",
        })
}

/// Empties what still lies under the master key of an establishment whose key is destroyed in
/// this transaction.
pub(super) async fn forget(tx: &mut Tx, establishment: EstablishmentId) -> Result<(), StoreError> {
    for (table, column) in COLUMNS {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE {table} SET {column} = '' WHERE {column} NOT LIKE 'e:%' AND filing_id IN
                    (SELECT id FROM filings WHERE establishment_id = $1)"
        )))
        .bind(establishment.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("forget texts"))?;
    }
    Ok(())
}

/// Moves texts from under the master key to under their establishment's, and empties those
/// whose key was destroyed before. Returns how many were moved.
pub async fn reseal(app: &App) -> Result<u64, StoreError> {
    let mut moved = 0;
    for (table, column) in COLUMNS {
        let mut after = String::new();
        loop {
            // Outside of any change, and along the table's own key: with nothing to move this is
            // all that happens, and nobody waits for it.
            let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
                "SELECT id, filing_id, {column} AS sealed FROM {table}
                  WHERE id > $1 AND {column} NOT LIKE 'e:%' AND {column} <> ''
                  ORDER BY id LIMIT $2"
            )))
            .bind(after.as_str())
            .bind(BATCH)
            .fetch_all(app.db.pool())
            .await
            .map_err(StoreError::doing("list texts to seal anew"))?;
            let Some(last) = rows.last() else { break };
            after = last.text("id")?;
            let mut tx = app.db.begin().await?;
            for row in &rows {
                let (id, sealed): (RowId, _) = (row.parsed("id")?, row.text("sealed")?);
                let place = place(table, id);
                let key = key_of(&mut tx, &app.keys, row.parsed("filing_id")?).await?;
                let anew = match key {
                    None => String::new(),
                    Some(key) => match app.keys.open(Purpose::FilingComment, &place, &sealed) {
                        Ok(text) => key.seal_text(&place, &String::from_utf8_lossy(&text)),
                        Err(error) => {
                            tracing::error!(table, %id, %error, "a text stays as it is");
                            continue;
                        }
                    },
                };
                moved += sqlx::query(sqlx::AssertSqlSafe(format!(
                    "UPDATE {table} SET {column} = $1 WHERE id = $2 AND {column} = $3"
                )))
                .bind(anew)
                .bind(id.to_string())
                .bind(sealed)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::doing("seal a text anew"))?
                .rows_affected();
            }
            Db::commit(tx).await?;
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests;
