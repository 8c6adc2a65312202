//! Adds the column `heard`: whether events had a subscriber when the broker acknowledged them.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_heard(manager, Deliveries::Table).await?;
        add_heard(manager, Retries::Table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Adds the column. It is NULL for events that were delivered before this migration.
async fn add_heard(manager: &SchemaManager<'_>, table: impl IntoTableRef) -> Result<(), DbErr> {
    let column = ColumnDef::new(Alias::new("heard")).boolean().null().take();
    manager.alter_table(Table::alter().table(table).add_column(column).take()).await
}

#[derive(DeriveIden)]
enum Deliveries {
    Table,
}

#[derive(DeriveIden)]
enum Retries {
    Table,
}
