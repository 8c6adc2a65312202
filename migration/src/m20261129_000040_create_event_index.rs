//! Creates `event_blocks` and `event_index`: the index for the search in events.
//!
//! A block is 2,048 positions of the event log. It has a row in `event_blocks` if it is in the index. The index
//! contains nothing that is not in `events`. To build it again, delete all rows of `event_blocks`.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Times are microseconds since 1970, UTC: the earliest and the latest `occurred_at` of the block.
        let blocks = "CREATE TABLE event_blocks (\
                block INTEGER NOT NULL PRIMARY KEY, \
                events INTEGER NOT NULL, \
                min_at BIGINT NOT NULL, \
                max_at BIGINT NOT NULL)";
        // A term is a word, or `=` and an object, or `@` and a camera; the empty one is for the times. The rows of a
        // block are next to each other, so that adding a block writes few pages.
        let index = "CREATE TABLE event_index (\
                block INTEGER NOT NULL, \
                term TEXT NOT NULL, \
                positions BLOB NOT NULL, \
                PRIMARY KEY (block, term)) WITHOUT ROWID";
        let db = manager.get_connection();
        db.execute_unprepared(blocks).await?;
        db.execute_unprepared(index).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
