//! Creates `retries`: the dead events to send again, and when each of them was delivered.

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
    /// When the retry was requested. Microseconds since 1970, UTC.
    AskedAt,
    /// When the broker acknowledged it. Microseconds since 1970, UTC; NULL while it is pending.
    AckedAt,
    /// Whether it was sent late.
    Late,
}
