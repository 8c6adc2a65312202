//! The messages of the [`ReplayActor`](crate::replay::ReplayActor).

use actix::Message;
use serde_json::Value;

use crate::domain::{
    fields::Invalid,
    replay::{MAX_ACTIVE, Replay},
    store_fault::StoreFault,
};

/// From the HTTP layer: requests the replay that this JSON object describes. Returns once it is stored.
#[derive(Debug, Message)]
#[rtype(result = "Result<Replay, ReplayError>")]
pub struct CreateReplay(pub Value);

/// From the HTTP layer: returns all replays that are not finished and the newest finished ones, newest first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Replay>")]
pub struct ListReplays;

/// From the HTTP layer: returns a replay.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Replay>")]
pub struct GetReplay(pub i64);

/// From the HTTP layer: stops a replay. Messages that are in flight may still arrive. Has no effect on a replay that
/// is over.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Replay, ReplayError>")]
pub struct CancelReplay(pub i64);

/// Why a request concerning a replay failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Some fields are invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such replay.
    #[error("there is no such replay")]
    Unknown,
    /// Too many replays are not finished.
    #[error("there are already {MAX_ACTIVE} unfinished replays, which is the maximum; stop one, or wait")]
    TooMany,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The database could not be read or written.
    #[error("the replay was not stored: {0}")]
    Storage(StoreFault),
}
