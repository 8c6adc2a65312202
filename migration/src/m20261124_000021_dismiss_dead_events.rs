//! `dead_events.dismissed_at`: somebody has seen it, and it is not to be listed any more.

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
    /// In µs since 1970; NULL: nobody has.
    DismissedAt,
}
