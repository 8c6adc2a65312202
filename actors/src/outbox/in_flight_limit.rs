//! How many events may be in flight on a connection. No clock, no I/O.

use std::time::Duration;

/// A broker that acknowledges an event within this time is fast.
const FAST: Duration = Duration::from_millis(100);

/// The limit of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InFlightLimit {
    /// Number of unacknowledged events that the broker accepts.
    unacknowledged: usize,
    /// `unacknowledged` plus the number of events that may wait in the MQTT client.
    with_queued: usize,
}

impl InFlightLimit {
    /// Creates a limit that never exceeds `window`. `may_queue` states whether the MQTT client queues
    /// events beyond `receive_maximum`.
    pub fn new(window: u16, receive_maximum: u16, may_queue: bool) -> Self {
        let unacknowledged = window.min(receive_maximum).into();
        Self { unacknowledged, with_queued: if may_queue { window.into() } else { unacknowledged } }
    }

    /// Returns the limit before the first acknowledgement: what the broker accepts.
    pub fn at_first(&self) -> usize {
        self.unacknowledged
    }

    /// Returns the limit after an acknowledgement that took this long. With a fast broker, further events
    /// wait in the client, which sends the next one on each acknowledgement without going through the actors.
    /// With a slow broker, events would wait in the client for a long time. They might be late when the
    /// client sends them, although they were not late when their topic was chosen.
    pub fn after(&self, took: Duration) -> usize {
        if took < FAST { self.with_queued } else { self.unacknowledged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(100);

    #[test]
    fn more_events_wait_in_the_client_if_the_broker_is_fast() {
        let limit = InFlightLimit::new(500, 20, true);
        assert_eq!((limit.at_first(), limit.after(Duration::ZERO), limit.after(SLOW)), (20, 500, 20));
    }

    #[test]
    fn no_events_wait_in_a_client_that_does_not_queue() {
        let limit = InFlightLimit::new(500, 1, false);
        assert_eq!((limit.at_first(), limit.after(Duration::ZERO), limit.after(SLOW)), (1, 1, 1));
    }

    #[test]
    fn the_window_is_never_exceeded() {
        let limit = InFlightLimit::new(10, u16::MAX, true);
        assert_eq!((limit.at_first(), limit.after(Duration::ZERO), limit.after(SLOW)), (10, 10, 10));
    }
}
