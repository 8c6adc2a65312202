//! Creates `cameras`: the metadata and latest state of each camera.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Cameras::Table)
            .col(ColumnDef::new(Cameras::CameraId).text().not_null().primary_key())
            .col(ColumnDef::new(Cameras::CameraName).text().not_null())
            .col(ColumnDef::new(Cameras::SourceType).text().not_null())
            .col(ColumnDef::new(Cameras::IsDoorbell).boolean().not_null())
            .col(ColumnDef::new(Cameras::Enabled).boolean().not_null())
            .col(ColumnDef::new(Cameras::Status).text().not_null())
            .col(ColumnDef::new(Cameras::StatusAt).big_integer().not_null())
            .col(ColumnDef::new(Cameras::LastSeq).big_integer())
            .col(ColumnDef::new(Cameras::LastEventId).text())
            .col(ColumnDef::new(Cameras::LastTimestamp).big_integer())
            .col(ColumnDef::new(Cameras::LastHappenedAt).big_integer())
            .col(ColumnDef::new(Cameras::LastDescription).text())
            .col(ColumnDef::new(Cameras::LastDetectionType).text())
            .col(ColumnDef::new(Cameras::EventTypes).text().not_null())
            .col(ColumnDef::new(Cameras::ThumbnailSeq).big_integer())
            .col(ColumnDef::new(Cameras::ThumbnailHappenedAt).big_integer())
            .col(ColumnDef::new(Cameras::ThumbnailFormat).text())
            .col(ColumnDef::new(Cameras::Revision).big_integer().not_null())
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum Cameras {
    Table,
    CameraId,
    CameraName,
    SourceType,
    IsDoorbell,
    Enabled,
    /// `online`, `offline` or `unavailable`.
    Status,
    /// Microseconds since 1970, UTC.
    StatusAt,
    LastSeq,
    LastEventId,
    /// Microseconds since 1970, UTC.
    LastTimestamp,
    /// Microseconds since 1970, UTC.
    LastHappenedAt,
    LastDescription,
    LastDetectionType,
    /// A JSON array of strings.
    EventTypes,
    ThumbnailSeq,
    /// Microseconds since 1970, UTC.
    ThumbnailHappenedAt,
    /// The media type of the thumbnail.
    ThumbnailFormat,
    /// Increases with every change.
    Revision,
}
