//! The attempt to connect that an administrator requests instead of waiting for the next one.

use std::time::Duration;

use actix::{AsyncContext as _, Handler};
use tokio::time::Instant;

use super::{Mode, SupervisorActor};
use crate::messages::supervisor::{ReconnectError, ReconnectNow};

/// The minimum time between two attempts, so that requests cannot flood the broker.
const MIN_INTERVAL: Duration = Duration::from_secs(2);

/// Returns whether a requested attempt may begin, after one that began at `last`.
fn may_begin(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= MIN_INTERVAL)
}

impl Handler<ReconnectNow> for SupervisorActor {
    type Result = Result<(), ReconnectError>;

    fn handle(&mut self, _: ReconnectNow, ctx: &mut Self::Context) -> Self::Result {
        let Mode::Waiting { timer, .. } = &self.mode else { return Err(ReconnectError::NotWaiting) };
        if !may_begin(self.attempt_began, Instant::now()) {
            return Err(ReconnectError::TooSoon);
        }
        ctx.cancel_future(*timer);
        tracing::info!("connecting on request");
        self.metrics.mqtt_reconnect_attempts.inc();
        self.apply_settings(ctx);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_attempts_are_at_least_the_minimum_interval_apart() {
        let last = Instant::now();
        assert!(may_begin(None, last));
        assert!(!may_begin(Some(last), last));
        assert!(!may_begin(Some(last), last + MIN_INTERVAL - Duration::from_millis(1)));
        assert!(may_begin(Some(last), last + MIN_INTERVAL));
    }
}
