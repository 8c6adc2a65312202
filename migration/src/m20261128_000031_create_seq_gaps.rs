//! Creates `seq_gaps`: ranges of positions that were given to events that are not in this database, because it was
//! replaced by an older or empty one.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Both ends are part of the gap.
        let create =
            "CREATE TABLE seq_gaps (first_seq INTEGER NOT NULL PRIMARY KEY, last_seq INTEGER NOT NULL)";
        manager.get_connection().execute_unprepared(create).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
