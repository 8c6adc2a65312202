//! What may be sent on a topic now, and what it has to wait for otherwise.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    LOOK_AGAIN, RetainedState,
    entry::{Entry, Target},
};
use crate::domain::retained::{Content, Kind};

/// Pictures on their way at a time: each may take 2 MiB.
pub(super) const MAX_PICTURES: usize = 2;

/// So many states of one camera leave in [`SPAN`]: five a second, with a little reserve for a network that bunches them up,
/// and no more of it, so that states follow their event within a second.
pub(super) const STATES_PER_SPAN: usize = 5;
pub(super) const SPAN: Duration = Duration::from_millis(1050);

/// Home Assistant loses parts of a device message that comes right after another one for the same device, while it loads
/// what the first one needs.
pub(super) const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// So long Home Assistant gets to take in what discovery told it, before the states are cleared that it listened to.
pub(super) const QUIET: Duration = Duration::from_secs(1);

pub(super) enum Action {
    Send(Target),
    NotBefore(Instant),
    /// As soon as a picture that is on its way makes room.
    InLine,
    /// Something else comes before; when that is done, the topic is looked at again.
    Waits,
    /// Nothing to do.
    Settled,
}

impl RetainedState {
    pub(super) fn verdict(&self, topic: &str, now: Instant) -> Action {
        let Some(entry) = self.entries.get(topic) else { return Action::Settled };
        if entry.flying.is_some() {
            return Action::Waits;
        }
        let desired = entry.desired(self.leaving);
        let is_elsewhere = matches!(desired, Target::Content(Content::External { .. }));
        if !entry.row || is_elsewhere || entry.stands(&desired).is_some() {
            return Action::Settled;
        }
        if let Some(later) = not_before(entry.not_before, now) {
            return later;
        }
        match (entry.group.0, &desired) {
            (Kind::Discovery, Target::Nothing) => self.clear_discovery(entry),
            (Kind::Discovery, _) => self.announce(entry, desired, now),
            (Kind::State, Target::Nothing) => self.clear_state(entry, now),
            (Kind::State, _) => self.publish_state(entry, desired, now),
        }
    }

    fn siblings(&self, entry: &Entry) -> impl Iterator<Item = &Entry> {
        let topics = self.groups.get(&entry.group).map(|members| members.topics.iter());
        topics.into_iter().flatten().filter_map(|topic| self.entries.get(topic))
    }

    /// Entities that move are told first, then announced anew, then cleared at the old topic.
    fn clear_discovery(&self, entry: &Entry) -> Action {
        if self.leaving || !entry.migrates {
            return Action::Send(Target::Nothing);
        }
        if !entry.told {
            return Action::Send(Target::Moves);
        }
        let is_announced = |sibling: &Entry| sibling.stands(&sibling.desired(false)).is_some();
        if self.siblings(entry).all(|sibling| sibling.wanted.is_none() || is_announced(sibling)) {
            Action::Send(Target::Nothing)
        } else {
            Action::Waits
        }
    }

    fn announce(&self, entry: &Entry, desired: Target, now: Instant) -> Action {
        if self.siblings(entry).any(Entry::is_to_be_told) {
            return Action::Waits;
        }
        not_before(entry.sent_at.map(|at| at + ANNOUNCE_AGAIN_AFTER), now).unwrap_or(Action::Send(desired))
    }

    fn clear_state(&self, entry: &Entry, now: Instant) -> Action {
        if self.discovery_is_open() {
            return Action::NotBefore(now + LOOK_AGAIN);
        }
        let unwanted_at = entry.unwanted_at.filter(|_| !self.leaving);
        let last = unwanted_at.max(self.discovery_done_at);
        not_before(last.map(|at| at + QUIET), now).unwrap_or(Action::Send(Target::Nothing))
    }

    fn publish_state(&self, entry: &Entry, desired: Target, now: Instant) -> Action {
        if desired.is_picture() && self.pictures >= MAX_PICTURES {
            return Action::InLine;
        }
        let recent = self.groups.get(&entry.group).map(|members| &members.recent);
        let oldest = recent.filter(|recent| recent.len() >= STATES_PER_SPAN).and_then(VecDeque::front);
        not_before(oldest.map(|at| *at + SPAN), now).unwrap_or(Action::Send(desired))
    }
}

fn not_before(at: Option<Instant>, now: Instant) -> Option<Action> {
    at.filter(|at| *at > now).map(Action::NotBefore)
}
