//! Creates `replays`: events that are sent again on request, and the progress.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Times are microseconds since 1970, UTC. Everything up to `position` was sent or left out; `last_seq` is
        // the position of the last event.
        let create = "CREATE TABLE replays (\
                id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, \
                state TEXT NOT NULL, \
                from_at BIGINT NOT NULL, \
                to_at BIGINT NOT NULL, \
                camera_id TEXT, \
                topic TEXT NOT NULL, \
                max_per_second INTEGER NOT NULL, \
                events BIGINT NOT NULL, \
                published BIGINT NOT NULL, \
                skipped BIGINT NOT NULL, \
                position BIGINT NOT NULL, \
                last_seq BIGINT NOT NULL, \
                reason TEXT, \
                created_at BIGINT NOT NULL, \
                ended_at BIGINT)";
        manager.get_connection().execute_unprepared(create).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
