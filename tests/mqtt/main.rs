//! The real service against real brokers, a scripted broker, and a failing network: what a subscriber
//! receives, and what status, metrics and logs report.

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
