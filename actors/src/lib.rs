//! The actors of liveobject.
//!
//! ```text
//!  classifier actors ──PublishEvent──┐
//!  HTTP layer ──PublishEvent, PublishBatch, ListEvents …──┐      HTTP layer ──GetSettings, ReplaceSettings …──┐
//!                                    ▼                    ▼                                                  ▼
//!                                  OutboxActor ◀───────────────SettingsChanged──────────────────────── ConfigActor
//!                                   │   ▲                                                                    │
//!                             Deliver   Answered, LinkUp, LinkDown                                SettingsChanged
//!                                   ▼   │                                                                    ▼
//!                                ConnectionActor ◀──starts, closes── SupervisorActor ◀──────────────────────┘
//!                                       └──Connected, ConnectionEnded──▶
//! ```
//!
//! - [`outbox`] owns the log of events and what of it is in flight.
//! - [`connection`] owns one MQTT session over one network connection, and dies with it.
//! - [`supervisor`] owns the connection: starts it, replaces it after a pause, knows how it stands.
//! - [`thumbnails`] owns the pictures of events.
//! - [`config`] owns the settings and their secrets.
//! - [`service`] starts them all and hands out their addresses: the one call an embedder needs.
//!
//! Requests are awaited down the picture, facts go up without waiting. Actors know no HTTP; the domain types
//! ([`event`], [`settings`], [`topic`], [`ids`]) know no actix and do no I/O; only [`store`] knows SQL.

pub mod calendar;
pub mod camera;
pub mod cameras;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod connection;
pub mod data_dir;
pub mod discovery;
pub mod event;
pub mod fields;
pub mod ids;
pub mod metrics;
pub mod outbox;
pub mod retained;
pub mod service;
pub mod settings;
pub mod status;
pub mod store;
pub mod supervisor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod thumbnails;
pub mod topic;

pub use crate::{
    event::{DetectionEvent, EventInput},
    fields::{FieldError, Invalid},
    ids::{CameraId, EventId, Seq},
    outbox::{PublishBatch, PublishError, PublishEvent, Receipt},
    service::{Handle, Service, ServiceOptions, StartError},
    settings::MqttSettings,
};
