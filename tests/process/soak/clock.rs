//! The wall clock of the system under test.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use liveobject_test_support::FakeClock;
use tokio::time::Instant;

/// The setting `late_after_seconds` of the soak test.
pub const LATE_AFTER: Duration = Duration::from_mins(1);

/// Time within which both processes notice a change: libfaketime reads its file again once more than one whole
/// second has passed.
pub const NOTICED_WITHIN: Duration = Duration::from_secs(4);

/// A clock that can be set. It is true at first.
#[derive(Debug)]
pub struct Clock {
    fake: FakeClock,
    /// When it was set.
    changes: Mutex<Vec<Instant>>,
}

impl Clock {
    pub fn new() -> Self {
        Self { fake: FakeClock::new(), changes: Mutex::default() }
    }

    /// Sets the clock to this offset from the true time. The processes notice within a second or so.
    pub fn set(&self, seconds: i64) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        self.fake.set(seconds);
    }

    /// Returns the environment variables that make a process use this clock.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.fake.environment()
    }

    /// Returns whether no process noticed a change between these two points in time.
    pub fn was_steady(&self, from: Instant, to: Instant) -> bool {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        !changes.iter().any(|at| *at <= to && *at + NOTICED_WITHIN >= from)
    }
}
