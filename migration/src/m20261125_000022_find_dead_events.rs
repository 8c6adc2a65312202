//! Adds `dead_events.camera_id`, and indexes that find the listed dead events, of one camera or of all,
//! without scanning the event log.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter()
            .table(DeadEvents::Table)
            .add_column(ColumnDef::new(DeadEvents::CameraId).text().null())
            .take();
        manager.alter_table(table).await?;
        let db = manager.get_connection();
        for statement in [
            "UPDATE dead_events SET camera_id = \
               (SELECT camera_id FROM events WHERE events.seq = dead_events.seq)",
            "CREATE INDEX dead_events_listed ON dead_events (seq) WHERE dismissed_at IS NULL",
            "CREATE INDEX dead_events_listed_of_camera ON dead_events (camera_id, seq) \
               WHERE dismissed_at IS NULL",
            "CREATE INDEX dead_events_at ON dead_events (at)",
        ] {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum DeadEvents {
    Table,
    /// The camera of the event, as in `events`; NULL if the event was deleted. Such a row is deleted soon.
    CameraId,
}
