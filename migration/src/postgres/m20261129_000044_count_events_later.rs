//! Adds to `cameras` up to which position the camera's row and its counts contain its events. The SQLite migration
//! explains the columns.

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

const COLUMNS: &str = "
    ALTER TABLE cameras ADD COLUMN counted_up_to bigint NOT NULL DEFAULT 0;
    ALTER TABLE cameras ADD COLUMN counted_zone text;
    UPDATE cameras SET counted_up_to = (SELECT COALESCE(MAX(seq), 0) FROM events)";
