//! The process around the actors: command line, configuration, HTTP API and demo.

pub mod addresses;
pub mod app;
pub mod backup;
pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod finder;
pub mod health;
pub mod history;
pub mod home_assistant;
pub mod http;
mod http_1_0;
pub mod lasting;
pub mod manual;
pub mod mounts;
pub mod moving;
pub mod output;
pub mod owner;
pub mod reload;
pub mod replay;
pub mod running;
pub mod service_manager;
pub mod sessions;
pub mod setup;
pub mod sign_in;
pub mod telemetry;
pub mod terminal;
pub mod token;
mod wiped;
