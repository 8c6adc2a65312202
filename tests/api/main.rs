//! The API over real HTTP, with stand-ins for the actors, whose responses each test scripts.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod access;
mod attacks;
mod cameras;
mod errors;
mod events;
mod headers;
mod helpers;
mod ingress;
mod log;
mod mqtt;
mod operation;
mod page;
mod replays;
mod retries;
mod session;
mod stream;
mod thumbnails;
mod tokens;
