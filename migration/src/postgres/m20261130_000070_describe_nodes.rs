//! Adds to `node` whether the node can decrypt the keys that the nodes share, and by how many seconds its clock is
//! ahead of that of the server, or 0.

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
ALTER TABLE liveobject.node
    ADD COLUMN reads_keys boolean NOT NULL DEFAULT true,
    ADD COLUMN clock_ahead integer NOT NULL DEFAULT 0";
