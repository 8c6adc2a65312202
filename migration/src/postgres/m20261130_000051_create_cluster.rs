//! Creates the tables of what several nodes share: the keys as age ciphertext, the sessions of the page that were
//! ended, and the hash of each node's admin token.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(TABLES).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const TABLES: &str = r#"
CREATE TABLE liveobject.cluster (
    id integer PRIMARY KEY CHECK (id = 1),
    link_key bytea,
    session_key bytea
);
CREATE TABLE liveobject.ended_sessions (id text COLLATE "C" PRIMARY KEY, expires bigint NOT NULL);
CREATE TABLE liveobject.node_tokens (
    node uuid PRIMARY KEY,
    hash bytea NOT NULL,
    seen_at timestamptz NOT NULL
);
"#;
