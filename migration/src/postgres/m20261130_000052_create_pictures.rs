//! Creates the table of the pictures. A picture without a position is staged: its event may not be committed yet.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(TABLE).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// A picture is not compressed again, and only `event_id` and `seq` are in the row itself.
const TABLE: &str = r#"
CREATE TABLE pictures (
    event_id text COLLATE "C" NOT NULL,
    seq bigint UNIQUE,
    version bigint NOT NULL,
    size bigint NOT NULL,
    image bytea NOT NULL
);
ALTER TABLE pictures ALTER image SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX pictures_staged ON pictures (event_id) WHERE seq IS NULL;
"#;
