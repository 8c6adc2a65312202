//! Adds `dead_events.dismissed_at`: dismissed events are no longer listed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter()
            .table(DeadEvents::Table)
            .add_column(ColumnDef::new(DeadEvents::DismissedAt).big_integer().null())
            .take();
        manager.alter_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum DeadEvents {
    Table,
    /// Microseconds since 1970, UTC; NULL if not dismissed.
    DismissedAt,
}
