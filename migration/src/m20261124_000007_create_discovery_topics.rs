//! Creates `discovery_topics`: the topics, per broker, on which a message from the service may be retained.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(DiscoveryTopics::Table)
            .col(ColumnDef::new(DiscoveryTopics::Broker).text().not_null())
            .col(ColumnDef::new(DiscoveryTopics::Topic).text().not_null())
            .col(ColumnDef::new(DiscoveryTopics::Kind).text().not_null())
            .primary_key(Index::create().col(DiscoveryTopics::Broker).col(DiscoveryTopics::Topic))
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum DiscoveryTopics {
    Table,
    /// `host:port`.
    Broker,
    Topic,
    /// `discovery` or `state`.
    Kind,
}
