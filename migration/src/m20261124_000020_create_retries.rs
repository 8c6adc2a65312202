//! `retries`: dead events that are to be sent again, and when that was done.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Retries::Table)
            .col(ColumnDef::new(Retries::Seq).integer().not_null().primary_key())
            .col(ColumnDef::new(Retries::AskedAt).big_integer().not_null())
            .col(ColumnDef::new(Retries::AckedAt).big_integer().null())
            .col(ColumnDef::new(Retries::Late).boolean().not_null().default(false))
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum Retries {
    Table,
    Seq,
    /// When it was asked for, in µs since 1970.
    AskedAt,
    /// When the broker acknowledged it, in µs since 1970; NULL: it waits.
    AckedAt,
    /// Whether it went out late.
    Late,
}
