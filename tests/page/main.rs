//! The web page in a real browser, with the real service and a real broker.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod access;
mod accessible;
mod cameras;
mod charts;
mod events;
mod fields;
mod finder;
mod helpers;
mod layout;
mod pictures;
mod restore;
mod setup;
