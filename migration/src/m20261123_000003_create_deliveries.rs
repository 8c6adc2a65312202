//! Creates `deliveries`: the progress of acknowledged events, one row per checkpoint.

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
    /// Every event up to this one is delivered, unless it is dead.
    UpToSeq,
    /// Microseconds since 1970, UTC.
    AckedAt,
    /// Whether these events were sent late.
    Late,
}
