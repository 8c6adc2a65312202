//! The schema for PostgreSQL. It has the tables and columns of the one for SQLite, whose migrations it does not repeat
//! one by one.
//!
//! The names without a schema belong to the event log: the connection's `search_path` begins with its schema, and
//! continues with [`SHARED`].

use sea_orm_migration::prelude::*;

mod m20261129_000001_create_log;
mod m20261129_000044_count_events_later;
mod m20261130_000050_create_owner;
mod m20261130_000051_create_cluster;
mod m20261130_000052_create_pictures;
mod m20261130_000053_see_nodes;
mod m20261130_000070_describe_nodes;

/// The schema of the tables that do not belong to an event log.
pub const SHARED: &str = "liveobject";

/// Migrates a PostgreSQL database to this binary's schema. Both schemas must exist.
#[derive(Debug)]
pub struct PostgresMigrator;

#[async_trait::async_trait]
impl MigratorTrait for PostgresMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261129_000001_create_log::Migration),
            // Its statement is the same on both engines.
            Box::new(crate::m20261129_000043_fold_accents::Migration),
            Box::new(m20261129_000044_count_events_later::Migration),
            Box::new(m20261130_000050_create_owner::Migration),
            Box::new(m20261130_000051_create_cluster::Migration),
            Box::new(m20261130_000052_create_pictures::Migration),
            Box::new(m20261130_000053_see_nodes::Migration),
            Box::new(crate::m20261130_000060_create_moved::Migration),
            Box::new(m20261130_000070_describe_nodes::Migration),
        ]
    }
}
