//! The real service against real brokers, a broker that follows a script, and a network that fails: what a subscriber
//! sees, and what status, metrics and logs tell of it.

mod arrival;
mod availability;
mod burst;
mod cameras;
mod churn;
mod discovery;
mod helpers;
mod hostile;
mod late;
mod limits;
mod live;
mod login;
mod logs;
mod moves;
mod nats;
mod network;
mod old;
mod overtake;
mod pace;
mod poison;
mod rabbitmq;
mod refusals;
mod removal;
mod restart;
mod settings;
mod silence;
mod takeover;
mod today;
mod transport;
mod trial;
mod unheard;
mod versions;
mod wire;
mod wrong;
