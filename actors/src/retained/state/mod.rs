//! The state machine behind the `RetainedActor`. It compares the message that each topic should hold with the
//! one that the broker is known to retain, and returns the messages that remove the differences. Time is
//! passed in; there is no I/O.
//!
//! # How it works
//!
//! Each topic has an [`Entry`](entry::Entry). Its *target* is the message that the topic should hold;
//! *published* is the message that the broker last acknowledged. When they differ, or may differ, the topic
//! is scheduled in the [`DueQueue`]. [`RetainedState::next_job`] takes the topics that are due and decides on
//! an [`Action`] for each: send the target, wait until a time, wait for room for a picture (in the *picture
//! queue*), or wait for another message. The caller sends the [`Job`]s and passes the broker's answers to
//! [`RetainedState::answered`].
//!
//! Topics form groups: the states of one camera, or the discovery of one device. A group also lists its
//! [`PreviousTopic`]s, where the same entities may have been announced before. Topics with
//! [`Content::External`] are published by another part of the service; here they are only cleared.
//!
//! The database has a table with one row for each topic that may hold a message of this service. A wanted
//! topic without a row is *unrecorded*: its row is written first. A row whose topic is not in any group is
//! *orphaned*: it is cleared once every owner has reported its groups.
//!
//! # What it guarantees
//!
//! - A message is sent only after its topic has a row, so the topic can be cleared later, even after a crash.
//! - The newest content wins; content in between is skipped, not queued.
//! - At most [`STATES_PER_INTERVAL`] states of a group are sent in each
//!   [`PACE_INTERVAL`](action::PACE_INTERVAL), not counting pictures that are [handed over](RetainedState::hand_over).
//! - A device is not announced again within [`ANNOUNCE_AGAIN_AFTER`](action::ANNOUNCE_AGAIN_AFTER).
//! - Entities migrate in order: the migration notice on the old topic, the announcement on the new one, then
//!   clearing the old one.
//! - States are cleared only after discovery has been quiet for [`QUIET_PERIOD`](action::QUIET_PERIOD).

mod action;
mod claims;
mod due_queue;
mod entry;
mod hand_over;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use self::{
    action::{Action, MAX_PICTURES, STATES_PER_INTERVAL},
    due_queue::DueQueue,
    entry::{Entry, GroupKey},
};
pub use self::{entry::Target, hand_over::HandOver};
use crate::domain::retained::{Content, Group, Kind, Owner, PreviousTopic, Wanted};

/// Maximum number of messages in flight. This is below the limit of a connection, which leaves room for test
/// messages.
const MAX_IN_FLIGHT: usize = 24;

/// How soon to check again whether discovery has finished.
const RECHECK_AFTER: Duration = Duration::from_millis(50);

/// How soon to send a message again that the broker neither accepted nor refused for good.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The purpose of the message.
    pub kind: Kind,
    /// The topic.
    pub topic: String,
    /// The message.
    pub target: Target,
}

