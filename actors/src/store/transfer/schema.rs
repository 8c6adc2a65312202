//! The tables of a database, as the database itself describes them, so that no table and no column is forgotten.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult};

use super::super::dialect::{self, Type};

/// The tables that a move leaves as they are, of either engine.
const LEFT: [&str; 8] = [
    "seaql_migrations",
    "moved",
    // The nodes of a database on a server, and which of them is the owner.
    "node",
    "node_tokens",
    "owner",
    // Next to a SQLite database, they are files.
    "pictures",
    // The index for the search is built again in the background.
    "event_blocks",
    "event_index",
];

/// A column that is left, with its table: it belongs to one server.
const LEFT_COLUMN: (&str, &str) = ("log_clock", "server_clock");

/// The tables of what the nodes of a database on a server share. They are moved only to another server.
const SHARED: [&str; 2] = ["cluster", "ended_sessions"];

impl Table {
    /// Returns whether the table exists only in databases on a server.
    pub fn is_shared(&self) -> bool {
        SHARED.contains(&self.name.as_str())
    }
}

/// A table whose rows are moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// In the order of their names.
    pub columns: Vec<Column>,
    /// The indices of the columns of the primary key, in its order.
    pub key: Vec<usize>,
    /// Whether the database itself numbers the rows, in the column of the key.
    pub is_numbered: bool,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Type,
}

impl Table {
    fn new(name: String) -> Self {
        Self { name, columns: Vec::new(), key: Vec::new(), is_numbered: false }
    }
}

/// For each column: the table, the column, its type, its place in the primary key, and whether the database numbers
/// the rows.
const SQLITE: &str = "SELECT s.name, p.name, lower(p.type), NULLIF(p.pk, 0), s.sql LIKE '%AUTOINCREMENT%' AND p.pk > 0 \
    FROM sqlite_schema s JOIN pragma_table_info(s.name) p \
    WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite%' ORDER BY s.name, p.name";
const POSTGRES: &str = "SELECT CAST(c.relname AS text), CAST(a.attname AS text), format_type(a.atttypid, NULL), \
    CAST(array_position(CAST(i.indkey AS int2[]), a.attnum) AS bigint), a.attidentity <> '' \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
    WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (current_schemas(false)) \
    ORDER BY c.relname COLLATE \"C\", a.attname COLLATE \"C\"";

/// Returns the tables whose rows are moved, in the order of their names; none if there is no schema.
pub async fn tables(db: &impl ConnectionTrait) -> Result<Vec<Table>, DbErr> {
    let sql = if db.get_database_backend() == DbBackend::Postgres { POSTGRES } else { SQLITE };
    let rows = db.query_all_raw(dialect::statement(db, sql, [])).await?;
    let mut tables = BTreeMap::new();
    let mut places: BTreeMap<String, Vec<(i64, usize)>> = BTreeMap::new();
    for row in &rows {
        let (name, column): (String, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        if LEFT.contains(&name.as_str()) || (name.as_str(), column.as_str()) == LEFT_COLUMN {
            continue;
        }
        let table = tables.entry(name.clone()).or_insert_with(|| Table::new(name.clone()));
        if let Some(place) = row.try_get_by_index::<Option<i64>>(3)? {
            places.entry(name).or_default().push((place, table.columns.len()));
        }
        table.is_numbered |= row.try_get_by_index::<bool>(4)?;
        table.columns.push(to_column(row)?);
    }
    for (name, mut places) in places {
        places.sort_unstable();
        if let Some(table) = tables.get_mut(&name) {
            table.key = places.into_iter().map(|(_, index)| index).collect();
        }
    }
    let without_key = tables.values().find(|table| table.key.is_empty());
    if let Some(table) = without_key {
        return Err(DbErr::Type(format!("the table {} has no primary key", table.name)));
    }
    Ok(tables.into_values().collect())
}

fn to_column(row: &QueryResult) -> Result<Column, DbErr> {
    let (name, kind): (String, String) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
    let kind = match kind.as_str() {
        "integer" | "bigint" => Type::Number,
        "text" => Type::Text,
        "blob" | "bytea" => Type::Bytes,
        "boolean" => Type::Truth,
        other => return Err(DbErr::Type(format!("the column {name} has the unknown type {other}"))),
    };
    Ok(Column { name, kind })
}

/// Returns whether there is a table with this name.
pub async fn has_table(db: &impl ConnectionTrait, name: &str) -> Result<bool, DbErr> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => "SELECT to_regclass(?) IS NOT NULL",
        _ => "SELECT COUNT(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?",
    };
    let row = db.query_one_raw(dialect::statement(db, sql, [name.into()])).await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}
