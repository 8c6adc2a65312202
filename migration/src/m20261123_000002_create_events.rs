//! Creates `events`: the event log, in the order of acceptance.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Events::Table)
            .col(ColumnDef::new(Events::Seq).integer().not_null().primary_key().auto_increment())
            .col(ColumnDef::new(Events::EventId).text().not_null().unique_key())
            .col(ColumnDef::new(Events::CameraId).text().not_null())
            .col(ColumnDef::new(Events::OccurredAt).big_integer().not_null())
            .col(ColumnDef::new(Events::ReceivedAt).big_integer().not_null())
            .col(ColumnDef::new(Events::Payload).blob().not_null())
            .take();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("events_camera_id_seq")
            .table(Events::Table)
            .col(Events::CameraId)
            .col(Events::Seq)
            .take();
        manager.create_index(index).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum Events {
    Table,
    /// The position in the log. AUTOINCREMENT ensures that no number is reused after its event is deleted.
    Seq,
    EventId,
    CameraId,
    /// Microseconds since 1970, UTC.
    OccurredAt,
    /// Microseconds since 1970, UTC.
    ReceivedAt,
    /// The payload as it will be published.
    Payload,
}
