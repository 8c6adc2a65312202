//! Creates `log_clock`, and adds the log time to everything whose age matters. In rows that were written before this
//! migration, it is NULL: their wall-clock time counts.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for statement in [
            // One row. `uptime_offset`: log time minus uptime in this boot. `boot_began`: the log time of its
            // first start. `last_log`, `last_wall`: both clocks when they were last compared.
            "CREATE TABLE log_clock (id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), boot_id TEXT NOT NULL, \
               uptime_offset INTEGER NOT NULL, boot_began INTEGER NOT NULL, \
               last_log INTEGER NOT NULL, last_wall INTEGER NOT NULL)",
            "ALTER TABLE events ADD COLUMN log_time INTEGER",
            "ALTER TABLE deliveries ADD COLUMN log_time INTEGER",
            "ALTER TABLE dead_events ADD COLUMN log_time INTEGER",
            "ALTER TABLE retries ADD COLUMN asked_log_time INTEGER",
            "ALTER TABLE retries ADD COLUMN acked_log_time INTEGER",
            // When the events happened.
            "ALTER TABLE cameras ADD COLUMN last_log_time INTEGER",
            "ALTER TABLE cameras ADD COLUMN thumbnail_log_time INTEGER",
        ] {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
