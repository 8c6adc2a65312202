//! How many events may be in flight on a connection. No clock, no I/O.

use std::time::Duration;

use tokio::time::Instant;

/// Limits how many events may wait in the connection: as many as leave within this time at the measured rate.
const AHEAD: Duration = Duration::from_millis(50);

/// The limit of one connection: what the broker may have unanswered, and a little more, so that the next
/// event is at hand when the broker answers one. It is only a little, because an event that waits becomes
/// older after its topic was chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct InFlightLimit {
    window: usize,
    /// Number of unanswered events that the broker accepts.
    unanswered: usize,
    /// The number of acknowledgements in the last complete interval of [`AHEAD`].
    rate: usize,
    /// The beginning of the current interval, and the number of acknowledgements in it.
    interval: Option<(Instant, usize)>,
}

impl InFlightLimit {
    /// Creates a limit that never exceeds `window`.
    pub fn new(window: u16, receive_maximum: u16) -> Self {
        let unanswered = window.min(receive_maximum).into();
        Self { window: window.into(), unanswered, rate: 0, interval: None }
    }

    /// Returns the current limit.
    pub fn get(&self) -> usize {
        let current = self.interval.map_or(0, |(_, count)| count);
        (self.unanswered + self.rate.max(current)).min(self.window)
    }

    /// Records an acknowledgement.
    pub fn acknowledged(&mut self, now: Instant) {
        let (since, count) = self.interval.unwrap_or((now, 0));
        let elapsed = now.saturating_duration_since(since);
        if elapsed < AHEAD {
            self.interval = Some((since, count + 1));
            return;
        }
        let intervals = usize::try_from(elapsed.as_millis() / AHEAD.as_millis()).unwrap_or(usize::MAX);
        self.rate = (count + 1) / intervals.max(1);
        self.interval = Some((now, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit after this many acknowledgements at this interval.
    fn after(mut limit: InFlightLimit, count: u32, interval: Duration) -> usize {
        let start = Instant::now();
        for i in 1..=count {
            limit.acknowledged(start + interval * i);
        }
        limit.get()
    }

    #[tokio::test]
    async fn what_leaves_within_50_ms_may_wait_in_the_connection() {
        let limit = InFlightLimit::new(500, 20);
        assert_eq!(limit.get(), 20, "nothing is known yet");
        assert_eq!(after(limit, 1, Duration::ZERO), 21);
        let at_1000_a_second = after(limit, 1000, Duration::from_millis(1));
        assert!((65..=75).contains(&at_1000_a_second), "{at_1000_a_second}");
        assert_eq!(after(limit, 20, Duration::from_millis(500)), 20);
    }

    #[tokio::test]
    async fn a_broker_that_becomes_slow_gets_no_more_than_it_accepts() {
        let (mut limit, start) = (InFlightLimit::new(500, 1), Instant::now());
        for _ in 0..400 {
            limit.acknowledged(start);
        }
        assert_eq!(limit.get(), 401);
        limit.acknowledged(start + Duration::from_secs(30));
        assert_eq!(limit.get(), 1);
    }

    #[tokio::test]
    async fn the_window_is_never_exceeded() {
        let limit = InFlightLimit::new(10, u16::MAX);
        assert_eq!((limit.get(), after(limit, 100, Duration::ZERO)), (10, 10));
    }
}
