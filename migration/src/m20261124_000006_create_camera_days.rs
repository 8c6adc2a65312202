//! Creates `camera_days`: the number of events per camera and day.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(CameraDays::Table)
            .col(ColumnDef::new(CameraDays::CameraId).text().not_null())
            .col(ColumnDef::new(CameraDays::Day).text().not_null())
            .col(ColumnDef::new(CameraDays::Count).big_integer().not_null())
            .primary_key(Index::create().col(CameraDays::CameraId).col(CameraDays::Day))
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum CameraDays {
    Table,
    CameraId,
    /// Such as `2026-11-24`, in the time zone of the cameras at the time of counting.
    Day,
    Count,
}
