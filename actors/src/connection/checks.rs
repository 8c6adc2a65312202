//! The checks that depend on elapsed time.

use actix::{AsyncContext as _, Context, SpawnHandle};
use tokio::time::{Duration, Instant};

use super::{ConnectionActor, reason, sending::Submission};
use crate::{
    domain::poison::{End, LARGE, MAX_DELAY, PATIENCE, Treatment},
    ticks,
};

/// How often to check whether the broker still responds, and whether messages have waited too long.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The same while no message is waiting for the broker. Each check wakes the processor.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The timer of the next checks.
#[derive(Debug)]
pub(super) struct NextCheck {
    timer: SpawnHandle,
    is_idle: bool,
}

impl ConnectionActor {
    /// Runs the checks, and schedules the next ones.
    fn check(&mut self, ctx: &mut Context<Self>) {
        self.next_check = None;
        self.run_checks(ctx);
        if self.is_idle() {
            self.check_after(ticks::until_next(IDLE_CHECK_INTERVAL), true, ctx);
        } else {
            self.check_after(CHECK_INTERVAL, false, ctx);
        }
    }

    /// Schedules the checks. `is_idle` is whether they become urgent when a message waits for the broker.
    pub(super) fn check_after(&mut self, wait: Duration, is_idle: bool, ctx: &mut Context<Self>) {
        let timer = ctx.run_later(wait, Self::check);
        self.next_check = Some(NextCheck { timer, is_idle });
    }

    /// Schedules the next checks earlier if there is now something to check.
    pub(super) fn check_soon(&mut self, ctx: &mut Context<Self>) {
        if self.next_check.as_ref().is_some_and(|next| next.is_idle)
            && !self.is_idle()
            && let Some(next) = self.next_check.take()
        {
            ctx.cancel_future(next.timer);
            self.check_after(CHECK_INTERVAL, false, ctx);
        }
    }

    /// Returns whether nothing is waiting for the broker, except perhaps a ping.
    fn is_idle(&self) -> bool {
        self.session.is_some()
            && self.packets.len() == 0
            && self.queue.waiting().next().is_none()
            && !self.birth_left_out
    }

    fn run_checks(&mut self, ctx: &mut Context<Self>) {
        self.check_silence(ctx);
        if self.session.is_some() {
            self.check_delay(ctx);
            if self.birth_left_out && !self.closing {
                // It may be permitted again.
                self.publish_birth();
            }
            // First, so that an event that has waited for a quiet time is sent and not given back.
            self.release(ctx);
            let stale = self.queue.take_stale(Instant::now());
            self.give_back(stale);
            self.release(ctx);
        }
    }

    fn check_silence(&mut self, ctx: &mut Context<Self>) {
        let (now, seconds) = (Instant::now(), self.settings.ack_timeout_seconds);
        let bound = Duration::from_secs(seconds.into());
        if let Some(drained_in) = self.slow_line.check(self.traffic.late_bytes(), now) {
            self.packets.sending(now + drained_in);
        }
        let silent_for = self.packets.silent_for(now);
        if let Some(alone) = self.packets.sole().filter(|_| self.accepted_any) {
            let message = alone.message_ref.clone();
            let patience = self.queue.poison.patience(&message).map(|patience| patience.min(bound));
            let is_overtaken = self.packets.overtaken(now).is_some();
            if patience.or(is_overtaken.then_some(bound)).is_some_and(|patience| silent_for >= patience) {
                let failure = reason::ignored(&self.settings.broker(), &message.topic, silent_for.as_secs());
                self.at_fault = Some(End::Ignored(message));
                return self.end(failure, ctx);
            }
        }
        if silent_for >= bound {
            self.at_fault = Some(End::Stalled);
            return self.end(reason::stalled(&self.settings.broker(), seconds), ctx);
        }
        let Some((Submission { message_ref, .. }, waited)) = self.packets.overtaken(now) else { return };
        let is_watched = self.queue.poison.treatment(message_ref) == Treatment::Watched;
        if waited >= if is_watched { PATIENCE.min(bound) } else { bound } {
            let message = message_ref.clone();
            let failure = reason::ignored(&self.settings.broker(), &message.topic, waited.as_secs());
            self.at_fault = Some(End::Ignored(message));
            self.end(failure, ctx);
        }
    }

    /// Ends the connection if a large message delays events for too long. It cannot be interrupted otherwise.
    fn check_delay(&mut self, ctx: &mut Context<Self>) {
        let first = self.packets.first_unsent().filter(|first| first.message_ref.bytes >= LARGE);
        let large = first.map(|first| first.message_ref.clone());
        let delays_events = self.queue.waiting().any(|(_, submission)| submission.is_event())
            || self.packets.count(Submission::is_event) > 0;
        let Some(message) = large.filter(|_| delays_events) else {
            self.delaying_since = None;
            return;
        };
        let since = *self.delaying_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= MAX_DELAY {
            let failure =
                reason::too_slow(&self.settings.broker(), &message.topic, message.bytes, MAX_DELAY.as_secs());
            self.at_fault = Some(End::TooSlow(message));
            self.end(failure, ctx);
        }
    }
}
