//! Creates `dead_events`: the events that could not be delivered, and why.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(DeadEvents::Table)
            .col(ColumnDef::new(DeadEvents::Seq).integer().not_null().primary_key())
            .col(ColumnDef::new(DeadEvents::Reason).text().not_null())
            .col(ColumnDef::new(DeadEvents::At).big_integer().not_null())
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum DeadEvents {
    Table,
    Seq,
    Reason,
    /// Microseconds since 1970, UTC.
    At,
}
