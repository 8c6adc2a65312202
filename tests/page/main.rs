//! The web page in a real browser, in front of the real service and a real broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod accessible;
mod cameras;
mod charts;
mod events;
mod fields;
mod helpers;
mod layout;
mod pictures;
mod setup;
