//! The messages that `SearchActor` handles.

use actix::Message;

use crate::domain::{
    event_log::QueryError,
    search::{Density, DensityQuery},
};

/// From the HTTP layer: counts the events in each step of a period.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Density, QueryError>")]
pub struct CountEvents(pub DensityQuery);
