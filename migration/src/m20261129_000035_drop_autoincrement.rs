//! Removes AUTOINCREMENT from `events.seq`: with it, each commit of an event also writes the page of `sqlite_sequence`.
//!
//! No number is reused nevertheless: the service assigns the numbers itself, above those in `events`, `deliveries` and
//! `seq_gaps`. Only events up to the last number in `deliveries` are ever removed, and that row is kept.

use sea_orm_migration::{prelude::*, sea_orm::Statement};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The rows stay as they are, so this takes no time, however many events there are. SQLite's documentation of
        // ALTER TABLE describes this procedure for changes that do not affect the content.
        let db = manager.get_connection();
        for statement in [
            "PRAGMA writable_schema=ON",
            "UPDATE sqlite_schema SET sql = replace(sql, ' AUTOINCREMENT', '') \
               WHERE type = 'table' AND name = 'events'",
            // Reads the schema again, on this connection; the change of its version has the same effect on others.
            "PRAGMA writable_schema=RESET",
        ] {
            db.execute_unprepared(statement).await?;
        }
        let version = "SELECT schema_version FROM pragma_schema_version";
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), version)).await?;
        let version: i64 = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(0);
        db.execute_unprepared(&format!("PRAGMA schema_version={}", version + 1)).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
