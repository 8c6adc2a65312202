//! Test infrastructure for liveobject's system tests: real brokers, a network that fails on purpose, a
//! scripted broker, a recording subscriber, and the real service as a child process.
//!
//! Nothing in this crate mocks liveobject. Every server listens on a private loopback port and works in its
//! own directory, so that tests can run in parallel. Servers and processes stop when their handles are
//! dropped. Every wait has a timeout. A wait that times out panics with a message that states what was
//! expected and what was seen instead.
//!
//! | for | use |
//! | --- | --- |
//! | a broker that can be stopped, killed, frozen and started again | [`Mosquitto`] |
//! | a broker that speaks MQTT 3.1.1 only | [`Nats`], [`RabbitMq`] |
//! | a certificate authority, and valid or faulty certificates | [`Authority`], [`CertificateSpec`] |
//! | a network that cuts, stalls, refuses, swallows or delays connections | [`Proxy`] |
//! | requests of a page that wait until the test lets them pass | [`RequestGate`] |
//! | a wall clock that jumps | [`FakeClock`] |
//! | the Supervisor of Home Assistant, which provides a broker | [`Supervisor`] |
//! | a server that is not a broker | [`CannedServer`] |
//! | a broker that breaks the protocol | [`HostileBroker`] |
//! | a broker that withholds, reorders or refuses acknowledgements | [`ScriptedBroker`] |
//! | what a running Home Assistant instance would have received | [`Subscriber`] |
//! | the retained messages that Home Assistant receives at startup | [`visitor::retained`] |
//! | the `liveobject` binary and its REST API | [`Service`], [`Api`] |
//! | the live event stream that a page reads | [`EventStream`] |
//! | what a user sees on the page | [`Browser`], [`Firefox`] |
//! | a PostgreSQL server | [`Postgres`] |
//! | proof that nothing was lost or reordered | [`Ledger`] |
//! | proof of whether the publisher or its broker reordered events | [`Wire`] |

#![allow(clippy::doc_markdown, reason = "QoS, PUBLISH and the like are MQTT terms, not Rust names")]

mod canned;
mod child;
mod daemon;
mod ports;
mod wait;

pub mod api;
pub mod browser;
pub mod events;
pub mod fake_clock;
pub mod fault_log;
pub mod firefox;
pub mod home_assistant;
pub mod hostile;
pub mod ledger;
pub mod memory;
pub mod mosquitto;
pub mod mqtt5;
pub mod nats;
pub mod pictures;
pub mod pki;
pub mod postgres;
pub mod proxy;
pub mod rabbitmq;
pub mod request_gate;
pub mod reverse_proxy;
pub mod scripted;
pub mod service;
pub mod subscriber;
pub mod visitor;
pub mod wire;

pub use api::{Answer, Api};
pub use browser::Browser;
pub use canned::CannedServer;
pub use events::{EventStream, Sse};
pub use fake_clock::FakeClock;
pub use fault_log::FaultLog;
pub use firefox::Firefox;
pub use home_assistant::{SUPERVISOR_TOKEN, Supervisor, SupervisorReply};
pub use hostile::{Attack, HostileBroker, Then};
pub use ledger::{Disorder, Ledger};
pub use mosquitto::{Listener, Mosquitto, MosquittoBuilder};
pub use nats::Nats;
pub use pictures::{JPEG, with_form};
pub use pki::{Authority, CertificateSpec, Identity};
pub use ports::free_port;
pub use postgres::{Postgres, PostgresOptions, served_database};
pub use proxy::{PacketKind, ProxiedConnection, Proxy, TappedPacket};
pub use rabbitmq::RabbitMq;
pub use request_gate::RequestGate;
pub use reverse_proxy::ReverseProxy;
pub use scripted::{Acks, Refusal, Reply, Rule, ScriptedBroker};
pub use service::{Finished, Service, ServiceBuilder};
pub use subscriber::{Message, Subscriber, SubscriberBuilder};
pub use wait::{happens, wait_until};
pub use wire::{Overtaken, Wire};
