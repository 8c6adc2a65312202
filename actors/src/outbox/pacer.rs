//! The rate limit, so that a backlog does not flood the broker. No I/O; the caller passes the time.

use std::time::Duration;

use tokio::time::Instant;

/// The size of a burst after a pause, as the time that it takes at the configured rate. It is short, so that
/// the rate is not exceeded in any second, but longer than the granularity of timers, so that the rate is
/// reached.
const BURST: Duration = Duration::from_millis(50);

/// A token bucket.
#[derive(Debug)]
pub struct Pacer {
    /// Events per second; 0 means no limit.
    rate: u32,
    tokens: f64,
    refilled_at: Option<Instant>,
}

impl Pacer {
    /// Creates a full bucket. `rate` is in events per second; 0 means no limit.
    pub fn new(rate: u32) -> Self {
        Self { rate, tokens: Self::capacity(rate), refilled_at: None }
    }

    fn capacity(rate: u32) -> f64 {
        (f64::from(rate) * BURST.as_secs_f64()).max(1.0)
    }

    /// Returns how many events may be sent now.
    pub fn allowance(&mut self, now: Instant) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        if let Some(at) = self.refilled_at {
            let gained = now.saturating_duration_since(at).as_secs_f64() * f64::from(self.rate);
            self.tokens = (self.tokens + gained).min(Self::capacity(self.rate));
        }
        self.refilled_at = Some(now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and at most a twentieth of a u32"
        )]
        {
            self.tokens as usize
        }
    }

    /// Records that one event was sent.
    pub fn spend(&mut self) {
        if self.rate != 0 {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }

    /// Returns how long to wait until the next event may be sent, if none may be sent now.
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

    fn send(pacer: &mut Pacer, start: Instant, millis: u64) -> usize {
        let mut sent = 0;
        for ms in 0..millis {
            let now = start + Duration::from_millis(ms);
            for _ in 0..pacer.allowance(now).min(100) {
                pacer.spend();
                sent += 1;
            }
        }
        sent
    }

    #[tokio::test]
    async fn the_rate_is_reached_and_not_exceeded() {
        for rate in [1, 7, 100, 900] {
            let sent = send(&mut Pacer::new(rate), Instant::now(), 10_000);
            let expected = usize::try_from(rate).unwrap() * 10;
            assert!(
                (expected - 1..=expected + expected / 100 + 1).contains(&sent),
                "{rate}/s: {sent} in 10 s"
            );
        }
    }

    #[tokio::test]
    async fn without_a_limit_nothing_waits() {
        let mut pacer = Pacer::new(0);
        assert_eq!(pacer.allowance(Instant::now()), usize::MAX);
        assert_eq!(pacer.wait(), Duration::ZERO);
    }
}
