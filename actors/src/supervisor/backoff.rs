//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// A connection that has been up for this long is stable: after it, the next failure starts again at the
/// shortest wait. A broker that accepts connections and drops them soon is therefore not retried in a tight
/// loop.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);

const WAITS_SECONDS: [u32; 7] = [1, 2, 4, 8, 16, 32, 60];
const MAX_SHORTENING: f64 = 0.2;

/// Returns how long to wait after this many failures in a row (from 1): 1, 2, 4, 8, 16, 32, 60, 60 … s,
/// shortened by up to a fifth so that the clients of a broker do not all reconnect at once. `jitter` is in
/// `0.0..=1.0`.
pub fn wait_after(failures: u32, jitter: f64) -> Duration {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let longest = WAITS_SECONDS[WAITS_SECONDS.len() - 1];
    let seconds = WAITS_SECONDS.get(step).copied().unwrap_or(longest);
    Duration::from_secs_f64(f64::from(seconds) * (1.0 - MAX_SHORTENING * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<_> = (1..=9).map(|n| wait_after(n, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait_after(u32::MAX, 0.0).as_secs(), 60);
    }

    #[test]
    fn jitter_shortens_a_wait_by_a_fifth_at_most() {
        assert_eq!(wait_after(1, 1.0), Duration::from_millis(800));
        assert_eq!(wait_after(7, 1.0), Duration::from_secs(48));
        assert_eq!(wait_after(7, 9.0), Duration::from_secs(48));
    }
}
