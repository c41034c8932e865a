//! Rows of the audit log by the hundred thousand, each chained to the one before, so that
//! `portal audit verify` finds nothing wrong with them.

use anyhow::Result;
use portal::audit::chain::{ChainKey, ChainedRow};
use portal::db::Tx;
use portal::keys::MasterKey;
use sqlx::Row as _;

use super::bulk::{Table, row};

/// The end of the chain, and the rows that wait.
#[derive(Debug)]
pub(super) struct Audit {
    key: ChainKey,
    seq: i64,
    chain: String,
    rows: Table,
}

/// Who did it, and through which PC and session; empty where there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) kind: &'static str,
    pub(super) id: &'a str,
    pub(super) device: &'a str,
    pub(super) session: &'a str,
}

impl Audit {
    /// Goes on where the log ends.
    pub(super) async fn open(tx: &mut Tx, keys: &MasterKey) -> Result<Self> {
        let head = sqlx::query("SELECT seq, chain FROM audit_head WHERE id = 1")
            .fetch_one(&mut **tx)
            .await?;
        Ok(Self {
            key: ChainKey::of(keys),
            seq: head.try_get("seq")?,
            chain: head.try_get("chain")?,
            rows: Table::new(
                "audit_log",
                "seq, at_ms, actor_kind, actor_id, device_id, session_id, act, object_kind, \
                 object_id, reason, details, chain",
            ),
        })
    }

    /// Adds a row.
    pub(super) fn record(
        &mut self,
        at_ms: i64,
        who: Who<'_>,
        act: &str,
        object_kind: &str,
        object_id: &str,
    ) {
        self.seq += 1;
        let row = ChainedRow {
            seq: self.seq,
            at_ms,
            texts: [
                who.kind,
                who.id,
                who.device,
                who.session,
                act,
                object_kind,
                object_id,
                "",
                "{}",
            ]
            .map(str::to_owned),
        };
        self.chain = self.key.chain(&row, &self.chain);
        let [
            kind,
            id,
            device,
            session,
            act,
            object_kind,
            object_id,
            reason,
            details,
        ] = &row.texts;
        self.rows.push(row![
            row.seq,
            row.at_ms,
            kind,
            id,
            device,
            session,
            act,
            object_kind,
            object_id,
            reason,
            details,
            &self.chain,
        ]);
    }

    /// How many rows were added.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Writes what waits, and where the chain ends now.
    pub(super) async fn write(&mut self, tx: &mut Tx) -> Result<()> {
        self.rows.write(tx).await?;
        sqlx::query("UPDATE audit_head SET seq = $1, chain = $2 WHERE id = 1")
            .bind(self.seq)
            .bind(self.chain.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}
