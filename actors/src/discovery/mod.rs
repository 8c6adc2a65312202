//! Home Assistant discovery.

mod messages;

pub use messages::*;
