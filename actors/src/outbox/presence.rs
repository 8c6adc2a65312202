//! Whether live events wait for Home Assistant. No I/O; the caller passes the time.
//!
//! After a restart of the broker, this service is connected again some seconds before Home Assistant, and Home
//! Assistant itself needs some seconds to start. What is published in this time is received by nobody. Therefore, the
//! gate is closed when a connection comes up and when Home Assistant leaves, and opens when Home Assistant listens
//! again, or after [`HOLD_AT_MOST`].

use std::time::Duration;

use tokio::time::Instant;

/// How long live events wait for Home Assistant at most.
pub const HOLD_AT_MOST: Duration = Duration::from_secs(30);

/// How long Home Assistant needs to subscribe to the topics of its entities after it listens to discovery, or has
/// published its birth message. docs/architecture.md contains the measurements.
pub const SETTLE_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// Home Assistant is not known to listen.
    Waiting,
    /// Home Assistant listens again; the gate opens at this time.
    Settling(Instant),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Presence {
    gate: Gate,
    /// When the gate was closed.
    closed_at: Instant,
    /// When the gate opens at the latest.
    deadline: Instant,
    /// How long the gate may stay closed on the next link, if the last link ended while it was closed. Without this
    /// limit, a link that is lost again and again would hold events forever.
    left: Option<Duration>,
    /// Whether Home Assistant has been away since the gate was closed.
    was_away: bool,
    /// Whether its will was the last message of Home Assistant.
    has_left: bool,
    /// When the gate opens, or opened, after Home Assistant last came back. A birth message less than
    /// [`HOLD_AT_MOST`] after that does not close it again.
    settled_at: Option<Instant>,
}

impl Presence {
    /// Creates an open gate.
    pub fn new(now: Instant) -> Self {
        Self {
            gate: Gate::Open,
            closed_at: now,
            deadline: now,
            left: None,
            was_away: false,
            has_left: false,
            settled_at: None,
        }
    }

    /// Closes the gate on a new link.
    pub fn link_up(&mut self, now: Instant) {
        self.gate = Gate::Waiting;
        self.closed_at = now;
        self.deadline = now + self.left.take().unwrap_or(HOLD_AT_MOST);
        self.was_away = false;
        self.has_left = false;
    }

    /// Records the end of the link.
    pub fn link_down(&mut self, now: Instant) {
        if self.gate != Gate::Open {
            self.left = Some(self.deadline.saturating_duration_since(now));
        }
        self.gate = Gate::Open;
    }

    /// Opens the gate, because nothing waits for Home Assistant: it was never seen on this broker, or the settings
    /// have changed.
    pub fn open(&mut self) {
        self.gate = Gate::Open;
        self.left = None;
    }

    /// Records whether Home Assistant listens to discovery.
    pub fn probed(&mut self, heard: bool, now: Instant) {
        if self.gate != Gate::Waiting {
            return;
        }
        if !heard {
            self.was_away = true;
        } else if self.was_away {
            self.settle(now);
        } else {
            self.open();
        }
        self.has_left &= !heard;
    }

    /// Records that Home Assistant has published its birth message.
    pub fn came(&mut self, now: Instant) {
        self.has_left = false;
        let recently = self.settled_at.is_some_and(|at| now < at + HOLD_AT_MOST);
        match self.gate {
            Gate::Open if recently => {}
            Gate::Open => {
                self.close(now);
                self.settle(now);
            }
            Gate::Waiting => self.settle(now),
            Gate::Settling(_) => {}
        }
    }

    /// Records that Home Assistant's will was published. A repeated one has no effect.
    pub fn left(&mut self, now: Instant) {
        if std::mem::replace(&mut self.has_left, true) {
            return;
        }
        if self.gate == Gate::Open {
            self.close(now);
        }
        self.gate = Gate::Waiting;
        self.was_away = true;
    }

    fn close(&mut self, now: Instant) {
        (self.closed_at, self.deadline) = (now, now + HOLD_AT_MOST);
    }

    fn settle(&mut self, now: Instant) {
        let until = (now + SETTLE_FOR).min(self.deadline);
        self.gate = Gate::Settling(until);
        self.settled_at = Some(until);
    }

    /// Opens the gate if it is time. Returns whether it is open.
    pub fn check(&mut self, now: Instant) -> bool {
        if self.opens_at().is_none_or(|at| at <= now) {
            self.open();
        }
        self.is_open()
    }

    /// Returns whether live events may be sent.
    pub fn is_open(&self) -> bool {
        self.gate == Gate::Open
    }

    /// Returns whether the gate is closed because Home Assistant is not known to listen.
    pub fn is_waiting(&self) -> bool {
        self.gate == Gate::Waiting
    }

