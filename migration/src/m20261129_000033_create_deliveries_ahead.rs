//! Creates `deliveries_ahead`: ranges of events that were delivered before the cursor reached them.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Both ends are part of the range. The other columns are those of `deliveries`.
        let create = "CREATE TABLE deliveries_ahead (\
            first_seq INTEGER NOT NULL PRIMARY KEY, \
            last_seq INTEGER NOT NULL, \
            acked_at INTEGER NOT NULL, \
            late BOOLEAN NOT NULL, \
            heard BOOLEAN)";
        manager.get_connection().execute_unprepared(create).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
