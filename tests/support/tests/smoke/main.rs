//! Each part against the real thing, so that a system test can trust what it stands on.

mod client;
mod mosquitto;
mod proxy;
mod scripted;
mod subscriber;
mod visitor;
