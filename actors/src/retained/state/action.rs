//! The next action for a topic: send a message now, wait for a time, or wait for another topic.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    RECHECK_AFTER, RetainedState,
    entry::{Entry, Target},
};
use crate::domain::retained::{Content, Kind};

/// Maximum number of pictures in flight; each may have up to 2 MiB.
pub(super) const MAX_PICTURES: usize = 2;

/// Maximum number of states of one group in each [`PACE_INTERVAL`]: five a second. The interval is a little
/// longer than a second, in case the network bunches messages up, but short enough that states follow their
/// event within a second.
pub(super) const STATES_PER_INTERVAL: usize = 5;
pub(super) const PACE_INTERVAL: Duration = Duration::from_millis(1050);

/// Minimum time between two announcements of the same device. Home Assistant loses parts of a device message
/// that arrives while it is still loading what the previous one needs.
pub(super) const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long Home Assistant has to process discovery changes before the states that its entities used are
/// cleared.
pub(super) const QUIET_PERIOD: Duration = Duration::from_secs(1);

/// What to do next for a topic.
pub(super) enum Action {
    /// Send this message now.
    Send(Target),
    /// Examine the topic again at this time.
    NotBefore(Instant),
    /// Join the picture queue: the maximum number of pictures is in flight.
    QueuePicture,
    /// Wait for another message; its answer schedules the topic again.
    Blocked,
    /// Nothing: the topic is up to date, or cannot be changed on this connection.
    Nothing,
}

impl RetainedState {
    pub(super) fn next_action(&self, topic: &str, now: Instant) -> Action {
        let Some(entry) = self.entries.get(topic) else { return Action::Nothing };
        if entry.in_flight.is_some() || entry.superseded > 0 {
            return Action::Blocked;
        }
        let target = entry.target(self.leaving);
        let is_external = matches!(target, Target::Content(Content::External { .. }));
        if !entry.recorded || is_external || entry.acceptance(&target).is_some() {
            return Action::Nothing;
        }
        let handed_over_until = entry.handed_over_until.filter(|_| target.is_picture());
        if let Some(later) = not_before(entry.not_before.max(handed_over_until), now) {
            return later;
        }
        match (entry.group.0, &target) {
            (Kind::Discovery, Target::Nothing) => self.clear_discovery(entry),
            (Kind::Discovery, _) => self.announce(entry, target, now),
            (Kind::State, Target::Nothing) => self.clear_state(entry, now),
            (Kind::State, _) => self.publish_state(entry, target, now),
        }
    }

    fn siblings(&self, entry: &Entry) -> impl Iterator<Item = &Entry> {
        let topics = self.groups.get(&entry.group).map(|members| members.topics.iter());
        topics.into_iter().flatten().filter_map(|topic| self.entries.get(topic))
    }

    /// Clears a discovery topic. If its entity migrates, this takes three steps: the migration notice on the
    /// old topic, the announcement on the new topic, and then clearing the old topic.
    fn clear_discovery(&self, entry: &Entry) -> Action {
        if self.leaving || !entry.migrates {
            return Action::Send(Target::Nothing);
        }
        if !entry.notice_answered {
            return Action::Send(Target::MigrationNotice);
        }
        let is_answered = |sibling: &Entry| sibling.acceptance(&sibling.target(false)).is_some();
        if self.siblings(entry).all(|sibling| sibling.wanted.is_none() || is_answered(sibling)) {
            Action::Send(Target::Nothing)
        } else {
            Action::Blocked
        }
    }

    fn announce(&self, entry: &Entry, target: Target, now: Instant) -> Action {
        if self.siblings(entry).any(Entry::awaits_migration_notice) {
            return Action::Blocked;
        }
        not_before(entry.sent_at.map(|at| at + ANNOUNCE_AGAIN_AFTER), now).unwrap_or(Action::Send(target))
    }

    fn clear_state(&self, entry: &Entry, now: Instant) -> Action {
        if self.discovery_is_active() {
            return Action::NotBefore(now + RECHECK_AFTER);
        }
        let unwanted_at = entry.unwanted_at.filter(|_| !self.leaving);
        let last = unwanted_at.max(self.discovery_answered_at);
        not_before(last.map(|at| at + QUIET_PERIOD), now).unwrap_or(Action::Send(Target::Nothing))
    }

    fn publish_state(&self, entry: &Entry, target: Target, now: Instant) -> Action {
        if target.is_picture() && self.pictures_in_flight >= MAX_PICTURES {
            return Action::QueuePicture;
        }
        let sent = self.groups.get(&entry.group).map(|members| &members.sent);
        let oldest = sent.filter(|sent| sent.len() >= STATES_PER_INTERVAL).and_then(VecDeque::front);
        not_before(oldest.map(|at| *at + PACE_INTERVAL), now).unwrap_or(Action::Send(target))
    }
}

fn not_before(at: Option<Instant>, now: Instant) -> Option<Action> {
    at.filter(|at| *at > now).map(Action::NotBefore)
}
