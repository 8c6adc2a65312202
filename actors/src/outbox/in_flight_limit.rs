//! How many events the connection may have at a time. Pure.

use std::time::Duration;

/// A broker that acknowledges an event within this time is quick.
const QUICK: Duration = Duration::from_millis(100);

/// What one connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InFlightLimit {
    /// As many as the broker accepts without an acknowledgement.
    on_the_way: usize,
    /// With those that wait in the client.
    ahead: usize,
}

impl InFlightLimit {
    /// Never more than `window`; at first as many as the broker accepts. `may_queue`: the client keeps back what is more.
    pub fn new(window: u16, receive_maximum: u16, may_queue: bool) -> Self {
        let on_the_way = window.min(receive_maximum).into();
        Self { on_the_way, ahead: if may_queue { window.into() } else { on_the_way } }
    }

    /// Before anything was acknowledged.
    pub fn at_first(&self) -> usize {
        self.on_the_way
    }

    /// After an acknowledgement that took so long. With a quick broker more wait in the client, so that each acknowledgement lets
    /// the next one go without a way through the actors; with a slow one they would wait there, and be late when they leave,
    /// though it was decided before that they are not.
    pub fn after(&self, took: Duration) -> usize {
        if took < QUICK { self.ahead } else { self.on_the_way }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(100);

    #[test]
    fn a_quick_broker_gets_more_to_wait_in_the_client() {
        let allowed = InFlightLimit::new(500, 20, true);
        assert_eq!((allowed.at_first(), allowed.after(Duration::ZERO), allowed.after(SLOW)), (20, 500, 20));
    }

    #[test]
    fn nothing_waits_in_a_client_that_keeps_nothing_back() {
        let allowed = InFlightLimit::new(500, 1, false);
        assert_eq!((allowed.at_first(), allowed.after(Duration::ZERO), allowed.after(SLOW)), (1, 1, 1));
    }

    #[test]
    fn the_window_is_never_exceeded() {
        let allowed = InFlightLimit::new(10, u16::MAX, true);
        assert_eq!((allowed.at_first(), allowed.after(Duration::ZERO), allowed.after(SLOW)), (10, 10, 10));
    }
}
