//! Events leave no faster than a rate: a backlog does not flood the broker. Pure: time is given.

use std::time::Duration;

use tokio::time::Instant;

/// How much may leave at once after a pause, in time at the rate. Short, so that the rate holds in every second; longer
/// than a timer's granularity, so that it is reached.
const BURST: Duration = Duration::from_millis(50);

/// A token bucket.
#[derive(Debug)]
pub struct Pacer {
    /// Events per second; 0: no limit.
    rate: u32,
    tokens: f64,
    at: Option<Instant>,
}

impl Pacer {
    /// A full bucket for so many events per second; 0: no limit.
    pub fn new(rate: u32) -> Self {
        Self { rate, tokens: Self::capacity(rate), at: None }
    }

    fn capacity(rate: u32) -> f64 {
        (f64::from(rate) * BURST.as_secs_f64()).max(1.0)
    }

    /// How many events may leave now.
    pub fn allowance(&mut self, now: Instant) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        if let Some(at) = self.at {
            let gained = now.saturating_duration_since(at).as_secs_f64() * f64::from(self.rate);
            self.tokens = (self.tokens + gained).min(Self::capacity(self.rate));
        }
        self.at = Some(now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and at most a twentieth of a u32"
        )]
        {
            self.tokens as usize
        }
    }

    /// One event left.
    pub fn spend(&mut self) {
        if self.rate != 0 {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }

    /// After which time the next event may leave, when none may now.
    pub fn wait(&self) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / f64::from(self.rate))
            .max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(pacer: &mut Pacer, start: Instant, millis: u64) -> usize {
        let mut left = 0;
        for ms in 0..millis {
            let now = start + Duration::from_millis(ms);
            for _ in 0..pacer.allowance(now).min(100) {
                pacer.spend();
                left += 1;
            }
        }
        left
    }

    #[tokio::test]
    async fn the_rate_holds_and_is_reached() {
        for rate in [1, 7, 100, 900] {
            let left = leave(&mut Pacer::new(rate), Instant::now(), 10_000);
            let expected = usize::try_from(rate).unwrap() * 10;
            assert!(
                (expected - 1..=expected + expected / 100 + 1).contains(&left),
                "{rate}/s: {left} in 10 s"
            );
        }
    }

    #[tokio::test]
    async fn without_a_rate_nothing_waits() {
        let mut pacer = Pacer::new(0);
        assert_eq!(pacer.allowance(Instant::now()), usize::MAX);
        assert_eq!(pacer.wait(), Duration::ZERO);
    }
}
