//! Creates `mqtt_config`: a single row with the MQTT settings and their encrypted secrets.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(MqttConfig::Table)
            .col(ColumnDef::new(MqttConfig::Id).integer().not_null().primary_key())
            .col(ColumnDef::new(MqttConfig::ClientId).text().not_null())
            .col(ColumnDef::new(MqttConfig::Settings).text())
            .col(ColumnDef::new(MqttConfig::Password).blob())
            .col(ColumnDef::new(MqttConfig::ClientKey).blob())
            .col(ColumnDef::new(MqttConfig::UpdatedAt).big_integer())
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[derive(DeriveIden)]
enum MqttConfig {
    Table,
    /// Always 1.
    Id,
    /// Generated once per installation.
    ClientId,
    /// JSON without the secrets; NULL if nothing is stored yet.
    Settings,
    /// age ciphertext; NULL if there is none.
    Password,
    /// age ciphertext; NULL if there is none.
    ClientKey,
    /// Microseconds since 1970, UTC; NULL if never updated.
    UpdatedAt,
}
