//! Conditions that differ from search to search: only those that narrow stand in the statement,
//! so that it goes along the index that fits, and asks no table that it does not need.

/// A value of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// `%text%` for `LIKE … ESCAPE '!'`: any text that contains `text`, whose own signs stand for
/// themselves. Nothing for an empty text.
pub fn containing(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let literal = text
        .replace('!', "!!")
        .replace('%', "!%")
        .replace('_', "!_");
    format!("%{literal}%")
}

/// Conditions, all of which hold, and the values of the statement in the order of its `$1`,
/// `$2`, ….
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Where {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Where {
    /// Takes a value in; its name in the statement.
    pub fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Adds a condition.
    pub fn and(&mut self, condition: impl Into<String>) {
        self.conditions.push(condition.into());
    }

    /// What stands behind WHERE.
    pub fn sql(&self) -> String {
        match self.conditions.as_slice() {
            [] => "1 = 1".to_owned(),
            some => some.join(" AND "),
        }
    }

    /// Binds the values to a statement.
    pub fn bind<'q>(
        &'q self,
        sql: String,
    ) -> sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments> {
        let statement: sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments> =
            sqlx::query(sqlx::AssertSqlSafe(sql));
        self.values
            .iter()
            .fold(statement, |statement, value| match value {
                Value::Text(text) => statement.bind(text.as_str()),
                Value::Number(number) => statement.bind(*number),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_like_stand_for_themselves() {
        assert_eq!(containing("0001_届!100%"), "%0001!_届!!100!%%");
        assert_eq!(containing(""), "");
    }

    #[test]
    fn values_are_counted_and_no_condition_lets_everything_through() {
        let mut narrowed = Where::default();
        assert_eq!(narrowed.sql(), "1 = 1");
        let (name, year) = (narrowed.value("a"), narrowed.value(2026));
        narrowed.and(format!("name = {name}"));
        narrowed.and(format!("year = {year}"));
        assert_eq!(narrowed.sql(), "name = $1 AND year = $2");
    }
}
