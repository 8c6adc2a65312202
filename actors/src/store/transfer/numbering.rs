//! The numbers that a database itself gives to rows. A number is not given again after its row was removed, so the last
//! one is moved, too.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};

use super::{super::dialect, schema::Table};

/// Copies the last numbers.
pub async fn copy(
    from: &impl ConnectionTrait,
    to: &impl ConnectionTrait,
    tables: &[Table],
) -> Result<(), DbErr> {
    for table in tables.iter().filter(|table| table.is_numbered) {
        if let Some(last) = last(from, table).await?.filter(|last| *last > 0) {
            set(to, table, last).await?;
        }
    }
    Ok(())
}

fn sequence(table: &Table) -> String {
    format!("pg_get_serial_sequence('{}', '{}')", table.name, table.columns[table.key[0]].name)
}

async fn last(db: &impl ConnectionTrait, table: &Table) -> Result<Option<i64>, DbErr> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => {
            // Null if no number was given yet.
            format!("SELECT pg_sequence_last_value(CAST({} AS regclass))", sequence(table))
        }
        _ => format!("SELECT seq FROM sqlite_sequence WHERE name = '{}'", table.name),
    };
    let row = db.query_one_raw(dialect::statement(db, sql, [])).await?;
    row.map_or(Ok(None), |row| row.try_get_by_index(0))
}

async fn set(db: &impl ConnectionTrait, table: &Table, last: i64) -> Result<(), DbErr> {
    let name = &table.name;
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = format!("SELECT setval({}, {last})", sequence(table));
        return db.query_one_raw(dialect::statement(db, sql, [])).await.map(drop);
    }
    // SQLite has a row for the table if a row was ever inserted.
    db.execute_unprepared(&format!("DELETE FROM sqlite_sequence WHERE name = '{name}'")).await?;
    let sql = format!("INSERT INTO sqlite_sequence (name, seq) VALUES ('{name}', {last})");
    db.execute_unprepared(&sql).await.map(drop)
}
