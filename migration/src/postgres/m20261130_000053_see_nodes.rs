//! Adds to `node` when the node has beaten last, and to `owner` where its data directory is, so that the next run in
//! the same directory knows that the owner has ended.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(COLUMNS).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// A node of an earlier version, which may still run, adds its row without a time.
const COLUMNS: &str = "
ALTER TABLE liveobject.node ADD COLUMN seen_at timestamptz NOT NULL DEFAULT clock_timestamp();
ALTER TABLE owner ADD COLUMN place uuid";
