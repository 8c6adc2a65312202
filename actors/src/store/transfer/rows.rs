//! The rows of a table: reads them in batches in the order of the primary key, and writes them to the other database.

use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use super::{
    super::dialect::{self, Type},
    schema::{Column, Table},
};

/// The size of a batch, in bytes: a statement must not take long, and not much memory.
const BATCH_BYTES: usize = 1024 * 1024;
const FIRST_ROWS: usize = 16;
const MAX_ROWS: usize = 5000;
/// Both engines limit the number of parameters; SQLite to 32,766.
const MAX_VALUES: usize = 30_000;

/// Reads a table from its beginning to its end.
#[derive(Debug)]
pub struct Reader<'a> {
    table: &'a Table,
    /// The key of the last row that was read.
    after: Option<Vec<Value>>,
    limit: usize,
    is_at_end: bool,
}

impl<'a> Reader<'a> {
    pub fn new(table: &'a Table) -> Self {
        Self { table, after: None, limit: FIRST_ROWS, is_at_end: false }
    }

    /// Returns the values of the next rows; none at the end.
    pub async fn next(&mut self, db: &impl ConnectionTrait) -> Result<Vec<Vec<Value>>, DbErr> {
        if self.is_at_end {
            return Ok(Vec::new());
        }
        let rows = db.query_all_raw(self.statement(db)).await?;
        let values = |row: &QueryResult| {
            let columns = self.table.columns.iter().enumerate();
            columns.map(|(index, column)| value(row, index, column)).collect::<Result<Vec<_>, _>>()
        };
        let rows = rows.iter().map(values).collect::<Result<Vec<_>, _>>()?;
        self.is_at_end = rows.len() < self.limit;
        let key = |row: &Vec<Value>| self.table.key.iter().map(|&index| row[index].clone()).collect();
        self.after = rows.last().map(key);
        self.limit = next_limit(rows.len(), rows.iter().flatten().map(size).sum(), self.table.columns.len());
        Ok(rows)
    }

    fn statement(&self, db: &impl ConnectionTrait) -> Statement {
        let table = self.table;
        let is_postgres = db.get_database_backend() == DbBackend::Postgres;
        let columns = table.columns.iter().map(|column| match column.kind {
            // PostgreSQL has numbers of 32 bits, too.
            Type::Number if is_postgres => format!("CAST(t.\"{}\" AS bigint)", column.name),
            _ => format!("t.\"{}\"", column.name),
        });
        let columns: Vec<_> = columns.collect();
        let key = table.key.iter().map(|&index| format!("t.\"{}\"", table.columns[index].name));
        let key = key.collect::<Vec<_>>().join(", ");
        let mut sql = format!("SELECT {} FROM \"{}\" t", columns.join(", "), table.name);
        if let Some(after) = &self.after {
            let _never = write!(sql, " WHERE ({key}) > ({})", places(after.len()));
        }
        let _never = write!(sql, " ORDER BY {key} LIMIT {}", self.limit);
        dialect::statement(db, sql, self.after.clone().unwrap_or_default())
    }
}

/// Returns how many rows the next batch has, after one with this size.
fn next_limit(rows: usize, bytes: usize, columns: usize) -> usize {
    let of_size = (BATCH_BYTES * rows.max(1)).checked_div(bytes).unwrap_or(MAX_ROWS);
    // The next rows may be larger.
    of_size.min(rows * 8).clamp(1, MAX_ROWS.min(MAX_VALUES / columns.max(1)))
}

/// Returns the statement that inserts these rows.
pub fn insertion(db: &impl ConnectionTrait, table: &Table, rows: Vec<Vec<Value>>) -> Statement {
    let names: Vec<_> = table.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
    let row = format!("({})", places(names.len()));
    let all = vec![row.as_str(); rows.len()].join(",");
    let sql = format!("INSERT INTO \"{}\" ({}) VALUES {all}", table.name, names.join(", "));
    dialect::statement(db, sql, rows.into_iter().flatten())
}

fn places(number: usize) -> String {
    vec!["?"; number].join(", ")
}

pub(super) fn value(row: &QueryResult, index: usize, column: &Column) -> Result<Value, DbErr> {
    Ok(match column.kind {
        Type::Number => Value::BigInt(row.try_get_by_index(index)?),
        Type::Text => Value::String(row.try_get_by_index(index)?),
        Type::Bytes => Value::Bytes(row.try_get_by_index(index)?),
        Type::Truth => Value::Bool(row.try_get_by_index(index)?),
    })
}

/// Returns about how much memory a value takes.
fn size(value: &Value) -> usize {
    const ANY: usize = 8;
    ANY + match value {
        Value::String(Some(text)) => text.len(),
        Value::Bytes(Some(bytes)) => bytes.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_about_the_same_size_and_few_enough_values() {
        assert_eq!(next_limit(16, 16 * 100, 7), 128, "the next rows may be larger");
        assert_eq!(next_limit(2000, 2000 * 100, 7), 30_000 / 7);
        assert_eq!(next_limit(2000, 2000 * 100, 2), MAX_ROWS);
        assert_eq!(next_limit(100, 100 * 64 * 1024, 7), 16);
        assert_eq!(next_limit(1, 16 * 1024 * 1024, 7), 1);
        assert_eq!(next_limit(0, 0, 7), 1);
    }
}
