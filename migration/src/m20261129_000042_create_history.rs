//! Creates `outages`, the periods without a connection to the broker, and `history`, the figures of the charts.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Times are microseconds since 1970, UTC; those in `…_log` are log times. An outage that has not ended has no
        // `ended_at`. When it began, every event up to `cursor` was settled, `before_seq` was the last one in the log,
        // and `pending` of them waited. `last_seq` was the last one when it ended.
        let outages = "CREATE TABLE outages (\
                id INTEGER NOT NULL PRIMARY KEY, \
                kind TEXT NOT NULL, \
                reason TEXT, \
                began_at INTEGER NOT NULL, \
                began_log INTEGER NOT NULL, \
                ended_at INTEGER, \
                ended_log INTEGER, \
                cursor INTEGER NOT NULL, \
                before_seq INTEGER NOT NULL, \
                last_seq INTEGER NOT NULL, \
                pending INTEGER NOT NULL, \
                missing BOOLEAN NOT NULL, \
                charts_until INTEGER)";
        // `at` is when the period of `span` minutes begins, in minutes since 1970. `delivery_times` has the number of
        // deliveries in each bucket of the histogram.
        let history = "CREATE TABLE history (\
                at INTEGER NOT NULL, \
                span INTEGER NOT NULL, \
                log_time INTEGER NOT NULL, \
                accepted INTEGER NOT NULL, \
                late INTEGER NOT NULL, \
                dead INTEGER NOT NULL, \
                pending INTEGER NOT NULL, \
                delivery_times BLOB NOT NULL, \
                PRIMARY KEY (span, at)) WITHOUT ROWID";
        manager.get_connection().execute_unprepared(outages).await?;
        manager.get_connection().execute_unprepared(history).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
