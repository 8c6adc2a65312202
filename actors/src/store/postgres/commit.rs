//! Commits in PostgreSQL: one statement writes everything, because each statement is a round trip to the server. Its
//! text is always the same, so that it remains prepared: the rows are in arrays, of any length.

use std::{fmt::Write as _, sync::LazyLock};

use sea_orm::{
    DbErr, Value,
    sqlx::{self, Arguments as _, AssertSqlSafe, postgres::PgArguments},
};

use super::held::{self, Held, Lease};

use crate::store::{
    camera_days, cameras,
    commit::Rows,
    deliveries, deliveries_ahead,
    dialect::{Existing, Insert, Type, to_postgres},
    events,
};

/// The statement. Its first parameter is the term: each insertion depends on the row `held`, whose lock lasts to the
/// end of the commit. It returns whether there was one. Without a term, any owner will do. Its last parameter is true
/// if the commit skips the sync.
static COMMIT: LazyLock<String> = LazyLock::new(|| {
    let mut first = 2;
    let held =
        "WITH held AS MATERIALIZED (SELECT 1 FROM owner WHERE $1 IS NULL OR term = $1::uuid FOR SHARE),";
    let mut parts = Parts { sql: held.to_owned(), first: &mut first };
    parts.add("new_events", &events::INSERT);
    parts.add("changed_cameras", &cameras::UPSERT);
    parts.add("passed", &deliveries::INSERT);
    parts.add("ahead", &deliveries_ahead::INSERT);
    parts.add("days", &camera_days::INCREMENT);
    let Parts { mut sql, first } = parts;
    sql.pop();
    // For this transaction, which is this statement. The setting takes effect at its end.
    let sync = format!("SELECT set_config('synchronous_commit', 'off', true) WHERE ${first}");
    let _never = write!(
        sql,
        ", no_sync AS MATERIALIZED ({sync}) \
         SELECT EXISTS (SELECT FROM held), COUNT(*) FROM no_sync"
    );
    sql
});

struct Parts<'a> {
    sql: String,
    first: &'a mut usize,
}

impl Parts<'_> {
    fn add<const COLUMNS: usize>(&mut self, name: &str, insert: &Insert<COLUMNS>) {
        let _never = write!(self.sql, " {name} AS ({}),", insert_arrays(insert, *self.first));
        *self.first += COLUMNS;
    }
}

/// Returns the text that inserts the rows in these arrays, which are the parameters from `first` on.
fn insert_arrays<const COLUMNS: usize>(insert: &Insert<COLUMNS>, first: usize) -> String {
    let names = insert.columns.map(|(name, _)| name).join(", ");
    let arrays: Vec<_> = (first..)
        .zip(insert.columns)
        .map(|(number, (_, kind))| {
            let kind = match kind {
                Type::Number => "bigint",
                Type::Text => "text",
                Type::Bytes => "bytea",
                Type::Truth => "boolean",
            };
            format!("${number}::{kind}[]")
        })
        .collect();
    let tail = match insert.existing {
        Existing::Stays => " ON CONFLICT DO NOTHING".into(),
        _ => to_postgres(&insert.tail()),
    };
    format!(
        "INSERT INTO {} ({names}) SELECT * FROM unnest({}) rows WHERE EXISTS (SELECT FROM held){tail}",
        insert.table,
        arrays.join(", ")
    )
}

fn add_arrays<const COLUMNS: usize>(
    arguments: &mut PgArguments,
    insert: &Insert<COLUMNS>,
    rows: impl ExactSizeIterator<Item = [Value; COLUMNS]>,
) -> Result<(), DbErr> {
    let mut columns: [Vec<Value>; COLUMNS] = std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    for ((name, kind), column) in insert.columns.into_iter().zip(columns) {
        let fault = || DbErr::Type(format!("{}.{name} contains a value of another type", insert.table));
        let column = column.into_iter();
        let added = match kind {
            Type::Number => arguments.add(collected(column, fault, |value| match value {
                Value::BigInt(value) => Some(value),
                _ => None,
            })?),
            Type::Text => arguments.add(collected(column, fault, |value| match value {
                Value::String(value) => Some(value),
                _ => None,
            })?),
            Type::Bytes => arguments.add(collected(column, fault, |value| match value {
                Value::Bytes(value) => Some(value),
                _ => None,
            })?),
            Type::Truth => arguments.add(collected(column, fault, |value| match value {
                Value::Bool(value) => Some(value),
                _ => None,
            })?),
        };
        added.map_err(|error| DbErr::Type(error.to_string()))?;
    }
    Ok(())
}

fn collected<T>(
    column: impl Iterator<Item = Value>,
    fault: impl Fn() -> DbErr,
    value: impl Fn(Value) -> Option<Option<T>>,
) -> Result<Vec<Option<T>>, DbErr> {
    column.map(|item| value(item).ok_or_else(&fault)).collect()
}

/// The writing connection, for one commit.
#[derive(Debug)]
pub struct Writer(Lease);

impl Writer {
    /// Waits for the connection.
    pub async fn acquire(held: &Held) -> Result<Self, DbErr> {
        held.lease().await.map(Self)
    }

    /// Writes all rows in one transaction.
    pub async fn commit(self, rows: &Rows<'_>, skips_sync: bool) -> Result<(), DbErr> {
        let mut arguments = PgArguments::default();
        let fault = |error: sqlx::error::BoxDynError| DbErr::Type(error.to_string());
        arguments.add(self.0.term().map(|term| term.0.to_string())).map_err(fault)?;
        add_arrays(&mut arguments, &events::INSERT, events::rows(rows.events, rows.ids))?;
        add_arrays(&mut arguments, &cameras::UPSERT, rows.writes.rows().map(|row| cameras::row(&row)))?;
        add_arrays(&mut arguments, &deliveries::INSERT, rows.ranges.iter().map(deliveries::row))?;
        add_arrays(&mut arguments, &deliveries_ahead::INSERT, rows.ahead.iter().map(deliveries_ahead::row))?;
        let increments = rows.writes.increments.iter().map(camera_days::row);
        add_arrays(&mut arguments, &camera_days::INCREMENT, increments)?;
        arguments.add(skips_sync).map_err(fault)?;
        let query = sqlx::query_with(AssertSqlSafe(COMMIT.as_str()), arguments);
        held::commit(self.0, query, skips_sync).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insertion_of_arrays_has_the_types_of_the_columns() {
        assert_eq!(
            insert_arrays(&deliveries_ahead::INSERT, 3),
            "INSERT INTO deliveries_ahead (first_seq, last_seq, acked_at, late, heard) \
             SELECT * FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::boolean[]) rows \
             WHERE EXISTS (SELECT FROM held) ON CONFLICT (first_seq) DO UPDATE SET last_seq = \
             GREATEST(deliveries_ahead.last_seq, excluded.last_seq)"
        );
    }
}
