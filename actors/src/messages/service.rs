//! Messages that every actor handles.

/// Ends the actor; sent when it is drained.
#[derive(Debug, Clone, Copy, actix::Message)]
#[rtype(result = "()")]
pub struct Stop;
