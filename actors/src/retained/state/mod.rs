//! What stands at the broker, what is to stand there, and what has to be sent next so that the two become one. Pure.
//!
//! Promises: a topic is sent only when the table has its row, so that it can be cleared later whatever happens; the newest
//! content wins; of a group of states no more than [`STATES_PER_SPAN`](action::STATES_PER_SPAN) messages leave in
//! [`SPAN`](action::SPAN); a device is not announced again within
//! [`ANNOUNCE_AGAIN_AFTER`](action::ANNOUNCE_AGAIN_AFTER); entities that move to another topic are told first, then
//! announced anew, then cleared at the old one; states are cleared only when discovery has been quiet for
//! [`QUIET`](action::QUIET).

mod action;
mod claims;
mod due_queue;
mod entry;
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

pub use self::entry::Target;
use self::{
    action::{Action, MAX_PICTURES, STATES_PER_SPAN},
    due_queue::DueQueue,
    entry::{Entry, GroupKey},
};
use crate::domain::retained::{Content, Group, Kind, Owner, PreviousTopic, Wanted};

/// Messages on their way at a time: below what a connection takes, so that tests and the like find room.
const MAX_FLYING: usize = 24;

/// How often to look whether something else has made way.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// When to try again what the broker has neither taken nor refused for good.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What for.
    pub kind: Kind,
    /// Where.
    pub topic: String,
    /// What.
    pub mark: Target,
}

#[derive(Debug, Default)]
struct Members {
    owner: Option<Owner>,
    topics: BTreeSet<String>,
    former: Vec<PreviousTopic>,
    /// When the newest states left.
    recent: VecDeque<Instant>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct RetainedState {
    entries: HashMap<String, Entry>,
    groups: BTreeMap<GroupKey, Members>,
    /// Who has said what is to stand.
    heard: BTreeSet<Owner>,
    linked: bool,
    /// The broker is left for good: everything is cleared.
    leaving: bool,
    /// Topics of the table that nobody has claimed yet.
    orphaned: BTreeMap<String, Kind>,
    /// Topics that need a row before anything can be sent there.
    unrecorded: BTreeSet<String>,
    /// Topics that need their row no more.
    cleared: BTreeSet<String>,
    /// What has to be looked at, and when.
    agenda: DueQueue,
    /// Pictures that are to be looked at when another one has made room.
    picture_queue: DueQueue,
    /// What has something to send or on its way, or may have.
    open: BTreeSet<(Kind, String)>,
    flying: usize,
    pictures: usize,
    /// When the broker answered the newest discovery message.
    discovery_done_at: Option<Instant>,
}

impl RetainedState {
    /// A link came up, the first one or after a [`link_down`](Self::link_down); the table says that these topics may hold
    /// something of ours.
    pub fn link_up(&mut self, rows: Vec<(String, Kind)>, now: Instant) {
        self.linked = true;
        self.orphaned = rows.into_iter().collect();
        for topic in self.topics() {
            let row = self.orphaned.remove(&topic).is_some();
            if let Some(entry) = self.entries.get_mut(&topic) {
                entry.row = row;
            }
            self.needs_row(&topic);
            self.look_at(&topic, now);
        }
        self.claim(now);
    }

    /// Whether a link is up, and the table is known.
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// The link is gone, and with it what was known of the broker.
    pub fn link_down(&mut self) {
        (self.linked, self.leaving) = (false, false);
        self.orphaned.clear();
        self.unrecorded.clear();
        self.cleared.clear();
        self.agenda.clear();
        self.picture_queue.clear();
        self.open.clear();
        (self.flying, self.pictures, self.discovery_done_at) = (0, 0, None);
        self.entries.retain(|_, entry| entry.wanted.is_some());
        self.entries.values_mut().for_each(Entry::link_down);
        let entries = &self.entries;
        self.groups.retain(|_, members| {
            members.topics.retain(|topic| entries.contains_key(topic));
            !members.topics.is_empty()
        });
    }

