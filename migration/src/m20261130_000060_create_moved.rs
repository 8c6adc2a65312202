//! Creates `moved`: one row if the log must not be used here, because it was moved to another database, or because a
//! move to this one has not been completed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `state` is `moved` or `incomplete`, `other` is the name of the other database, and `at` is when the move
        // began, in microseconds since 1970, UTC: the same number in both databases.
        let create = "CREATE TABLE moved (\
            id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1), \
            state TEXT NOT NULL, \
            other TEXT NOT NULL, \
            at BIGINT NOT NULL)";
        manager.get_connection().execute_unprepared(create).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
