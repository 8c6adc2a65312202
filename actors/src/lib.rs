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
//!
//!  OutboxActor ──CamerasSaw──────────┐
//!  ThumbnailActor ──ThumbnailStored──┤        HTTP layer ──PublishDiscovery──┐
//!  HTTP layer ──PutCamera …──────────┤                                       ▼
//!                                    └─▶ CameraActor ──CamerasChanged──▶ DiscoveryActor
//!                                             │                              │
//!                                          Retain                    Retain, Republish
//!                                             └──────▶ RetainedActor ◀───────┘
//!                                                           │
//!                                                      PublishState
//!                                                           ▼
//!                                                    ConnectionActor ──LinkUp, LinkDown──▶ Outbox, Retained, Discovery
//!
//!  OutboxActor ──LogMoved──▶ StreamActor ◀──OpenStream── HTTP layer
//!                                └──ReadLog, GetOutbox──▶ OutboxActor      └──GetStatus──▶ SupervisorActor
//! ```
//!
//! - [`outbox`] owns the log of events and what of it is in flight.
//! - [`connection`] owns one MQTT session over one network connection, and dies with it.
//! - [`supervisor`] owns the connection: starts it, replaces it after a pause, knows how it stands.
//! - [`cameras`] owns what is known of each camera: status, counts, activity.
//! - [`discovery`] says what Home Assistant is to know of them.
//! - [`retained`] keeps what stands retained at the broker as both want it, and clears what they do not.
//! - [`stream`] tells whoever watches what happens, as it happens.
//! - [`thumbnails`] owns the pictures of events.
//! - [`tokens`] owns the tokens of the API.
//! - [`config`] owns the settings and their secrets.
//! - [`service`] starts them all and hands out their addresses: the one call an embedder needs.
//!
//! Requests are awaited down the picture, facts go up without waiting. Actors know no HTTP; the domain types
//! ([`event`], [`settings`], [`topic`], [`ids`]) know no actix and do no I/O; only [`store`] knows SQL.

pub mod cameras;
pub mod config;
pub mod connection;
pub mod data_dir;
pub mod discovery;
pub mod domain;
mod lifecycle;
pub mod messages;
pub mod metrics;
pub mod outbox;
pub mod private_file;
pub mod reading;
pub mod retained;
pub mod service;
pub mod store;
pub mod stream;
pub mod supervisor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod thumbnails;
pub mod tokens;

pub use crate::{
    domain::{
        event::{DetectionEvent, EventInput},
        event_log::Receipt,
        fields::{FieldError, Invalid},
        ids::{CameraId, EventId, Seq},
        settings::MqttSettings,
    },
    messages::outbox::{PublishBatch, PublishError, PublishEvent},
    service::{Handle, Service, ServiceOptions, StartError},
};
