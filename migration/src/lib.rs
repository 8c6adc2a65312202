//! The database schema, as one migration per file. The service applies them in this order when it starts.
//!
//! A released migration is never edited; a later one corrects it. Each migration runs in one transaction with
//! its entry in the list of applied migrations, so a crash leaves the schema unchanged. There are no down
//! migrations: a binary refuses to open a database that contains migrations unknown to it.

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
mod m20261128_000024_create_log_clock;
mod m20261128_000030_record_heard;
mod m20261128_000031_create_seq_gaps;
mod m20261129_000032_create_replays;
mod m20261129_000033_create_deliveries_ahead;
mod m20261129_000034_create_heard_topics;
mod m20261129_000035_drop_autoincrement;
mod m20261129_000040_create_event_index;
mod m20261129_000041_add_reported_name;
mod m20261129_000042_create_history;
mod m20261129_000043_fold_accents;
mod m20261129_000044_count_events_later;
mod m20261130_000060_create_moved;

pub mod postgres;

pub use sea_orm_migration::{MigrationTrait, MigratorTrait, async_trait};

/// Migrates a database to this binary's schema.
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
            Box::new(m20261128_000024_create_log_clock::Migration),
            Box::new(m20261128_000030_record_heard::Migration),
            Box::new(m20261128_000031_create_seq_gaps::Migration),
            Box::new(m20261129_000032_create_replays::Migration),
            Box::new(m20261129_000033_create_deliveries_ahead::Migration),
            Box::new(m20261129_000034_create_heard_topics::Migration),
            Box::new(m20261129_000035_drop_autoincrement::Migration),
            Box::new(m20261129_000040_create_event_index::Migration),
            Box::new(m20261129_000041_add_reported_name::Migration),
            Box::new(m20261129_000042_create_history::Migration),
            Box::new(m20261129_000043_fold_accents::Migration),
            Box::new(m20261129_000044_count_events_later::Migration),
            Box::new(m20261130_000060_create_moved::Migration),
        ]
    }
}