/// The members of a group.
#[derive(Debug, Default)]
struct Members {
    owner: Option<Owner>,
    topics: BTreeSet<String>,
    previous: Vec<PreviousTopic>,
    /// When the latest states were sent, at most [`STATES_PER_INTERVAL`] of them.
    sent: VecDeque<Instant>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct RetainedState {
    entries: HashMap<String, Entry>,
    groups: BTreeMap<GroupKey, Members>,
    /// Owners that have reported all of their groups.
    reported: BTreeSet<Owner>,
    /// Whether there is a connection and its broker's rows have been read.
    linked: bool,
    /// Whether the service is leaving this broker and clears everything.
    leaving: bool,
    /// Topics that have a row but belong to no group.
    orphaned: BTreeMap<String, Kind>,
    /// Topics that need a row before anything can be sent to them.
    unrecorded: BTreeSet<String>,
    /// Topics whose rows must be removed.
    cleared: BTreeSet<String>,
    /// Topics to examine, and when.
    due_queue: DueQueue,
    /// Topics whose pictures wait until fewer pictures are in flight.
    picture_queue: DueQueue,
    /// Topics that have, or may have, a message to send or in flight.
    active: BTreeSet<(Kind, String)>,
    in_flight: usize,
    pictures_in_flight: usize,
    /// When the broker last answered a discovery message.
    discovery_answered_at: Option<Instant>,
}

impl RetainedState {
    /// Starts a connection, the first one or the next one after [`link_down`](Self::link_down). `rows` are
    /// the topics of its broker that may hold a message of this service.
    pub fn link_up(&mut self, rows: Vec<(String, Kind)>, now: Instant) {
        self.linked = true;
        self.orphaned = rows.into_iter().collect();
        for topic in self.topics() {
            let recorded = self.orphaned.remove(&topic).is_some();
            if let Some(entry) = self.entries.get_mut(&topic) {
                entry.recorded = recorded;
            }
            self.request_row(&topic);
            self.schedule(&topic, now);
        }
        self.claim_orphaned(now);
    }

    /// Returns whether there is a connection and its broker's rows are known.
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// Ends the connection, and discards the state of its broker.
    pub fn link_down(&mut self) {
        (self.linked, self.leaving) = (false, false);
        self.orphaned.clear();
        self.unrecorded.clear();
        self.cleared.clear();
        self.due_queue.clear();
        self.picture_queue.clear();
        self.active.clear();
        (self.in_flight, self.pictures_in_flight, self.discovery_answered_at) = (0, 0, None);
        self.entries.retain(|_, entry| entry.wanted.is_some());
        self.entries.values_mut().for_each(Entry::link_down);
        let entries = &self.entries;
        self.groups.retain(|_, members| {
            members.topics.retain(|topic| entries.contains_key(topic));
            !members.topics.is_empty()
        });
    }

    /// Returns all topics by group, discovery first.
    fn topics(&self) -> Vec<String> {
        self.groups.values().flat_map(|members| members.topics.iter().cloned()).collect()
    }

    /// Starts to clear everything on this broker, which the service leaves for another one. Later requests of
    /// the owners apply to the next broker.
    pub fn leave(&mut self, now: Instant) {
        self.leaving = true;
        self.unrecorded.clear();
        for topic in self.topics() {
            self.schedule(&topic, now);
        }
    }

    /// Returns whether the broker has answered every message that clears a topic. Rows may still have to be
    /// removed.
    pub fn has_left(&self) -> bool {
        self.linked && self.leaving && self.active.is_empty()
    }

