//! The database schema: one change a file, applied in this order when the service starts.
//!
//! A change that has been released is never edited; the next one mends it. Each runs in a transaction together with its
//! mark in the list of applied changes, so that a kill in between leaves the schema as it was. There is no way back: a
//! database that holds changes which a binary doesn't know is refused by it.

use sea_orm_migration::prelude::*;

mod m20261123_000001_create_mqtt_config;
mod m20261123_000002_create_events;
mod m20261123_000003_create_deliveries;
mod m20261123_000004_create_dead_events;
mod m20261124_000005_create_cameras;
mod m20261124_000006_create_camera_days;
mod m20261124_000007_create_discovery_topics;
mod m20261124_000008_create_tokens;
mod m20261124_000009_add_recipients;
mod m20261124_000020_create_retries;
mod m20261124_000021_dismiss_dead_events;
mod m20261125_000022_find_dead_events;
mod m20261125_000023_find_retries;

pub use sea_orm_migration::MigratorTrait;

/// Brings a database up to this binary's schema.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_create_mqtt_config::Migration),
            Box::new(m20261123_000002_create_events::Migration),
            Box::new(m20261123_000003_create_deliveries::Migration),
            Box::new(m20261123_000004_create_dead_events::Migration),
            Box::new(m20261124_000005_create_cameras::Migration),
            Box::new(m20261124_000006_create_camera_days::Migration),
            Box::new(m20261124_000007_create_discovery_topics::Migration),
            Box::new(m20261124_000008_create_tokens::Migration),
            Box::new(m20261124_000009_add_recipients::Migration),
            Box::new(m20261124_000020_create_retries::Migration),
            Box::new(m20261124_000021_dismiss_dead_events::Migration),
            Box::new(m20261125_000022_find_dead_events::Migration),
            Box::new(m20261125_000023_find_retries::Migration),
        ]
    }
}
