//! The web page in a real browser, in front of the real service and a real broker.

mod access;
mod events;
mod helpers;
mod layout;
mod setup;
