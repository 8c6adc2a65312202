//! The domain: types that are valid by construction. No actix, no I/O, no SQL.

pub mod calendar;
pub mod camera;
pub mod camera_update;
pub mod certificate;
pub mod clock;
pub mod delivery;
pub mod event;
pub mod event_log;
pub mod fields;
pub mod hex;
pub mod ids;
pub mod image;
pub mod link_key;
pub mod links;
pub mod mqtt_version;
#[cfg(test)]
mod parsers_tests;
pub mod probe_report;
pub mod retained;
pub mod settings;
pub mod status;
pub mod suspects;
pub mod token;
pub mod topic;
