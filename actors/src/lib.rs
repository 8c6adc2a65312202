//! The actors of liveobject.
//!
//! ```text
//!  classifier actors ──PublishEvent──┐
//!  HTTP layer ──PublishEvent, PublishBatch, ListEvents …──┐   HTTP layer ──ReplaceSettings …───────────┐
//!                                    ▼                    ▼                                            ▼
//!                                  OutboxActor ◀───────────────SettingsChanged────────────────── ConfigActor
//!                                   │   ▲                                                              │
//!                             Deliver   Answered, LinkUp, LinkDown                          SettingsChanged
//!                                   ▼   │                                                              ▼
//!                                ConnectionActor ◀──starts, Close──────────────────────── SupervisorActor
//!                                       └──────────Connected, ConnectionEnded───────────────────▶
//!
//!  OutboxActor ──CamerasSeen─────────┐
//!  ThumbnailActor ──ThumbnailStored──┤        HTTP layer ──PublishDiscovery──┐
//!  HTTP layer ──PutCamera …──────────┤                                       ▼
//!                                    └─▶ CameraActor ──CamerasChanged──▶ DiscoveryActor
//!                                             │                              │
//!                                          Retain                    Retain, Republish
//!                                             └──────▶ RetainedActor ◀───────┘
//!                                                           │
//!                                                      PublishState
//!                                                           ▼
//!                                                    ConnectionActor
//!
//!  ConnectionActor ──LinkUp──▶ OutboxActor, RetainedActor, DiscoveryActor, ReplayActor
//!  ConnectionActor ──LinkDown──▶ OutboxActor, RetainedActor, ReplayActor
//!  ConnectionActor ──TopicsRefused──▶ SupervisorActor
//!  SupervisorActor ──ClearBroker──▶ RetainedActor
//!  OutboxActor ──HandOverPicture──▶ RetainedActor
//!  ConfigActor ──SettingsIgnored──▶ SupervisorActor, ──SettingsRevised──▶ StreamActor
//!  OutboxActor ──PublishState, Subscribe──▶ ConnectionActor
//!  DiscoveryActor, SupervisorActor ──Subscribe──▶ ConnectionActor
//!
//!  HTTP layer ──CreateReplay …──▶ ReplayActor ──PublishReplay──▶ ConnectionActor
//!                                  └──CountUnsent──▶ OutboxActor
//!
//!  OutboxActor ──LinkMoved, EventsMissing──▶ HistoryActor ◀──GetOutages, GetHistory── HTTP layer
//!  SupervisorActor ──ConnectionStep───────────────┘ └──GetExtent, CountOpen──▶ OutboxActor
//!
//!  OutboxActor ──LogMoved──▶ StreamActor ◀──OpenStream── HTTP layer
//!                                ├──ReadLog, GetOutbox──▶ OutboxActor
//!                                └──GetStatus──▶ SupervisorActor
//!
//!  OutboxActor ──StageThumbnail, AdoptThumbnails, Sweep──▶ ThumbnailActor ◀──GetRendition── RetainedActor
//!  HTTP layer ──PutThumbnail …──────────────────┘
//!  HTTP layer ──Authenticate, CreateToken …──▶ TokenActor
//!  HTTP layer ──CountEvents, MeasureLog──▶ SearchActor
//!  HTTP layer ──ReportWarnings, ReconnectNow──▶ SupervisorActor
//!  BrokerInquiry (the process) ──ProvideBroker──▶ ConfigActor, ──GetStatus──▶ SupervisorActor
//!  ServiceManager (the process) ──GetStatus──▶ SupervisorActor, ──GetOutbox, AwaitCommit──▶ OutboxActor
//! ```
//!
//! The diagram omits `SettingsChanged` to the `CameraActor`, the `DiscoveryActor`, the `RetainedActor` and the
//! `ReplayActor`.
//!
//! The crate has four layers. Each one imports only the layers before it, and no actor imports another actor:
//!
//! - [`domain`] contains types that are valid by construction. It does no I/O and uses neither actix nor SQL.
//! - [`messages`] is the protocol: all messages between actors, one file per actor that handles them.
//! - [`store`] contains all SQL. It is independent of the actors.
//! - The actors, one module each:
//!   - [`outbox`] owns the event log, and delivers pending events to the broker.
//!   - [`connection`] owns one MQTT session over one network connection, and stops when the session ends.
//!   - [`supervisor`] owns the connection: it starts it, replaces it after a pause, and reports its status.
//!   - [`cameras`] owns the state of each camera: status, counts, activity.
//!   - [`discovery`] decides what is announced to Home Assistant.
//!   - [`retained`] publishes the retained messages of cameras and discovery, and clears topics that are no
//!     longer used.
//!   - [`replay`] sends events of the log again, on request.
//!   - [`search`] keeps the index for the search in the event log, and counts events.
//!   - [`history`] records outages and the figures of the charts.
//!   - [`stream`] sends changes to the event log to the clients that follow it.
//!   - [`thumbnails`] owns the pictures of events.
//!   - [`tokens`] owns the API tokens.
//!   - [`config`] owns the MQTT settings and their secrets.
//!   - [`keeper`] owns this node's part in the ownership of an event log that several nodes share.
//!
//! [`service`] is the only module that depends on every actor: it starts them and returns their addresses. An
//! application that embeds this crate calls only this module. [`metrics`], [`reading`], [`data_dir`] and
//! [`private_file`] belong to no actor.
//!
//! Senders of requests wait for the response; senders of facts do not wait. No actor depends on HTTP.

pub mod cameras;
pub mod config;
pub mod connection;
pub mod data_dir;
pub mod discovery;
pub mod disk;
pub mod domain;
pub mod history;
pub mod keeper;
#[cfg(test)]
mod layers_tests;
mod lifecycle;
pub mod messages;
pub mod metrics;
pub mod outbox;
pub mod private_file;
pub mod reading;
pub mod replay;
pub mod retained;
pub mod search;
pub mod service;
pub mod store;
pub mod stream;
pub mod supervisor;
mod system;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod thumbnails;
pub mod ticks;
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
    service::{Handle, Node, NodeEnd, Service, ServiceOptions, SharedSessions, StartError},
    system::System,
};
