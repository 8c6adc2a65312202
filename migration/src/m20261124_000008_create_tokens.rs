//! Creates `tokens`: the API tokens in addition to the administrator's.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Tokens::Table)
            .col(ColumnDef::new(Tokens::Name).text().not_null().primary_key())
            .col(ColumnDef::new(Tokens::Hash).blob().not_null().unique_key())
            .col(ColumnDef::new(Tokens::Scopes).text().not_null())
            .col(ColumnDef::new(Tokens::CreatedAt).big_integer().not_null())
            .col(ColumnDef::new(Tokens::LastUsedAt).big_integer())
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum Tokens {
    Table,
    Name,
    /// SHA-256 of the token. The token itself is not stored.
    Hash,
    /// Comma-separated.
    Scopes,
    /// Microseconds since 1970, UTC.
    CreatedAt,
    LastUsedAt,
}
