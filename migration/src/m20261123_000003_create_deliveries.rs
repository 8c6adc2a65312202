//! `deliveries`: how far the broker has acknowledged, one row a checkpoint.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Deliveries::Table)
            .col(ColumnDef::new(Deliveries::UpToSeq).integer().not_null().primary_key())
            .col(ColumnDef::new(Deliveries::AckedAt).big_integer().not_null())
            .col(ColumnDef::new(Deliveries::Late).boolean().not_null().default(false))
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum Deliveries {
    Table,
    /// Every event up to here is delivered, unless it is dead.
    UpToSeq,
    /// In µs since 1970.
    AckedAt,
    /// Whether these events went out late.
    Late,
}
