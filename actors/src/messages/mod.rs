//! The protocol: every message that actors exchange, in the file of the actor that handles it.
//!
//! Commands are imperative ([`connection::Deliver`]), facts state what happened ([`link::LinkUp`]), and most
//! queries begin with `Get` or `List`. A fact that several actors handle is in the file of the actor that
//! reports it: [`link`] contains the facts that a connection reports, and [`config::SettingsChanged`] is
//! reported by the config actor.

pub mod cameras;
pub mod config;
pub mod connection;
pub mod discovery;
pub mod history;
pub mod keeper;
pub mod link;
pub mod outbox;
pub mod replay;
pub mod retained;
pub mod search;
pub mod service;
pub mod stream;
pub mod supervisor;
pub mod thumbnails;
pub mod tokens;
