//! The pictures of events.

mod messages;

pub use messages::*;
