mod messages;
pub use messages::*;
