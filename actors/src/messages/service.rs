//! Messages that every actor handles.

/// From the service, on shutdown: stops the actor. Sent when the actor has finished its work.
#[derive(Debug, Clone, Copy, actix::Message)]
#[rtype(result = "()")]
pub struct Stop;
