//! Adds to `cameras` up to which position of the event log the camera's row and its counts contain its events. Later
//! events of the camera are added when the row is read.

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

/// Until now, the rows and the counts contained all events. `counted_zone` is the time zone in which the later events
/// are counted; null if there are none.
const COLUMNS: &str = "
    ALTER TABLE cameras ADD COLUMN counted_up_to INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE cameras ADD COLUMN counted_zone TEXT;
    UPDATE cameras SET counted_up_to = (SELECT COALESCE(MAX(seq), 0) FROM events)";