    /// Replaces all groups of an owner; its other groups are cleared.
    pub fn put_all(&mut self, owner: Owner, groups: Vec<Group>, now: Instant) {
        let kept: BTreeSet<GroupKey> =
            groups.iter().map(|group| (group.kind, Arc::clone(&group.name))).collect();
        let gone: Vec<GroupKey> = self
            .groups
            .iter()
            .filter(|(key, members)| members.owner == Some(owner) && !kept.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for group in groups {
            self.put(owner, group, now);
        }
        for (kind, name) in gone {
            self.put(owner, Group { kind, name, wanted: Vec::new(), previous: Vec::new() }, now);
        }
        self.reported.insert(owner);
        self.claim_orphaned(now);
    }

    /// Replaces one group; its other topics are cleared.
    pub fn put(&mut self, owner: Owner, group: Group, now: Instant) {
        let Group { kind, name, wanted, previous } = group;
        let key = (kind, name);
        let members = self.groups.entry(key.clone()).or_default();
        members.owner = Some(owner);
        members.previous = previous;
        let unwanted: Vec<String> = members
            .topics
            .iter()
            .filter(|topic| !wanted.iter().any(|wanted| wanted.topic == **topic))
            .cloned()
            .collect();
        for Wanted { topic, content } in wanted {
            self.want(&key, &topic, content, now);
        }
        for topic in unwanted {
            self.unwant(&key, &topic, now);
        }
        self.claim_previous(&key, now);
        self.drop_if_empty(&key);
    }

    /// Schedules all wanted messages of a kind to be sent again, whether or not the broker has them. Returns
    /// their topics by group.
    pub fn republish(&mut self, kind: Kind, now: Instant) -> BTreeMap<Arc<str>, Vec<String>> {
        let mut groups: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
        for (topic, entry) in &mut self.entries {
            if entry.group.0 == kind && entry.wanted.is_some() {
                (entry.published, entry.refused) = (None, None);
                groups.entry(Arc::clone(&entry.group.1)).or_default().push(topic.clone());
            }
        }
        for topic in groups.values().flatten() {
            self.schedule(topic, now);
        }
        groups
    }

    /// Returns whether the broker accepted the topic's target: `Some(true)` if it is published, `Some(false)`
    /// if it was refused, and `None` if that is not known yet.
    pub fn acceptance(&self, topic: &str) -> Option<bool> {
        let Some(entry) = self.entries.get(topic) else { return Some(true) };
        entry.acceptance(&entry.target(self.leaving))
    }

    /// Returns the next message that can be sent now.
    pub fn next_job(&mut self, now: Instant) -> Option<Job> {
        while self.linked && self.in_flight < MAX_IN_FLIGHT {
            if self.pictures_in_flight < MAX_PICTURES
                && let Some(picture) = self.picture_queue.pop(now)
            {
                self.due_queue.add(&picture, now);
            }
            let topic = self.due_queue.pop(now)?;
            match self.next_action(&topic, now) {
                Action::Send(target) => return Some(self.start_job(topic, target, now)),
                Action::NotBefore(at) => self.due_queue.add(&topic, at),
                Action::QueuePicture => self.picture_queue.add(&topic, now),
                Action::Blocked => {}
                Action::Nothing => self.deactivate(&topic),
            }
        }
        None
    }

    /// Returns when [`next_job`](Self::next_job) must be called again, unless another call is made earlier.
    pub fn next_due(&self) -> Option<Instant> {
        self.due_queue.first().filter(|_| self.linked && self.in_flight < MAX_IN_FLIGHT)
    }

    fn start_job(&mut self, topic: String, target: Target, now: Instant) -> Job {
        if let Some(entry) = self.entries.get(&topic).filter(|entry| entry.group.0 == Kind::State)
            && let Some(members) = self.groups.get_mut(&entry.group)
        {
            members.sent.push_back(now);
            if members.sent.len() > STATES_PER_INTERVAL {
                members.sent.pop_front();
            }
        }
        self.start_unpaced(topic, target, now)
    }

    fn start_unpaced(&mut self, topic: String, target: Target, now: Instant) -> Job {
        self.in_flight += 1;
        self.pictures_in_flight += usize::from(target.is_picture());
        let entry = self.entries.get_mut(&topic).expect("only an existing entry has something to send");
        entry.is_reading = target.is_picture();
        entry.superseded += usize::from(entry.in_flight.is_some());
        (entry.in_flight, entry.sent_at) = (Some(target.clone()), Some(now));
        Job { kind: entry.group.0, topic, target }
    }

    /// Records the broker's answer to a job: whether it accepted the message. `None` means that this is not
    /// known, or that the message must be sent again.
    pub fn answered(&mut self, job: &Job, accepted: Option<bool>, now: Instant) {
        let Job { topic, target, .. } = job;
        let Some(entry) = self.entries.get_mut(topic) else { return };
        if entry.in_flight.as_ref() != Some(target) {
            return self.superseded_answered(job, now);
        }
        (entry.in_flight, entry.is_reading) = (None, false);
        match accepted {
            Some(true) => entry.published = Some(target.clone()),
            Some(false) => entry.refused = Some(target.clone()),
            None => entry.published = None,
        }
        entry.notice_answered |= *target == Target::MigrationNotice && accepted.is_some();
        let group = entry.group.clone();
        self.in_flight -= 1;
        self.pictures_in_flight -= usize::from(target.is_picture());
        entry.not_before = accepted.is_none().then_some(now + RETRY_AFTER);
        self.schedule(topic, now);
        if accepted == Some(true) && *target == Target::Nothing {
            self.topic_cleared(topic);
        }
        if group.0 == Kind::Discovery {
            self.discovery_answered_at = Some(now);
            // Other topics in the group may have waited for this answer.
            let topics = self.groups.get(&group).map(|members| members.topics.clone()).unwrap_or_default();
            for topic in topics {
                self.schedule(&topic, now);
            }
        }
    }

    /// Records that the broker no longer retains a message on the topic.
    fn topic_cleared(&mut self, topic: &str) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        if self.leaving && entry.is_external() {
            // Its publisher may still write to it before the connection ends. The row stays, so that the
            // topic is cleared when this broker is used again.
            return;
        }
        entry.recorded = false;
        let is_unwanted = entry.wanted.is_none();
        self.cleared.insert(topic.to_owned());
        if is_unwanted {
            self.remove(topic);
        } else {
            self.request_row(topic);
        }
    }

