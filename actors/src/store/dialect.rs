//! Statements for both engines. Their texts are in the SQL that SQLite and PostgreSQL have in common. The rest is
//! written for SQLite, and translated here for PostgreSQL:
//!
//! | SQLite | PostgreSQL |
//! | --- | --- |
//! | parameters `?`, or `?1` | `$1` |
//! | `MAX(a, b)`, `MIN(a, b)`, of which none is null | `GREATEST`, `LEAST` |
//! | `json_each(?1)`, a list of numbers, or of texts if its alias is `texts` | `json_array_elements_text` |
//! | `group_concat(a)`, `char(a)` | `string_agg(a, ',')`, `chr(a)` |
//! | `a CROSS JOIN b ON c`, in which SQLite begins with `a` | `a JOIN b ON c` |
//! | `AND +e.a`, for which SQLite uses no index | `AND e.a` |
//!
//! Texts must keep to the rules of both: a sub-select in FROM has an alias; a list after IN is not empty; a boolean is
//! not a number; a sum is cast to BIGINT; and in an upsert, the table's own columns are qualified with its name.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

/// Returns the statement with this text, in the dialect of the connection.
pub fn statement(
    db: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    statement_for(db.get_database_backend(), sql, values)
}

/// Like [`statement`], for this engine.
pub fn statement_for(
    backend: DbBackend,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    let sql = sql.into();
    let sql = if backend == DbBackend::Postgres { translated(sql) } else { sql };
    Statement::from_sql_and_values(backend, sql, values)
}

/// Translates a text, unless this was done before. Most texts are constants.
fn translated(sql: String) -> String {
    static KNOWN: RwLock<BTreeMap<String, String>> = RwLock::new(BTreeMap::new());
    if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&sql) {
        return known.clone();
    }
    let translated = to_postgres(&sql);
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    // Texts with a number of rows or conditions that varies must not fill the memory.
    if sql.len() <= MAX_KNOWN_BYTES && known.len() < MAX_KNOWN {
        known.insert(sql, translated.clone());
    }
    translated
}

const MAX_KNOWN: usize = 256;
const MAX_KNOWN_BYTES: usize = 4096;

/// Translates a text.
pub fn to_postgres(sql: &str) -> String {
    let sql = sql.replace("CROSS JOIN", "JOIN").replace("AND +", "AND ");
    numbered(&translated_calls(&sql))
}

/// Replaces the parameters.
fn numbered(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 16);
    let mut number = 0;
    let mut chars = sql.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '?' {
            out.push(char);
            continue;
        }
        out.push('$');
        if !chars.peek().is_some_and(char::is_ascii_digit) {
            number += 1;
            out.push_str(&number.to_string());
        }
    }
    out
}

const TRANSLATED: [&str; 5] = ["MAX(", "MIN(", "json_each(", "group_concat(", "char("];

