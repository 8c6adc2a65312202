//! The web page in a real browser, with the real service and a real broker.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod access;
mod accessible;
mod address;
mod cameras;
mod charts;
mod events;
mod failed;
mod fields;
mod find;
mod finder;
mod firefox;
mod first_event;
mod helpers;
mod honest;
mod keys;
mod language;
mod layout;
mod load;
mod log;
mod phone;
mod picture_window;
mod pictures;
mod restore;
mod revised;
mod service;
mod setup;
mod tabs;
mod warnings;
