//! Creates `heard_topics`: the topics that had a subscriber, per broker, and when they last had one. The discovery
//! prefix stands for Home Assistant.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `heard_at` is in log time, in microseconds; `broker` is `host:port`.
        let create = "CREATE TABLE heard_topics (broker TEXT NOT NULL, topic TEXT NOT NULL, heard_at INTEGER NOT NULL, \
                      PRIMARY KEY (broker, topic)) WITHOUT ROWID";
        manager.get_connection().execute_unprepared(create).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
