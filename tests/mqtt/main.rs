//! The real service against real brokers, a broker that follows a script, and a network that fails: what a subscriber
//! sees, and what status, metrics and logs tell of it.

mod arrival;
mod availability;
mod burst;
mod cameras;
mod churn;
mod discovery;
mod helpers;
mod late;
mod limits;
mod live;
mod login;
mod logs;
mod moves;
mod network;
mod pace;
mod poison;
mod refusals;
mod removal;
mod restart;
mod settings;
mod silence;
mod takeover;
mod trial;
mod unheard;
mod wire;