    /// All of them, by group: discovery first.
    fn topics(&self) -> Vec<String> {
        self.groups.values().flat_map(|members| members.topics.iter().cloned()).collect()
    }

    /// The broker is left for good: from now on nothing is to stand there. What is wanted is wanted of the next one.
    pub fn leave(&mut self, now: Instant) {
        self.leaving = true;
        self.unrecorded.clear();
        for topic in self.topics() {
            self.look_at(&topic, now);
        }
    }

    /// Whether everything that was to be cleared is, apart from the rows that are still to be removed.
    pub fn has_left(&self) -> bool {
        self.linked && self.leaving && self.open.is_empty()
    }

    /// From now on this is to stand, and of this owner nothing else.
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
            self.put(owner, Group { kind, name, wanted: Vec::new(), former: Vec::new() }, now);
        }
        self.heard.insert(owner);
        self.claim(now);
    }

    /// From now on this is to stand of one group.
    pub fn put(&mut self, owner: Owner, group: Group, now: Instant) {
        let Group { kind, name, wanted, former } = group;
        let key = (kind, name);
        let members = self.groups.entry(key.clone()).or_default();
        members.owner = Some(owner);
        members.former = former;
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
        self.claim_former(&key, now);
        self.drop_if_empty(&key);
    }

    /// Sends everything of this kind again, whether the broker has it or not; answers which topics that are, by group.
    pub fn again(&mut self, kind: Kind, now: Instant) -> BTreeMap<Arc<str>, Vec<String>> {
        let mut groups: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
        for (topic, entry) in &mut self.entries {
            if entry.group.0 == kind && entry.wanted.is_some() {
                (entry.standing, entry.refused) = (None, None);
                groups.entry(Arc::clone(&entry.group.1)).or_default().push(topic.clone());
            }
        }
        for topic in groups.values().flatten() {
            self.look_at(topic, now);
        }
        groups
    }

    /// Whether the topic is one of ours.
    pub fn knows(&self, topic: &str) -> bool {
        self.entries.contains_key(topic)
    }

    /// How a topic stands: `Some(true)`: as it is wanted; `Some(false)`: the broker refused it; `None`: not yet known.
    pub fn stands(&self, topic: &str) -> Option<bool> {
        let Some(entry) = self.entries.get(topic) else { return Some(true) };
        entry.stands(&entry.desired(self.leaving))
    }

    /// What to send now, if anything.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        while self.linked && self.flying < MAX_FLYING {
            if self.pictures < MAX_PICTURES
                && let Some(picture) = self.picture_queue.pop(now)
            {
                self.agenda.add(&picture, now);
            }
            let topic = self.agenda.pop(now)?;
            match self.verdict(&topic, now) {
                Action::Send(mark) => return Some(self.send(topic, mark, now)),
                Action::NotBefore(at) => self.agenda.add(&topic, at),
                Action::InLine => self.picture_queue.add(&topic, now),
                Action::Waits => {}
                Action::Settled => self.close(&topic),
            }
        }
        None
    }

    /// When something is due that is not due now.
    pub fn due(&self) -> Option<Instant> {
        self.agenda.first().filter(|_| self.linked && self.flying < MAX_FLYING)
    }

    fn send(&mut self, topic: String, mark: Target, now: Instant) -> Job {
        self.flying += 1;
        self.pictures += usize::from(mark.is_picture());
        let entry = self.entries.get_mut(&topic).expect("there is a verdict on it");
        (entry.flying, entry.sent_at) = (Some(mark.clone()), Some(now));
        let kind = entry.group.0;
        if kind == Kind::State
            && let Some(members) = self.groups.get_mut(&entry.group)
        {
            members.recent.push_back(now);
            if members.recent.len() > STATES_PER_SPAN {
                members.recent.pop_front();
            }
        }
        Job { kind, topic, mark }
    }

    /// The broker's answer to a job: whether it has taken it; `None`: that is not known, or it is to be tried again.
    pub fn answered(&mut self, job: &Job, taken: Option<bool>, now: Instant) {
        let Job { topic, mark, .. } = job;
        let Some(entry) = self.entries.get_mut(topic).filter(|entry| entry.flying.is_some()) else { return };
        entry.flying = None;
        match taken {
            Some(true) => entry.standing = Some(mark.clone()),
            Some(false) => entry.refused = Some(mark.clone()),
            None => entry.standing = None,
        }
        entry.told |= *mark == Target::Moves && taken.is_some();
        let group = entry.group.clone();
        self.flying -= 1;
        self.pictures -= usize::from(mark.is_picture());
        entry.not_before = taken.is_none().then_some(now + TRY_AGAIN_AFTER);
        self.look_at(topic, now);
        if taken == Some(true) && *mark == Target::Nothing {
            self.is_cleared(topic);
        }
        if group.0 == Kind::Discovery {
            self.discovery_done_at = Some(now);
            // What it held up in its group may go on.
            let topics = self.groups.get(&group).map(|members| members.topics.clone()).unwrap_or_default();
            for topic in topics {
                self.look_at(&topic, now);
            }
        }
    }

    /// The broker has nothing there any more.
    fn is_cleared(&mut self, topic: &str) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        if self.leaving && entry.is_elsewhere() {
            // Others may publish there while we leave: it is looked after when the broker is used again.
            return;
        }
        entry.row = false;
        let is_over = entry.wanted.is_none();
        self.cleared.insert(topic.to_owned());
        if is_over {
            self.remove(topic);
        } else {
            self.needs_row(topic);
        }
    }

    fn want(&mut self, key: &GroupKey, topic: &str, content: Content, now: Instant) {
        let entry = self.adopt(topic, key);
        let unchanged = entry.wanted.as_ref() == Some(&content);
        (entry.wanted, entry.unwanted_at) = (Some(content), None);
        (entry.migrates, entry.told) = (false, false);
        if !unchanged {
            entry.refused = None;
            self.look_at(topic, now);
        }
        self.needs_row(topic);
    }

    fn unwant(&mut self, key: &GroupKey, topic: &str, now: Instant) {
        let migrates = self.groups.get(key).is_some_and(|members| {
            members.former.iter().any(|former| former.migrates && former.topic == topic)
        });
        let Some(entry) = self.entries.get_mut(topic) else { return };
        entry.migrates = migrates;
        if entry.wanted.take().is_some() {
            (entry.told, entry.unwanted_at) = (false, Some(now));
            // That it was cleared before tells nothing: others may have published since, and the row is to go.
            entry.standing.take_if(|standing| *standing == Target::Nothing);
        }
        if self.linked && (entry.row || entry.flying.is_some()) {
            self.look_at(topic, now);
        } else {
            // The table has its row, if it ever had one on any broker.
            self.remove(topic);
        }
    }

    /// Has the topic looked at, at `at`, or before if that was planned.
    fn look_at(&mut self, topic: &str, at: Instant) {
        if self.linked
            && let Some(entry) = self.entries.get(topic)
        {
            self.open.insert((entry.group.0, topic.to_owned()));
            self.agenda.add(topic, at);
        }
    }

    /// There is nothing to do for the topic.
    fn close(&mut self, topic: &str) {
        if let Some(entry) = self.entries.get(topic) {
            self.open.remove(&(entry.group.0, topic.to_owned()));
        }
    }

    fn discovery_is_open(&self) -> bool {
        self.open.first().is_some_and(|(kind, _)| *kind == Kind::Discovery)
    }

    fn remove(&mut self, topic: &str) {
        let Some(entry) = self.entries.remove(topic) else { return };
        self.agenda.remove(topic);
        self.picture_queue.remove(topic);
        self.dismiss(topic, &entry.group);
    }

    /// The topic is not one of this group any more.
    fn dismiss(&mut self, topic: &str, key: &GroupKey) {
        self.open.remove(&(key.0, topic.to_owned()));
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
