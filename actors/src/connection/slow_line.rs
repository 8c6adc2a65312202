//! Recognizes that a large message is being sent on a slow line. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// How much may be on its way after the socket has accepted it: in the socket's send buffer, and in the network.
const ON_THE_WAY: f64 = 512.0 * 1024.0;

/// The longest time that it may take until that has arrived.
const MAX_DRAIN: Duration = Duration::from_mins(1);

/// After this time without progress, the line is no longer considered to be busy.
const PAUSE: Duration = Duration::from_secs(30);

/// The progress of the network connection while it is busy.
#[derive(Debug, Default)]
pub struct SlowLine {
    /// When it became busy, and how many bytes it had accepted then.
    since: Option<(Instant, u64)>,
    /// How many bytes it has accepted, and when that was last noticed.
    last: Option<(u64, Instant)>,
}

impl SlowLine {
    /// Records how many bytes the network connection has accepted after it had been full. Returns, if there is
    /// progress, how long it may take until the broker has what is on its way.
    pub fn check(&mut self, accepted: u64, now: Instant) -> Option<Duration> {
        let (before, noticed) = *self.last.get_or_insert((accepted, now));
        if accepted == before {
            if now.saturating_duration_since(noticed) > PAUSE {
                self.since = None;
            }
            return None;
        }
        self.last = Some((accepted, now));
        let (since, at_start) = *self.since.get_or_insert((noticed, before));
        let elapsed = now.saturating_duration_since(since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes = (accepted - at_start) as f64;
        let seconds = (ON_THE_WAY * elapsed / bytes).min(MAX_DRAIN.as_secs_f64());
        Some(Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_on_its_way_arrives_at_the_measured_rate() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut line = SlowLine::default();
        assert_eq!(line.check(0, at(0)), None);
        assert_eq!(line.check(0, at(1)), None);
        assert_eq!(line.check(2 * 64 * 1024, at(2)), Some(Duration::from_secs(8)), "64 KiB a second");
        assert_eq!(line.check(2 * 64 * 1024, at(3)), None, "no progress");
        assert_eq!(line.check(2 * 64 * 1024 + 1, at(200)), Some(MAX_DRAIN));
    }
}
