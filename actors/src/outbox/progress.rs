//! How long the backlog will take at the present rate. No clock, no I/O.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// The time over which the rate is measured.
const MEASURED_OVER: Duration = Duration::from_secs(30);
/// A shorter time shows no rate.
const AT_LEAST: Duration = Duration::from_secs(3);

/// The number of pending events at recent times, about once a second.
#[derive(Debug, Default)]
pub struct Progress {
    samples: VecDeque<(Instant, u64)>,
}

impl Progress {
    /// Adds the current number of pending events.
    pub fn sample(&mut self, pending: u64, now: Instant) {
        while self.samples.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > MEASURED_OVER) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, pending));
    }

    /// Returns after how many seconds nothing will be pending if the number keeps falling at this rate.
    /// `None` if it does not fall, its rate is unknown, or nothing is pending.
    pub fn seconds_left(&self) -> Option<u64> {
        let (&(since, before), &(now, pending)) = self.samples.front().zip(self.samples.back())?;
        let elapsed = now.saturating_duration_since(since);
        let fallen = before.checked_sub(pending).filter(|fallen| *fallen > 0 && elapsed >= AT_LEAST)?;
        let left = u128::from(pending) * elapsed.as_millis() / u128::from(fallen) / 1000;
        (pending > 0).then(|| u64::try_from(left).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pending: impl IntoIterator<Item = u64>) -> Option<u64> {
        let (mut progress, start) = (Progress::default(), Instant::now());
        for (second, pending) in (0..).zip(pending) {
            progress.sample(pending, start + Duration::from_secs(second));
        }
        progress.seconds_left()
    }

    #[tokio::test]
    async fn the_time_is_that_at_the_rate_of_the_last_30_seconds() {
        assert_eq!(after((0..10).map(|second| 1000 - 10 * second)), Some(91));
        assert_eq!(after((0..100).map(|second| 100_000 - 10 * second * second)), Some(1));
        assert_eq!(after([10, 9, 8]), None, "it is not known yet");
        assert_eq!(after([10, 10, 10, 10, 10]), None, "it does not fall");
        assert_eq!(after([10, 20, 30, 40, 50]), None);
        assert_eq!(after([10, 8, 4, 2, 0]), None, "nothing is pending");
    }
}
