//! Creates `node`, with a row for each node that has ever used the database, and `owner`, whose only row names the node
//! that writes to the log. Its term changes with each owner, and every write depends on it.
//!
//! Adds to `log_clock` the server's clock at `last_log`, which all nodes have in common.

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

const TABLES: &str = "
CREATE TABLE liveobject.node (
    id uuid PRIMARY KEY,
    boot uuid NOT NULL,
    name text NOT NULL,
    url text NOT NULL,
    version text NOT NULL,
    able boolean NOT NULL,
    beat bigint NOT NULL,
    started_at timestamptz NOT NULL
);
CREATE TABLE owner (
    id integer PRIMARY KEY CHECK (id = 1),
    node uuid,
    term uuid NOT NULL,
    terms bigint NOT NULL,
    since timestamptz
);
INSERT INTO owner (id, term, terms) VALUES (1, gen_random_uuid(), 0);
ALTER TABLE log_clock ADD COLUMN server_clock bigint";
