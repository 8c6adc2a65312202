//! Limits how often a line is logged that every request can cause.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// When the line was last logged, and how many lines were left out since then.
#[derive(Debug)]
pub(super) struct LogLimit(Mutex<(Option<Instant>, u64)>);

impl LogLimit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Returns the number of lines that were left out since the last one, or `None` if this one must be left out, too.
    pub(super) fn permits(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (logged_at, not_logged) = &mut *state;
        if logged_at.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            *not_logged += 1;
            return None;
        }
        *logged_at = Some(now);
        Some(std::mem::take(not_logged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_logged_once_in_ten_seconds_and_counts_the_others() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        assert_eq!(limit.permits(start), Some(0));
        assert_eq!(limit.permits(start + PAUSE / 2), None);
        assert_eq!(limit.permits(start + PAUSE / 2), None);
        assert_eq!(limit.permits(start + PAUSE), Some(2));
        assert_eq!(limit.permits(start + PAUSE * 2), Some(0));
    }
}
