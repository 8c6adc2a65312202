//! The messages that `SearchActor` handles.

use actix::Message;

use crate::domain::{
    event_log::{LogSize, QueryError},
    search::{Density, DensityQuery},
};

/// From the HTTP layer: counts the events in each step of a period.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Density, QueryError>")]
pub struct CountEvents(pub DensityQuery);

/// From the HTTP layer: returns how many events the log has, and since when.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<LogSize, QueryError>")]
pub struct MeasureLog;