    fn want(&mut self, key: &GroupKey, topic: &str, content: Content, now: Instant) {
        let entry = self.adopt(topic, key);
        let unchanged = entry.wanted.as_ref() == Some(&content);
        (entry.wanted, entry.unwanted_at) = (Some(content), None);
        (entry.migrates, entry.notice_answered) = (false, false);
        if !unchanged {
            entry.refused = None;
            self.schedule(topic, now);
        }
        self.request_row(topic);
    }

    fn unwant(&mut self, key: &GroupKey, topic: &str, now: Instant) {
        let migrates = self.groups.get(key).is_some_and(|members| {
            members.previous.iter().any(|previous| previous.migrates && previous.topic == topic)
        });
        let Some(entry) = self.entries.get_mut(topic) else { return };
        entry.migrates = migrates;
        if entry.wanted.take().is_some() {
            (entry.notice_answered, entry.unwanted_at) = (false, Some(now));
            // An earlier clearing proves nothing: another part of the service may have published since, and
            // the row must be removed.
            entry.published.take_if(|published| *published == Target::Nothing);
        }
        if self.linked && (entry.recorded || entry.in_flight.is_some()) {
            self.schedule(topic, now);
        } else {
            // If the topic has a row for any broker, that row is enough to clear it later.
            self.remove(topic);
        }
    }

    /// Schedules the topic to be examined at `at`, unless it is already scheduled for an earlier time.
    fn schedule(&mut self, topic: &str, at: Instant) {
        if self.linked
            && let Some(entry) = self.entries.get(topic)
        {
            self.active.insert((entry.group.0, topic.to_owned()));
            self.due_queue.add(topic, at);
        }
    }

    /// Records that the topic has nothing to send.
    fn deactivate(&mut self, topic: &str) {
        if let Some(entry) = self.entries.get(topic) {
            self.active.remove(&(entry.group.0, topic.to_owned()));
        }
    }

    fn discovery_is_active(&self) -> bool {
        self.active.first().is_some_and(|(kind, _)| *kind == Kind::Discovery)
    }

    fn remove(&mut self, topic: &str) {
        let Some(entry) = self.entries.remove(topic) else { return };
        self.due_queue.remove(topic);
        self.picture_queue.remove(topic);
        self.detach(topic, &entry.group);
    }

    /// Removes the topic from the group.
    fn detach(&mut self, topic: &str, key: &GroupKey) {
        self.active.remove(&(key.0, topic.to_owned()));
        if let Some(members) = self.groups.get_mut(key) {
            members.topics.remove(topic);
        }
        self.drop_if_empty(key);
    }

    fn drop_if_empty(&mut self, key: &GroupKey) {
        if self.groups.get(key).is_some_and(|members| members.topics.is_empty()) {
            self.groups.remove(key);
        }
    }
}
