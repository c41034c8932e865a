//! Many rows at once: one statement for some dozens, as both databases understand it.

use anyhow::{Context as _, Result};
use portal::db::Tx;
use time::OffsetDateTime;
use uuid::{Builder, Uuid};

/// Values of one statement at most; SQLite takes 32,766.
const VALUES_LIMIT: usize = 2_000;

/// A value of a row. A missing one has a type, for PostgreSQL asks.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Text(String),
    Number(i64),
    NoText,
    NoNumber,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::NoText, Self::Text)
    }
}

impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::NoNumber, Self::Number)
    }
}

/// A row from values of any kinds.
macro_rules! row {
    ($($value:expr),+ $(,)?) => { [$($crate::bench::portal::bulk::Cell::from($value)),+] };
}
pub(super) use row;

/// Rows of one table that wait to be written.
#[derive(Debug)]
pub(super) struct Table {
    name: &'static str,
    columns: &'static str,
    width: usize,
    cells: Vec<Cell>,
    written: usize,
}

impl Table {
    /// No rows yet; `columns` are joined by `, `.
    pub(super) fn new(name: &'static str, columns: &'static str) -> Self {
        Self {
            name,
            columns,
            width: columns.split(',').count(),
            cells: Vec::new(),
            written: 0,
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not the table's columns.
    pub(super) fn push<const N: usize>(&mut self, row: [Cell; N]) {
        assert_eq!(N, self.width, "a row of {}", self.name);
        self.cells.extend(row);
    }

    /// Rows that were written or wait.
    pub(super) fn len(&self) -> usize {
        self.written + self.cells.len() / self.width
    }

    /// Writes what waits.
    pub(super) async fn write(&mut self, tx: &mut Tx) -> Result<()> {
        for rows in self.cells.chunks(VALUES_LIMIT / self.width * self.width) {
            let statement = self.statement(rows.len() / self.width);
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
            for cell in rows {
                query = match cell {
                    Cell::Text(text) => query.bind(text.as_str()),
                    Cell::Number(number) => query.bind(*number),
                    Cell::NoText => query.bind(None::<String>),
                    Cell::NoNumber => query.bind(None::<i64>),
                };
            }
            let done = query.execute(&mut **tx).await;
            done.with_context(|| format!("write rows of {}", self.name))?;
            self.written += rows.len() / self.width;
        }
        self.cells.clear();
        Ok(())
    }

    fn statement(&self, rows: usize) -> String {
        let rows: Vec<String> = (0..rows)
            .map(|row| {
                let places: Vec<String> = (1..=self.width)
                    .map(|column| format!("${}", row * self.width + column))
                    .collect();
                format!("({})", places.join(", "))
            })
            .collect();
        let (name, columns) = (self.name, self.columns);
        format!("INSERT INTO {name} ({columns}) VALUES {}", rows.join(", "))
    }
}

/// Chance that comes out the same each time.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Begins with the same numbers always.
    pub(super) fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }

    /// Whether something happens that happens `percent` times in a hundred.
    pub(super) fn happens(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// An index below `limit`, the low ones much more often: large establishments file more.
    pub(super) fn skewed(&mut self, limit: usize) -> usize {
        let share = self.below(1 << 20) as f64 / f64::from(1 << 20);
        (share * share * limit as f64) as usize
    }

    /// An id as a row made at that moment has it (UUID v7).
    pub(super) fn id(&mut self, at_ms: i64) -> Uuid {
        let random = u128::from(self.next()) << 64 | u128::from(self.next());
        let bytes: [u8; 16] = random.to_be_bytes();
        let random = bytes.first_chunk().expect("16 bytes have 10");
        Builder::from_unix_timestamp_millis(at_ms.unsigned_abs(), random).into_uuid()
    }

    /// 64 hexadecimal digits, as a SHA-256 is written.
    pub(super) fn hash(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.next())).collect()
    }

    /// Bytes of a key.
    pub(super) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

/// Milliseconds as the rows have them.
pub(super) fn ms(at: OffsetDateTime) -> i64 {
    portal::clock::unix_ms(at)
}
