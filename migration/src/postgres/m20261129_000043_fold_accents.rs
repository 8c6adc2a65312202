//! Empties the index for the search in events, which now contains words without accents. The service builds it again in
//! the background; until then, the search reads the log.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The rows of a block in `event_index` are removed when it is added again, or with its events.
        manager.get_connection().execute_unprepared("DELETE FROM event_blocks").await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
