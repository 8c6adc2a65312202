//! How much of the late lane may be in flight, so that a live event does not queue behind it on a slow line. No
//! clock, no I/O.

use std::time::Duration;

use tokio::time::Instant;

/// How much longer than on an idle line late events may wait for their acknowledgement. A live event that is sent
/// after them waits about as long.
const QUEUE: Duration = Duration::from_millis(250);

/// The limit at the start of a connection, and its bounds, in bytes.
const FIRST: usize = 32 * 1024;
const SMALLEST: usize = 4 * 1024;
const LARGEST: usize = 16 * 1024 * 1024;

/// The limit of one connection. It grows while acknowledgements are fast, and is halved when they take longer; after
/// that, it grows slowly. TCP limits what it sends in the same way.
#[derive(Debug, Clone, Copy)]
pub struct LateLimit {
    limit: usize,
    /// The size and the number of late events in flight.
    in_flight: usize,
    events: usize,
    /// The shortest time that an acknowledgement has taken.
    fastest: Option<Duration>,
    /// When the limit was last halved. Events that were sent before then say nothing about the new limit.
    halved_at: Option<Instant>,
}

impl Default for LateLimit {
    fn default() -> Self {
        Self { limit: FIRST, in_flight: 0, events: 0, fastest: None, halved_at: None }
    }
}

impl LateLimit {
    /// Returns whether an event of this size may be sent; `window` is how many events of both lanes may be in
    /// flight. Part of the window is left to live events. One late event is always allowed.
    pub fn allows(&self, bytes: usize, window: usize) -> bool {
        let has_room = self.in_flight + bytes <= self.limit && self.events + 1 + window / 8 < window;
        self.events == 0 || has_room
    }

    /// Records that an event of this size was sent.
    pub fn sent(&mut self, bytes: usize) {
        self.in_flight += bytes;
        self.events += 1;
    }

    /// Records that an event of this size was acknowledged.
    pub fn acknowledged(&mut self, bytes: usize, sent_at: Instant, now: Instant) {
        let was_in_flight = self.in_flight;
        self.gone(bytes);
        let took = now.saturating_duration_since(sent_at);
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        if took <= fastest + QUEUE {
            // Grow only if the limit is in use: otherwise, a fast acknowledgement proves nothing about it.
            if was_in_flight * 2 >= self.limit {
                let more = if self.halved_at.is_none() { bytes } else { bytes * SMALLEST / self.limit };
                self.limit = (self.limit + more).min(LARGEST);
            }
        } else if self.halved_at.is_none_or(|at| at < sent_at) {
            self.limit = (self.limit / 2).max(SMALLEST);
            self.halved_at = Some(now);
        }
    }

    /// Records that an event of this size is not in flight any more.
    pub fn gone(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.events = self.events.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const SIZE: usize = 1000;

    /// Sends late events over a line with this many bytes per second and this delay for a minute. Returns the
    /// longest time that an event waited in the second half, and how many were acknowledged.
    fn run(bytes_per_second: usize, delay: Duration) -> (Duration, usize) {
        let (start, mut limit) = (Instant::now(), LateLimit::default());
        let mut on_the_way: VecDeque<(Instant, Instant)> = VecDeque::new();
        let (mut free_at, mut acknowledged, mut longest) = (start, 0, Duration::ZERO);
        for millis in 0..60_000 {
            let now = start + Duration::from_millis(millis);
            while let Some((sent_at, _)) = on_the_way.pop_front_if(|(_, at)| *at <= now) {
                limit.acknowledged(SIZE, sent_at, now);
                acknowledged += 1;
                if millis > 30_000 {
                    longest = longest.max(now - sent_at);
                }
            }
            while limit.allows(SIZE, 500) {
                limit.sent(SIZE);
                let takes = Duration::from_micros((SIZE * 1_000_000 / bytes_per_second) as u64);
                free_at = free_at.max(now) + takes;
                on_the_way.push_back((now, free_at + delay));
            }
        }
        (longest, acknowledged)
    }

    #[tokio::test]
    async fn a_slow_line_is_used_fully_but_has_no_long_queue() {
        for (bytes_per_second, delay) in [(100_000, 5), (20_000, 5), (100_000, 600), (5_000, 50)] {
            let delay = Duration::from_millis(delay);
            let (longest, acknowledged) = run(bytes_per_second, delay);
            let one = Duration::from_micros((SIZE * 1_000_000 / bytes_per_second) as u64);
            let bound = delay + 2 * QUEUE + 4 * one;
            assert!(longest <= bound, "{bytes_per_second} B/s, {delay:?}: {longest:?}");
            let possible = 60 * bytes_per_second / SIZE;
            assert!(acknowledged * 10 >= possible * 8, "{bytes_per_second} B/s, {delay:?}: {acknowledged}");
        }
    }

    #[tokio::test]
    async fn a_fast_line_is_not_limited() {
        let (_, acknowledged) = run(100_000_000, Duration::from_millis(2));
        assert!(acknowledged > 59 * 99_000, "{acknowledged}");
    }

    #[test]
    fn one_event_is_always_allowed() {
        let mut limit = LateLimit::default();
        assert!(limit.allows(10 * LARGEST, 1));
        limit.sent(10 * LARGEST);
        assert!(!limit.allows(1, 500));
        limit.gone(10 * LARGEST);
        assert!(limit.allows(1, 1));
    }

    #[test]
    fn some_of_the_window_is_left_to_live_events() {
        for (window, late) in [(1, 1), (2, 1), (3, 2), (20, 17), (500, 437)] {
            let mut limit = LateLimit::default();
            while limit.allows(1, window) {
                limit.sent(1);
            }
            assert_eq!(limit.events, late, "of {window}");
        }
    }
}
