//! Adds `mqtt_config.recipients`: the additional recipients of the row's ciphertexts. They cannot be read
//! from the ciphertexts themselves.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = ColumnDef::new(MqttConfig::Recipients).text().not_null().default("").take();
        manager.alter_table(Table::alter().table(MqttConfig::Table).add_column(column).take()).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum MqttConfig {
    Table,
    /// age public keys, sorted and comma-separated, without that of the identity.
    Recipients,
}
