//! The history as a table for spreadsheets, as each side may see it.

use super::search::Going;
use super::store::{self, Asker, Line, Search};
use crate::db::{Db, StoreError};
use crate::filings::reasons::ReturnCode;
use crate::filings::state_label;
use crate::filings::store::ActorSide;
use crate::web::dates;
use crate::web::export::Table;
use crate::web::layout::Side;

/// Rows of one file. More are asked for in parts, by date.
pub const ROWS_LIMIT: usize = 50_000;
/// Rows that are read at a time.
pub const BATCH: usize = 1_000;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// More than [`ROWS_LIMIT`] rows.
    #[error("more than {ROWS_LIMIT} rows")]
    TooMany,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads everything that the asker finds, a batch at a time.
///
/// # Errors
/// [`ExportError::TooMany`], if it is more than one file holds.
pub async fn collect(db: &Db, asker: Asker<'_>, search: &Search) -> Result<Vec<Line>, ExportError> {
    let mut lines = Vec::new();
    let mut going = Going::FromTheNewest;
    loop {
        let page = store::read(db, asker, search, going, BATCH).await?;
        lines.extend(page.lines);
        if lines.len() > ROWS_LIMIT {
            return Err(ExportError::TooMany);
        }
        match page.older {
            Some(position) => going = Going::OlderThan(position),
            None => return Ok(lines),
        }
    }
}

/// The table for `side`. An establishment reads 基金事務局 where the office reads a name.
pub fn table(lines: &[Line], side: Side) -> Table {
    let mut headings = vec![
        "日時",
        "送受信",
        "内容",
        "種類",
        "名称",
        "受付番号・文書番号",
        "行った方",
        "差戻しの理由",
        "届書の現在の状態",
    ];
    if side == Side::Office {
        headings.splice(1..1, ["事業所番号", "事業所"]);
    }
    let rows = lines.iter().map(|line| {
        let mut row = vec![
            dates::moment_to_the_second(line.position.at),
            line.entry.way().label(side).to_owned(),
            line.entry.label().to_owned(),
            line.kind.clone(),
            line.title.clone(),
            line.number.clone(),
            person(line, side),
            reason(line),
            state(line).to_owned(),
        ];
        if side == Side::Office {
            let (number, name) = (line.establishment_number, &line.establishment_name);
            row.splice(1..1, [number.to_string(), name.clone()]);
        }
        row
    });
    Table {
        headings,
        rows: rows.collect(),
    }
}

/// Who did it, as `side` reads it.
pub fn person(line: &Line, side: Side) -> String {
    match (line.side, side) {
        (ActorSide::Staff, Side::Member) => "基金事務局".to_owned(),
        (ActorSide::Staff, Side::Office) => format!("基金事務局 {}", line.person),
        (ActorSide::Member, _) => line.person.clone(),
    }
}

/// Why a filing was returned; empty for anything else.
pub fn reason(line: &Line) -> String {
    ReturnCode::from_code(&line.reason).map_or(String::new(), |code| code.label().to_owned())
}

/// The state of the filing now; empty where there is none.
pub fn state(line: &Line) -> &'static str {
    line.filing_state.as_deref().map_or("", state_label)
}