fn translated_calls(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 64);
    let mut rest = sql;
    while let Some((at, name)) = next_call(rest) {
        out.push_str(&rest[..at]);
        let (arguments, after) = arguments(&rest[at + name.len()..]);
        out.push_str(&translated_call(name, &arguments, after));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Returns the place and the beginning of the next call that may differ.
fn next_call(sql: &str) -> Option<(usize, &'static str)> {
    let is_call = |at: usize| !sql[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
    let of = |name: &'static str| sql.match_indices(name).map(|(at, _)| at).find(|at| is_call(*at));
    TRANSLATED.into_iter().filter_map(|name| Some((of(name)?, name))).min()
}

/// Splits what follows an opening parenthesis into the arguments, and what comes after the closing one.
fn arguments(sql: &str) -> (Vec<&str>, &str) {
    let (mut depth, mut start, mut is_quoted, mut arguments) = (0, 0, false, Vec::new());
    for (at, char) in sql.char_indices() {
        match char {
            '\'' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' => depth += 1,
            ',' if depth == 0 => {
                arguments.push(&sql[start..at]);
                start = at + 1;
            }
            ')' if depth == 0 => {
                arguments.push(&sql[start..at]);
                return (arguments, &sql[at + 1..]);
            }
            ')' => depth -= 1,
            _ => {}
        }
    }
    unreachable!("the statements are constants, in which each parenthesis is closed: {sql}")
}

fn translated_call(name: &str, arguments: &[&str], after: &str) -> String {
    let all: Vec<String> = arguments.iter().map(|argument| translated_calls(argument.trim())).collect();
    let all = all.join(", ");
    match name {
        "MAX(" if arguments.len() > 1 => format!("GREATEST({all})"),
        "MIN(" if arguments.len() > 1 => format!("LEAST({all})"),
        "group_concat(" => format!("string_agg({all}, ',')"),
        "char(" => format!("chr({all})"),
        "json_each(" if after.trim_start().starts_with("texts") => {
            format!("json_array_elements_text({all}::json)")
        }
        "json_each(" => {
            format!(
                "(SELECT CAST(value AS BIGINT) AS value FROM json_array_elements_text({all}::json)) json_each"
            )
        }
        other => format!("{other}{all})"),
    }
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A number of 64 bits.
    Number,
    Text,
    Bytes,
    Truth,
}

/// What an [`Insert`] does if a row with the same key exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The statement fails. In SQLite, this ends the transaction.
    Fails,
    /// The row stays as it is.
    Stays,
    /// The row with this key, the first columns, gets the values of all others.
    IsReplaced(usize),
    /// This clause defines what happens, and what the statement returns.
    Changes(&'static str),
}

/// A statement that inserts any number of rows in a table.
#[derive(Debug)]
pub struct Insert<const COLUMNS: usize> {
    pub table: &'static str,
    /// The first one is never null.
    pub columns: [(&'static str, Type); COLUMNS],
    pub existing: Existing,
}

impl<const COLUMNS: usize> Insert<COLUMNS> {
    /// Returns the statement that inserts these rows. Each key may occur once.
    pub fn statement(
        &self,
        backend: DbBackend,
        rows: impl ExactSizeIterator<Item = [Value; COLUMNS]>,
    ) -> Statement {
        match backend {
            DbBackend::Postgres => self.for_postgres(rows),
            _ => self.for_sqlite(rows),
        }
    }

    /// To limit the number of distinct SQL strings, the rows are padded to the next power of two with null rows that
    /// are skipped.
    fn for_sqlite(&self, rows: impl ExactSizeIterator<Item = [Value; COLUMNS]>) -> Statement {
        let size = rows.len().next_power_of_two();
        let mut sql = self.head(match self.existing {
            Existing::Fails => "INSERT OR ROLLBACK INTO ",
            Existing::Stays => "INSERT OR IGNORE INTO ",
            Existing::IsReplaced(_) | Existing::Changes(_) => "INSERT INTO ",
        });
        sql.push_str(" SELECT * FROM (VALUES ");
        push_rows(&mut sql, size, COLUMNS);
        sql.push_str(") WHERE column1 IS NOT NULL");
        sql.push_str(&self.tail());
        let mut values = Vec::with_capacity(size * COLUMNS);
        values.extend(rows.flatten());
        values.resize(size * COLUMNS, Value::BigInt(None));
        Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
    }

    fn for_postgres(&self, rows: impl ExactSizeIterator<Item = [Value; COLUMNS]>) -> Statement {
        let mut sql = self.head("INSERT INTO ");
        sql.push_str(" VALUES ");
        push_rows(&mut sql, rows.len(), COLUMNS);
        sql.push_str(&self.tail());
        if self.existing == Existing::Stays {
            sql.push_str(" ON CONFLICT DO NOTHING");
        }
        let values: Vec<Value> = rows.flatten().collect();
        statement_for(DbBackend::Postgres, sql, values)
    }

    fn head(&self, begin: &str) -> String {
        let mut sql = String::with_capacity(256);
        sql.extend([begin, self.table, " ("]);
        for (number, (column, _)) in self.columns.iter().enumerate() {
            sql.extend([if number > 0 { "," } else { "" }, *column]);
        }
        sql.push(')');
        sql
    }

    /// Returns what comes after the rows.
    pub fn tail(&self) -> Cow<'static, str> {
        match self.existing {
            Existing::Fails | Existing::Stays => "".into(),
            Existing::Changes(clause) => clause.into(),
            Existing::IsReplaced(key) => {
                let names = self.columns.map(|(column, _)| column);
                // Setting the key, too, would write its index each time, although the key never changes.
                let others = names[key..].iter().map(|column| format!("{column} = excluded.{column}"));
                let others: Vec<_> = others.collect();
                format!(" ON CONFLICT ({}) DO UPDATE SET {}", names[..key].join(", "), others.join(", "))
                    .into()
            }
        }
    }
}

fn push_rows(sql: &mut String, rows: usize, columns: usize) {
    let row = format!(",({})", &",?".repeat(columns)[1..]);
    sql.push_str(&row.repeat(rows)[1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_and_calls_are_translated() {
        for (sqlite, postgres) in [
            ("a = ? AND b < ?", "a = $1 AND b < $2"),
            ("a = ?2 AND b < ?11", "a = $2 AND b < $11"),
            ("SELECT MAX(a), MIN(b + (c))", "SELECT MAX(a), MIN(b + (c))"),
            (
                "MIN(?1 - 1, MAX(?2, (SELECT COALESCE(MAX(a), 0))))",
                "LEAST($1 - 1, GREATEST($2, (SELECT COALESCE(MAX(a), 0))))",
            ),
            ("octet_length(a) varchar(3)", "octet_length(a) varchar(3)"),
            ("COALESCE((SELECT a), char(7))", "COALESCE((SELECT a), chr(7))"),
            (
                "group_concat(CASE WHEN a THEN b || ', ' END)",
                "string_agg(CASE WHEN a THEN b || ', ' END, ',')",
            ),
            ("a CROSS JOIN b ON c AND +e.d = 1", "a JOIN b ON c AND e.d = 1"),
            (
                "IN (SELECT value FROM json_each(?6) texts)",
                "IN (SELECT value FROM json_array_elements_text($6::json) texts)",
            ),
            (
                "FROM json_each(?5) CROSS JOIN n ON n.seq = json_each.value",
                "FROM (SELECT CAST(value AS BIGINT) AS value FROM json_array_elements_text($5::json)) json_each \
                 JOIN n ON n.seq = json_each.value",
            ),
        ] {
            assert_eq!(to_postgres(sqlite), postgres);
        }
    }

    #[test]
    fn rows_that_exist_are_treated_alike() {
        let insert = |existing| Insert {
            table: "t",
            columns: [("a", Type::Number), ("b", Type::Text), ("c", Type::Truth)],
            existing,
        };
        let texts = |existing| {
            let rows = || [1, 2, 3].map(|a: i64| [a.into(), "x".into(), true.into()]).into_iter();
            let of = |backend| insert(existing).statement(backend, rows());
            let (sqlite, postgres) = (of(DbBackend::Sqlite), of(DbBackend::Postgres));
            let number = |statement: &Statement| statement.values.as_ref().unwrap().0.len();
            assert_eq!((number(&sqlite), number(&postgres)), (12, 9));
            (sqlite.sql, postgres.sql)
        };
        let four = "SELECT * FROM (VALUES (?,?,?),(?,?,?),(?,?,?),(?,?,?)) WHERE column1 IS NOT NULL";
        let three = "VALUES ($1,$2,$3),($4,$5,$6),($7,$8,$9)";
        assert_eq!(
            texts(Existing::Fails),
            (format!("INSERT OR ROLLBACK INTO t (a,b,c) {four}"), format!("INSERT INTO t (a,b,c) {three}"))
        );
        assert_eq!(
            texts(Existing::Stays),
            (
                format!("INSERT OR IGNORE INTO t (a,b,c) {four}"),
                format!("INSERT INTO t (a,b,c) {three} ON CONFLICT DO NOTHING")
            )
        );
        let update = "ON CONFLICT (a, b) DO UPDATE SET c = excluded.c";
        assert_eq!(
            texts(Existing::IsReplaced(2)),
            (
                format!("INSERT INTO t (a,b,c) {four} {update}"),
                format!("INSERT INTO t (a,b,c) {three} {update}")
            )
        );
        let clause = " ON CONFLICT (a) DO UPDATE SET b = MAX(t.b, excluded.b) RETURNING a";
        let (sqlite, postgres) = texts(Existing::Changes(clause));
        assert!(sqlite.ends_with(clause), "{sqlite}");
        assert!(postgres.ends_with("SET b = GREATEST(t.b, excluded.b) RETURNING a"), "{postgres}");
    }
}