    /// Returns when the gate opens at the latest, if it is closed.
    pub fn opens_at(&self) -> Option<Instant> {
        match self.gate {
            Gate::Open => None,
            Gate::Waiting => Some(self.deadline),
            Gate::Settling(until) => Some(until),
        }
    }

    /// Returns for how long the gate has been closed, if it is.
    pub fn closed_for(&self, now: Instant) -> Option<Duration> {
        (!self.is_open()).then(|| now.saturating_duration_since(self.closed_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate, and seconds since it was created.
    struct Scene {
        presence: Presence,
        start: Instant,
    }

    impl Scene {
        fn linked() -> Self {
            let start = Instant::now();
            let mut presence = Presence::new(start);
            assert!(presence.check(start), "nothing waits without a link");
            presence.link_up(start);
            Self { presence, start }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn is_open(&mut self, seconds: f64) -> bool {
            let at = self.at(seconds);
            self.presence.check(at)
        }

        /// Asserts that the gate is closed until this time, and then opens.
        fn opens_at(&mut self, seconds: f64) {
            assert!(!self.is_open(seconds - 0.01), "too early");
            assert!(self.is_open(seconds), "too late");
        }
    }

    const SETTLE: f64 = SETTLE_FOR.as_secs_f64();

    #[tokio::test]
    async fn a_short_disconnect_delays_nothing_if_home_assistant_listens() {
        let mut scene = Scene::linked();
        assert!(!scene.is_open(0.0));
        scene.presence.probed(true, scene.at(0.01));
        assert!(scene.is_open(0.01));
    }

    #[tokio::test]
    async fn live_events_wait_until_home_assistant_has_come_back_and_settled() {
        let mut scene = Scene::linked();
        scene.presence.probed(false, scene.at(0.0));
        assert!(!scene.is_open(8.0));
        scene.presence.probed(true, scene.at(8.0));
        scene.presence.came(scene.at(8.1));
        scene.opens_at(8.0 + SETTLE);
        scene.presence.came(scene.at(13.0));
        assert!(scene.is_open(13.0), "the birth message that belongs to the same start delays nothing");
    }

    #[tokio::test]
    async fn live_events_wait_for_the_birth_message_if_the_broker_cannot_tell_who_listens() {
        let mut scene = Scene::linked();
        scene.presence.came(scene.at(9.0));
        scene.opens_at(9.0 + SETTLE);
    }

    #[tokio::test]
    async fn live_events_wait_at_most_30_seconds() {
        let mut scene = Scene::linked();
        scene.presence.probed(false, scene.at(1.0));
        scene.opens_at(30.0);
        scene.presence.probed(false, scene.at(31.0));
        assert!(scene.is_open(31.0));
        scene.presence.came(scene.at(100.0));
        scene.opens_at(100.0 + SETTLE);

        let mut scene = Scene::linked();
        scene.presence.came(scene.at(29.0));
        scene.opens_at(30.0);
    }

    #[tokio::test]
    async fn live_events_wait_after_the_will_of_home_assistant() {
        let mut scene = Scene::linked();
        scene.presence.probed(true, scene.at(0.0));
        scene.presence.left(scene.at(50.0));
        assert!(!scene.is_open(50.0));
        scene.presence.probed(false, scene.at(51.0));
        scene.presence.probed(true, scene.at(58.0));
        scene.opens_at(58.0 + SETTLE);
        scene.presence.left(scene.at(70.0));
        scene.opens_at(100.0);
        scene.presence.left(scene.at(101.0));
        assert!(scene.is_open(101.0), "a will that is repeated has no effect");
        scene.presence.came(scene.at(102.0));
        scene.presence.left(scene.at(110.0));
        assert!(!scene.is_open(110.0));
    }

    #[tokio::test]
    async fn a_client_that_repeats_both_messages_cannot_hold_events_for_more_than_30_seconds() {
        let mut scene = Scene::linked();
        let mut opened = Vec::new();
        for second in 0_u32..300 {
            let second = f64::from(second);
            scene.presence.left(scene.at(second));
            scene.presence.came(scene.at(second + 0.5));
            if scene.is_open(second + 0.9) {
                opened.push(second);
            }
        }
        let gaps: Vec<_> = opened.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(!opened.is_empty() && gaps.iter().all(|gap| *gap <= 31.0), "{opened:?}");
    }

    #[tokio::test]
    async fn a_link_that_is_lost_again_and_again_holds_events_for_30_seconds_in_total() {
        let mut scene = Scene::linked();
        scene.presence.link_down(scene.at(20.0));
        scene.presence.link_up(scene.at(25.0));
        scene.opens_at(35.0);
        scene.presence.link_down(scene.at(40.0));
        scene.presence.link_up(scene.at(41.0));
        scene.opens_at(71.0);
    }
}
