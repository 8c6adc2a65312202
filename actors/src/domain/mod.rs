//! The domain: types that are valid by construction. They do no I/O and know neither actix nor SQL.

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
pub mod history;
pub mod home_assistant;
pub mod ids;
pub mod image;
pub mod lease;
pub mod link_key;
pub mod links;
pub mod mqtt_version;
pub mod node;
pub mod node_key;
pub mod numbers;
pub mod outage;
#[cfg(test)]
mod parsers_tests;
pub mod pem;
pub mod poison;
pub mod probe_report;
pub mod replay;
pub mod retained;
pub mod search;
pub mod session_key;
pub mod settings;
pub mod status;
pub mod store_fault;
pub mod token;
pub mod topic;
pub mod topic_use;
