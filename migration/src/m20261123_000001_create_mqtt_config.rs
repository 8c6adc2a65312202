//! `mqtt_config`: one row, the MQTT settings and, encrypted, their secrets.

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
    /// Made once per installation.
    ClientId,
    /// JSON, without secrets; NULL: none stored yet.
    Settings,
    /// age ciphertext; NULL: none.
    Password,
    /// age ciphertext; NULL: none.
    ClientKey,
    /// In µs since 1970; NULL: never.
    UpdatedAt,
}
