//! Real parts for liveobject's system tests: a real broker, a network that fails on purpose, a broker that
//! follows a script, a subscriber that remembers, and the real service as a child process.
//!
//! Nothing in here is a mock of liveobject. Everything listens on a private loopback port and works in a directory
//! of its own, so tests may run side by side; everything ends when its value is dropped. What goes wrong panics with
//! a sentence that says what was awaited and what was seen instead. Every wait has a bound.
//!
//! | to have | use |
//! | --- | --- |
//! | a broker that can be stopped, killed, frozen and started again | [`Mosquitto`] |
//! | a broker that speaks MQTT 3.1.1 only | [`Nats`], [`RabbitMq`] |
//! | an authority, and certificates that are right or wrong | [`Authority`], [`Order`] |
//! | a network that is cut, stalls, refuses, swallows or delays | [`Proxy`] |
//! | a server that is no broker | [`Canned`] |
//! | a broker that breaks the protocol | [`Hostile`] |
//! | a broker that withholds, reorders or refuses acknowledgements | [`ScriptedBroker`] |
//! | what a Home Assistant would have seen | [`Subscriber`] |
//! | what a Home Assistant that starts now is told | [`visitor::retained`] |
//! | the `liveobject` binary and its REST API | [`Service`], [`Api`] |
//! | what a page is told as it happens | [`EventStream`] |
//! | what a person sees of the page | [`Browser`] |
//! | the proof that nothing was lost or out of order | [`Ledger`] |
//! | who brought something out of order, the publisher or its broker | [`Wire`] |

#![allow(clippy::doc_markdown, reason = "QoS, PUBLISH and their like are words of MQTT, not of Rust")]

mod canned;
mod child;
mod daemon;
mod ports;
mod wait;

pub mod api;
pub mod browser;
pub mod events;
pub mod hostile;
pub mod ledger;
pub mod memory;
pub mod mosquitto;
pub mod mqtt5;
pub mod nats;
pub mod pki;
pub mod proxy;
pub mod rabbitmq;
pub mod scripted;
pub mod service;
pub mod subscriber;
pub mod visitor;
pub mod wire;

pub use api::{Answer, Api};
pub use browser::Browser;
pub use canned::Canned;
pub use events::{EventStream, Sse};
pub use hostile::{Hostile, Misdeed, Then};
pub use ledger::{Disorder, Ledger};
pub use mosquitto::{Listener, Mosquitto, MosquittoBuilder};
pub use nats::Nats;
pub use pki::{Authority, Identity, Order};
pub use ports::free_port;
pub use proxy::{Passed, Piece, Proxy};
pub use rabbitmq::RabbitMq;
pub use scripted::{Acks, Refusal, Reply, Rule, ScriptedBroker};
pub use service::{Finished, Service, ServiceBuilder};
pub use subscriber::{Message, Subscriber, SubscriberBuilder};
pub use wait::wait_until;
pub use wire::{Overtaken, Wire};
