//! How the history is searched so that no question takes long, however much there is.
//!
//! A question is a list of clauses that all must hold, each a list of alternatives (a word may
//! be part of an establishment's name, a kind, a person's name, a number). The clause that
//! leaves the fewest rows leads: each of its alternatives is one walk along one index, newest
//! first, and the other clauses are asked of what the walk meets. A walk meets at most
//! [`STEPS_LIMIT`] rows; where it had to stop, the answer says so and can be taken up there.
//!
//! Writes SQL that SQLite and PostgreSQL read alike. Knows nothing of who asks.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use super::{Entry, Position};
use crate::clock::unix_ms;
use crate::ids::EstablishmentId;

/// Rows that all walks of one question meet together.
pub const STEPS_LIMIT: i64 = 10_000;
/// Walks of one question.
pub const WALKS_LIMIT: usize = 20;

/// One way in which a clause can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alternative {
    /// The receipt's or the notice's number.
    Number(String),
    /// The whole title.
    Title(String),
    /// Who did it.
    Person(String),
    /// Whose it is.
    Establishment(EstablishmentId),
    /// The kind, as people read it.
    Kind(String),
    /// What happened.
    Entry(Entry),
    /// Part of the title, as a pattern for LIKE; no index helps.
    InTitle(String),
    /// Part of what a member may see, as a pattern for LIKE; no index helps.
    Anywhere(String),
    /// Part of the name of one of the establishment's people; no index helps.
    ByMember(String),
    /// Of no filing, or of one of these groups of procedures, between commas; no index helps.
    OfProcedures(String),
}

/// Alternatives of which one must hold.
pub type Clause = Vec<Alternative>;

/// From where, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    /// Newest first, from the newest.
    FromTheNewest,
    /// What is older than this, newest first.
    OlderThan(Position),
    /// What is newer than this, oldest first.
    NewerThan(Position),
}

/// A whole question.
#[derive(Debug, Clone)]
pub struct Question {
    /// What must hold, all of it.
    pub clauses: Vec<Clause>,
    /// From this moment, Unix milliseconds.
    pub from_ms: i64,
    /// Before this moment.
    pub before_ms: i64,
    /// From where.
    pub going: Going,
    /// Rows at most.
    pub limit: i64,
}

/// A statement with what is bound to it.
#[derive(Debug, Default, Clone)]
pub struct Statement {
    text: String,
    binds: Vec<Bind>,
}

#[derive(Debug, Clone)]
enum Bind {
    Text(String),
    Number(i64),
}

impl Alternative {
    /// How few rows it leaves, as far as one can know: smaller is fewer. `None`: no index.
    fn rank(&self) -> Option<u8> {
        match self {
            Self::Number(_) | Self::Title(_) => Some(0),
            Self::Person(_) => Some(1),
            Self::Establishment(_) => Some(2),
            Self::Kind(_) => Some(3),
            Self::Entry(_) => Some(4),
            Self::InTitle(_) | Self::Anywhere(_) | Self::ByMember(_) | Self::OfProcedures(_) => {
                None
            }
        }
    }

    /// The condition on `row`. `|| ''` keeps a database from taking that column's index.
    fn condition(&self, sql: &mut Statement, row: &str, indexed: bool) -> String {
        let (column, value) = match self {
            Self::Number(number) => ("number", number.clone()),
            Self::Title(title) => ("title", title.clone()),
            Self::Person(person) => ("person", person.clone()),
            Self::Establishment(id) => ("establishment_id", id.to_string()),
            Self::Kind(kind) => ("kind", kind.clone()),
            Self::Entry(entry) => ("entry", entry.code().to_owned()),
            Self::InTitle(pattern) => {
                let pattern = sql.text(pattern);
                return format!("{row}.title LIKE {pattern} ESCAPE '!'");
            }
            Self::Anywhere(pattern) => {
                let pattern = sql.text(pattern);
                return format!(
                    "({row}.title LIKE {pattern} ESCAPE '!' OR {row}.number LIKE {pattern} ESCAPE '!' \
                      OR ({row}.side = 'member' AND {row}.person LIKE {pattern} ESCAPE '!'))"
                );
            }
            Self::OfProcedures(procedures) => {
                let procedures = sql.text(procedures);
                return format!(
                    "({row}.filing_id IS NULL OR EXISTS (SELECT 1 FROM filings f \
                       JOIN filing_kinds k ON k.code = f.kind WHERE f.id = {row}.filing_id \
                        AND {procedures} LIKE '%,' || k.procedure_group || ',%'))"
                );
            }
            Self::ByMember(pattern) => {
                let pattern = sql.text(pattern);
                return format!(
                    "({row}.side = 'member' AND {row}.person LIKE {pattern} ESCAPE '!')"
                );
            }
        };
        let value = sql.text(&value);
        match indexed {
            true => format!("{row}.{column} = {value}"),
            false => format!("({row}.{column} || '') = {value}"),
        }
    }
}

impl Going {
    fn words(self) -> (&'static str, Option<(&'static str, Position)>) {
        match self {
            Self::FromTheNewest => ("DESC", None),
            Self::OlderThan(position) => ("DESC", Some(("<", position))),
            Self::NewerThan(position) => ("ASC", Some((">", position))),
        }
    }
}

