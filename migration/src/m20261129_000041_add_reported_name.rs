//! Adds to `cameras` the camera's own name, while a person has given it another one.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Null: `camera_name` is the camera's own name, as it was for all cameras before this column existed.
        let add = "ALTER TABLE cameras ADD COLUMN reported_name TEXT";
        manager.get_connection().execute_unprepared(add).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
