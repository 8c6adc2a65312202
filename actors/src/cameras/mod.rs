//! The cameras.

mod messages;

pub use messages::*;