impl Question {
    /// The statement that answers it, with what a line shows beside the entry.
    pub fn statement(&self) -> Statement {
        let mut sql = Statement::default();
        let (direction, _) = self.going.words();
        let (leading, others) = self.led();
        let steps = self.steps();
        let walks: Vec<String> = leads(leading)
            .enumerate()
            .map(|(index, lead)| {
                let walk = self.walk(&mut sql, lead, steps);
                let limit = sql.number(self.limit);
                let asked = match others.as_slice() {
                    [] => String::new(),
                    others => format!("WHERE {}", all(&mut sql, others, "w")),
                };
                format!(
                    "SELECT * FROM (SELECT w.* FROM ({walk}) w {asked} \
                     ORDER BY w.at_ms {direction}, w.id {direction} LIMIT {limit}) a{index}"
                )
            })
            .collect();
        let limit = sql.number(self.limit);
        sql.text = format!(
            "SELECT x.*, e.number AS establishment_number, e.name AS establishment_name, \
                    f.state AS filing_state \
               FROM ({}) x JOIN establishments e ON e.id = x.establishment_id \
               LEFT JOIN filings f ON f.id = x.filing_id \
              ORDER BY x.at_ms {direction}, x.id {direction} LIMIT {limit}",
            walks.join(" UNION ")
        );
        sql
    }

    /// The statements that say where each walk stopped, if it met as many rows as it may. None
    /// are needed where every row met is an answer.
    pub fn ends(&self) -> Vec<Statement> {
        let (leading, others) = self.led();
        if others.is_empty() {
            return Vec::new();
        }
        let steps = self.steps();
        leads(leading)
            .map(|lead| {
                let mut sql = Statement::default();
                let walk = self.walk(&mut sql, lead, steps);
                sql.text = format!(
                    "SELECT w.at_ms, w.id FROM ({walk}) w LIMIT 1 OFFSET {}",
                    steps - 1
                );
                sql
            })
            .collect()
    }

    /// The clause that leads, and the others.
    fn led(&self) -> (Option<&Clause>, Vec<&Clause>) {
        let leading = self
            .clauses
            .iter()
            .enumerate()
            .filter(|(_, clause)| clause.len() <= WALKS_LIMIT)
            .filter_map(|(index, clause)| {
                let ranks: Option<Vec<u8>> = clause.iter().map(Alternative::rank).collect();
                let worst = ranks?.into_iter().max()?;
                Some((worst, clause.len(), index))
            })
            .min()
            .map(|(_, _, index)| index);
        let others = self.clauses.iter().enumerate();
        let others = others.filter(|(index, _)| Some(*index) != leading);
        (
            leading.map(|index| &self.clauses[index]),
            others.map(|(_, clause)| clause).collect(),
        )
    }

    fn steps(&self) -> i64 {
        let walks = leads(self.led().0).count();
        STEPS_LIMIT / i64::try_from(walks).unwrap_or(1).max(1)
    }

    fn walk(&self, sql: &mut Statement, lead: Option<&Alternative>, steps: i64) -> String {
        let (direction, from) = self.going.words();
        let mut conditions = vec![
            format!("h.at_ms >= {}", sql.number(self.from_ms)),
            format!("h.at_ms < {}", sql.number(self.before_ms)),
        ];
        if let Some(lead) = lead {
            conditions.insert(0, lead.condition(sql, "h", true));
        }
        if let Some((than, position)) = from {
            let at = sql.number(unix_ms(position.at));
            let id = sql.text(&position.id.to_string());
            conditions.push(format!("(h.at_ms, h.id) {than} ({at}, {id})"));
        }
        let conditions = conditions.join(" AND ");
        format!(
            "SELECT h.* FROM history h WHERE {conditions} \
             ORDER BY h.at_ms {direction}, h.id {direction} LIMIT {steps}"
        )
    }
}

fn leads(leading: Option<&Clause>) -> impl Iterator<Item = Option<&Alternative>> {
    let none = leading.is_none().then_some(None);
    leading.into_iter().flatten().map(Some).chain(none)
}

fn all(sql: &mut Statement, clauses: &[&Clause], row: &str) -> String {
    let clauses: Vec<String> = clauses
        .iter()
        .map(|clause| {
            let any: Vec<String> = clause
                .iter()
                .map(|alternative| alternative.condition(sql, row, false))
                .collect();
            // A clause without alternatives never holds.
            match any.is_empty() {
                true => "1 = 0".to_owned(),
                false => format!("({})", any.join(" OR ")),
            }
        })
        .collect();
    clauses.join(" AND ")
}

impl Statement {
    fn text(&mut self, value: &str) -> String {
        self.binds.push(Bind::Text(value.to_owned()));
        format!("${}", self.binds.len())
    }

    fn number(&mut self, value: i64) -> String {
        self.binds.push(Bind::Number(value));
        format!("${}", self.binds.len())
    }

    /// Ready to run.
    pub fn query(&self) -> Query<'_, Any, AnyArguments> {
        self.query_with("")
    }

    /// With words in front, such as `EXPLAIN QUERY PLAN`.
    pub fn query_with(&self, front: &'static str) -> Query<'_, Any, AnyArguments> {
        let text = format!("{front} {}", self.text);
        let mut query = sqlx::query(AssertSqlSafe(text));
        for bind in &self.binds {
            query = match bind {
                Bind::Text(text) => query.bind(text.clone()),
                Bind::Number(number) => query.bind(*number),
            };
        }
        query
    }
}
