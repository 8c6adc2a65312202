//! The real service against real brokers, a scripted broker, and a failing network: what a subscriber
//! receives, and what status, metrics and logs report.

mod arrival;
mod availability;
mod burst;
mod cameras;
mod churn;
mod clock;
mod connection_test;
mod discovery;
mod helpers;
mod hostile;
mod late;
mod limits;
mod live;
mod login;
mod logs;
mod misconfiguration;
mod moves;
mod mqtt_3_1_1;
mod nats;
mod network;
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
mod unheard;
mod versions;
mod wire;
