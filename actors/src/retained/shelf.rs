//! What stands at the broker, what is to stand there, and what has to be sent next so that the two become one. Pure.
//!
//! Promises: a topic is sent only when the table has its row, so that it can be cleared later whatever happens; the newest
//! content wins; of a group of states no more than [`STATES_PER_SPAN`] messages leave in [`SPAN`]; a device is not
//! announced again within [`ANNOUNCE_AGAIN_AFTER`]; entities that move to another topic are told first, then announced
//! anew, then cleared at the old one; states are cleared only when discovery has been quiet for [`QUIET`].

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{Content, Former, Group, Kind, OWNERS, Owner, Wanted};

/// Messages on their way at a time: below what a connection takes, so that tests and the like find room.
const MAX_FLYING: usize = 24;
/// Pictures on their way at a time: each may take 2 MiB.
const MAX_PICTURES: usize = 2;

/// So many states of one camera leave in [`SPAN`]: fewer than five a second, also where the network bunches them up.
const STATES_PER_SPAN: usize = 5;
const SPAN: Duration = Duration::from_millis(1250);

/// Home Assistant loses parts of a device message that comes right after another one for the same device, while it loads
/// what the first one needs.
const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// So long Home Assistant gets to take in what discovery told it, before the states are cleared that it listened to.
const QUIET: Duration = Duration::from_secs(1);

/// What even a broker that is left for another one keeps.
const STAYS: Content = Content::Elsewhere { stays: true };

/// How often to look whether something else has made way.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What the broker is asked to keep on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// This.
    Content(Content),
    /// The word that its entity moves to another topic.
    Moves,
    /// Nothing.
    Nothing,
}

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Where.
    pub topic: String,
    /// What.
    pub mark: Mark,
}

type GroupKey = (Kind, Arc<str>);

#[derive(Debug)]
struct Entry {
    group: GroupKey,
    /// `None`: nothing is to stand there any more.
    wanted: Option<Content>,
    /// Whether the entities are told to move before the topic is cleared.
    migrates: bool,
    /// Whether the table has the topic.
    row: bool,
    /// What the broker is known to have since the link came up.
    standing: Option<Mark>,
    flying: Option<Mark>,
    /// What the broker did not take; it is not offered again on this link.
    refused: Option<Mark>,
    sent_at: Option<Instant>,
    /// Since when nothing is to stand there.
    unwanted_at: Option<Instant>,
    queued: Option<(Instant, u64)>,
}

#[derive(Debug, Default)]
struct Members {
    owner: Option<Owner>,
    topics: BTreeSet<String>,
    former: Vec<Former>,
    /// When the newest states left.
    recent: VecDeque<Instant>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Shelf {
    entries: HashMap<String, Entry>,
    groups: BTreeMap<GroupKey, Members>,
    /// Who has said what is to stand.
    heard: BTreeSet<Owner>,
    /// Topics of the table that nobody has claimed yet.
    unclaimed: BTreeMap<String, Kind>,
    /// What has to be looked at, and when; the number keeps the order.
    queue: BTreeSet<(Instant, u64, String)>,
    order: u64,
    linked: bool,
    /// The broker is left for good: everything is cleared.
    leaving: bool,
    flying: usize,
    pictures: usize,
    /// When the broker answered the newest discovery message.
    discovery_done_at: Option<Instant>,
    /// Whether discovery messages are due or on their way, as of when: looking takes a while.
    discovery_busy: Cell<Option<(Instant, bool)>>,
    /// Topics that need a row before anything can be sent there.
    rowless: BTreeSet<String>,
    cleared: Vec<String>,
}

enum Verdict {
    Send(Mark),
    NotBefore(Instant),
    /// Nothing to do, or nothing before something else happens that queues it again.
    Rest,
}

impl Shelf {
    /// A link came up; the table says that these topics may hold something of ours.
    pub fn link_up(&mut self, rows: Vec<(String, Kind)>, now: Instant) {
        self.link_down();
        self.linked = true;
        self.unclaimed = rows.into_iter().collect();
        for (topic, entry) in &mut self.entries {
            entry.row = self.unclaimed.remove(topic).is_some();
            if !entry.row {
                self.rowless.insert(topic.clone());
            }
        }
        self.claim(now);
        let topics: Vec<String> = self.entries.keys().cloned().collect();
        for topic in topics {
            self.queue(&topic, now);
        }
    }

    /// The link is gone, and with it what was known of the broker.
    pub fn link_down(&mut self) {
        self.linked = false;
        self.leaving = false;
        self.unclaimed.clear();
        self.queue.clear();
        self.cleared.clear();
        self.rowless.clear();
        self.discovery_busy.set(None);
        (self.flying, self.pictures, self.discovery_done_at) = (0, 0, None);
        self.entries.retain(|_, entry| entry.wanted.is_some());
        for entry in self.entries.values_mut() {
            (entry.row, entry.standing, entry.flying, entry.refused) = (false, None, None, None);
            (entry.sent_at, entry.queued) = (None, None);
        }
        let entries = &self.entries;
        for members in self.groups.values_mut() {
            members.topics.retain(|topic| entries.contains_key(topic));
        }
    }

    /// The broker is left for good: from now on nothing is to stand there. What is wanted is wanted of the next one.
    pub fn leave(&mut self, now: Instant) {
        self.leaving = true;
        self.unclaimed.clear();
        self.rowless.clear();
        let topics: Vec<String> = self.entries.keys().cloned().collect();
        for topic in topics {
            self.queue(&topic, now);
        }
    }

    /// Whether everything that was to be cleared is.
    pub fn has_left(&self) -> bool {
        !self.linked
            || self.entries.values().all(|entry| match entry.wanted {
                Some(STAYS) => true,
                _ => {
                    !entry.row
                        || entry.standing == Some(Mark::Nothing)
                        || entry.refused == Some(Mark::Nothing)
                }
            })
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
            self.want(&key, topic, content, now);
        }
        for topic in unwanted {
            self.unwant(&key, topic, now);
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
            self.queue(topic, now);
        }
        groups
    }

    /// How a topic stands: `Some(true)`: as it is wanted; `Some(false)`: the broker refused it; `None`: not yet known.
    pub fn stands(&self, topic: &str) -> Option<bool> {
        let Some(entry) = self.entries.get(topic) else { return Some(true) };
        let wanted = self.desired(entry);
        match (&entry.standing, &entry.refused) {
            (Some(mark), _) if *mark == wanted => Some(true),
            (_, Some(mark)) if *mark == wanted => Some(false),
            _ => None,
        }
    }

    /// Topics that need a row before anything can be sent there; they are not told again.
    pub fn take_rowless(&mut self) -> Vec<(String, Kind)> {
        let rowless = std::mem::take(&mut self.rowless);
        let kind = |topic: String| self.entries.get(&topic).map(|entry| (topic.clone(), entry.group.0));
        rowless.into_iter().filter_map(kind).collect()
    }

    /// These rows could not be written; they are told again.
    pub fn rows_failed(&mut self, topics: Vec<(String, Kind)>) {
        if self.linked && !self.leaving {
            self.rowless.extend(topics.into_iter().map(|(topic, _)| topic));
        }
    }

    fn needs_row(&mut self, topic: &str) {
        let needed = |entry: &Entry| !entry.row && entry.wanted.is_some();
        if self.linked && !self.leaving && self.entries.get(topic).is_some_and(needed) {
            self.rowless.insert(topic.to_owned());
        }
    }

    /// These topics have their rows now.
    pub fn rows_written(&mut self, topics: &[(String, Kind)], now: Instant) {
        for (topic, kind) in topics {
            if let Some(entry) = self.entries.get_mut(topic) {
                entry.row = true;
                self.queue(topic, now);
            } else {
                // Unwanted meanwhile: cleared like any other.
                self.unclaimed.insert(topic.clone(), *kind);
            }
        }
        self.claim(now);
    }

    /// Topics whose rows are to be removed: the broker has cleared them.
    pub fn take_cleared(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cleared)
    }

    /// What to send now, if anything.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        while self.linked && self.flying < MAX_FLYING {
            let (due, order, topic) = self.queue.first()?.clone();
            if due > now {
                return None;
            }
            self.queue.remove(&(due, order, topic.clone()));
            if let Some(entry) = self.entries.get_mut(&topic) {
                entry.queued = None;
            }
            match self.verdict(&topic, now) {
                Verdict::Send(mark) => return Some(self.send(topic, mark, now)),
                Verdict::NotBefore(at) => self.queue(&topic, at),
                Verdict::Rest => {}
            }
        }
        None
    }

    /// When something is due that is not due now.
    pub fn due(&self) -> Option<Instant> {
        let first = self.queue.first().map(|(due, ..)| *due);
        first.filter(|_| self.linked && self.flying < MAX_FLYING)
    }

    /// The broker's answer to a job: whether it has taken it; `None`: it is not known.
    pub fn answered(&mut self, job: &Job, taken: Option<bool>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&job.topic) else { return };
        if entry.flying.take().is_none() {
            return;
        }
        self.flying = self.flying.saturating_sub(1);
        if matches!(job.mark, Mark::Content(Content::Thumbnail { .. })) {
            self.pictures = self.pictures.saturating_sub(1);
        }
        match taken {
            Some(true) => entry.standing = Some(job.mark.clone()),
            Some(false) => entry.refused = Some(job.mark.clone()),
            None => {}
        }
        let group = entry.group.clone();
        let done = taken == Some(true) && job.mark == Mark::Nothing && entry.wanted.is_none();
        if group.0 == Kind::Discovery {
            self.discovery_done_at = Some(now);
        }
        // Others may publish there while we leave: it is looked after when the broker is used again.
        let may_return = self.leaving && matches!(entry.wanted, Some(Content::Elsewhere { .. }));
        if taken == Some(true) && job.mark == Mark::Nothing && !may_return {
            self.cleared.push(job.topic.clone());
            if let Some(entry) = self.entries.get_mut(&job.topic) {
                entry.row = false;
            }
            self.needs_row(&job.topic);
        }
        if done {
            self.remove(&job.topic);
        } else {
            let at = if taken.is_none() { now + LOOK_AGAIN } else { now };
            self.queue(&job.topic, at);
        }
        if group.0 == Kind::Discovery {
            // What it held up in its group may go on.
            let topics = self.groups.get(&group).map(|members| members.topics.clone()).unwrap_or_default();
            for topic in topics {
                self.queue(&topic, now);
            }
        }
    }

    fn want(&mut self, key: &GroupKey, topic: String, content: Content, now: Instant) {
        self.unclaimed_becomes(&topic, key);
        if let Some(members) = self.groups.get_mut(key) {
            members.topics.insert(topic.clone());
        }
        let entry = self.entries.entry(topic.clone()).or_insert_with(|| Entry::new(key.clone()));
        let unchanged = entry.wanted.as_ref() == Some(&content);
        (entry.group, entry.wanted, entry.migrates) = (key.clone(), Some(content), false);
        entry.unwanted_at = None;
        if !unchanged {
            entry.refused = None;
            self.queue(&topic, now);
        }
        self.needs_row(&topic);
    }

    fn unwant(&mut self, key: &GroupKey, topic: String, now: Instant) {
        let migrates = self.groups.get(key).is_some_and(|members| {
            members.former.iter().any(|former| former.migrates && former.topic == topic)
        });
        let Some(entry) = self.entries.get_mut(&topic).filter(|entry| entry.group == *key) else { return };
        (entry.wanted, entry.migrates, entry.unwanted_at) = (None, migrates, Some(now));
        if self.linked && (entry.row || entry.flying.is_some()) {
            self.queue(&topic, now);
        } else {
            // The table has its row, if it ever had one on any broker.
            self.remove(&topic);
        }
    }

    /// A topic of the table that is wanted is not unclaimed.
    fn unclaimed_becomes(&mut self, topic: &str, key: &GroupKey) {
        if self.unclaimed.remove(topic).is_some() {
            let entry = self.entries.entry(topic.to_owned()).or_insert_with(|| Entry::new(key.clone()));
            entry.row = true;
        }
    }

    /// What the table has of topics under which this group was announced before; at the first announcement also what
    /// another program may have left.
    fn claim_former(&mut self, key: &GroupKey, now: Instant) {
        let Some(members) = self.groups.get(key) else { return };
        let is_wanted = |topic: &String| self.entries.get(topic).is_some_and(|entry| entry.wanted.is_some());
        let announced_before = members
            .topics
            .iter()
            .any(|topic| self.entries.get(topic).is_some_and(|entry| entry.wanted.is_some() && entry.row));
        let wants_something = members.topics.iter().any(is_wanted);
        let first_time = self.linked && !self.leaving && wants_something && !announced_before;
        let claimed: Vec<Former> = members
            .former
            .iter()
            .filter(|former| !is_wanted(&former.topic))
            .filter(|former| self.unclaimed.contains_key(&former.topic) || (first_time && former.foreign))
            .cloned()
            .collect();
        for Former { topic, migrates, .. } in claimed {
            let row = self.unclaimed.remove(&topic).is_some();
            if let Some(members) = self.groups.get_mut(key) {
                members.topics.insert(topic.clone());
            }
            let entry = self.entries.entry(topic.clone()).or_insert_with(|| Entry::new(key.clone()));
            entry.row |= row;
            entry.migrates = migrates && wants_something;
            if !entry.row {
                self.rowless.insert(topic.clone());
            }
            self.queue(&topic, now);
        }
    }

    /// Sees to what the table has and nobody wants, once everybody has said what is wanted.
    fn claim(&mut self, now: Instant) {
        if self.heard.len() < OWNERS || !self.linked || self.leaving {
            return;
        }
        let keys: Vec<GroupKey> = self
            .groups
            .iter()
            .filter(|(_, members)| !members.former.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.claim_former(&key, now);
        }
        let nobody: Arc<str> = Arc::from("");
        for (topic, kind) in std::mem::take(&mut self.unclaimed) {
            let key = (kind, Arc::clone(&nobody));
            self.groups.entry(key.clone()).or_default().topics.insert(topic.clone());
            let mut entry = Entry::new(key);
            (entry.row, entry.unwanted_at) = (true, Some(now));
            self.entries.insert(topic.clone(), entry);
            self.queue(&topic, now);
        }
    }

    fn desired(&self, entry: &Entry) -> Mark {
        match &entry.wanted {
            Some(content) if !self.leaving || *content == STAYS => Mark::Content(content.clone()),
            _ => Mark::Nothing,
        }
    }

    fn verdict(&self, topic: &str, now: Instant) -> Verdict {
        let Some(entry) = self.entries.get(topic) else { return Verdict::Rest };
        let desired = self.desired(entry);
        let settled = |mark: &Option<Mark>| mark.as_ref() == Some(&desired);
        if entry.flying.is_some()
            || !entry.row
            || matches!(desired, Mark::Content(Content::Elsewhere { .. }))
            || settled(&entry.standing)
            || settled(&entry.refused)
        {
            return Verdict::Rest;
        }
        match (entry.group.0, &desired) {
            (Kind::Discovery, Mark::Nothing) => self.clear_discovery(entry),
            (Kind::Discovery, _) => self.announce(entry, desired, now),
            (Kind::State, Mark::Nothing) => self.clear_state(entry, now),
            (Kind::State, _) => self.publish_state(entry, desired, now),
        }
    }

    fn siblings(&self, entry: &Entry) -> impl Iterator<Item = &Entry> {
        let topics = self.groups.get(&entry.group).map(|members| members.topics.iter());
        topics.into_iter().flatten().filter_map(|topic| self.entries.get(topic))
    }

    fn clear_discovery(&self, entry: &Entry) -> Verdict {
        let told = [&entry.standing, &entry.refused].into_iter().any(|mark| *mark == Some(Mark::Moves));
        if entry.migrates && !told && !self.leaving {
            return Verdict::Send(Mark::Moves);
        }
        let waits = |sibling: &Entry| {
            let desired = self.desired(sibling);
            sibling.wanted.is_some()
                && sibling.standing.as_ref() != Some(&desired)
                && sibling.refused.as_ref() != Some(&desired)
        };
        if !self.leaving && entry.migrates && self.siblings(entry).any(waits) {
            return Verdict::Rest;
        }
        Verdict::Send(Mark::Nothing)
    }

    fn announce(&self, entry: &Entry, desired: Mark, now: Instant) -> Verdict {
        let moving = |sibling: &Entry| {
            let told =
                [&sibling.standing, &sibling.refused].into_iter().any(|mark| *mark == Some(Mark::Moves));
            sibling.wanted.is_none() && sibling.migrates && !told
        };
        if self.siblings(entry).any(moving) {
            return Verdict::Rest;
        }
        match entry.sent_at.map(|at| at + ANNOUNCE_AGAIN_AFTER).filter(|at| *at > now) {
            Some(at) => Verdict::NotBefore(at),
            None => Verdict::Send(desired),
        }
    }

    fn clear_state(&self, entry: &Entry, now: Instant) -> Verdict {
        if self.discovery_is_busy(now) {
            return Verdict::NotBefore(now + LOOK_AGAIN);
        }
        let unwanted_at = entry.unwanted_at.filter(|_| !self.leaving);
        let last = unwanted_at.max(self.discovery_done_at);
        match last.map(|at| at + QUIET).filter(|at| *at > now) {
            Some(at) => Verdict::NotBefore(at),
            None => Verdict::Send(Mark::Nothing),
        }
    }

    fn discovery_is_busy(&self, now: Instant) -> bool {
        if let Some((at, busy)) = self.discovery_busy.get()
            && now.saturating_duration_since(at) < LOOK_AGAIN
        {
            return busy;
        }
        let is_due = |entry: &Entry| {
            let desired = self.desired(entry);
            entry.group.0 == Kind::Discovery
                && entry.row
                && entry.standing.as_ref() != Some(&desired)
                && entry.refused.as_ref() != Some(&desired)
        };
        let busy = self.entries.values().any(is_due);
        self.discovery_busy.set(Some((now, busy)));
        busy
    }

    fn publish_state(&self, entry: &Entry, desired: Mark, now: Instant) -> Verdict {
        if matches!(desired, Mark::Content(Content::Thumbnail { .. })) && self.pictures >= MAX_PICTURES {
            return Verdict::NotBefore(now + LOOK_AGAIN);
        }
        let recent = self.groups.get(&entry.group).map(|members| &members.recent);
        let oldest = recent.filter(|recent| recent.len() >= STATES_PER_SPAN).and_then(VecDeque::front);
        match oldest.map(|at| *at + SPAN).filter(|at| *at > now) {
            Some(at) => Verdict::NotBefore(at),
            None => Verdict::Send(desired),
        }
    }

    fn send(&mut self, topic: String, mark: Mark, now: Instant) -> Job {
        self.flying += 1;
        self.pictures += usize::from(matches!(mark, Mark::Content(Content::Thumbnail { .. })));
        if let Some(entry) = self.entries.get_mut(&topic) {
            (entry.flying, entry.sent_at) = (Some(mark.clone()), Some(now));
            if entry.group.0 == Kind::State
                && let Some(members) = self.groups.get_mut(&entry.group)
            {
                members.recent.push_back(now);
                if members.recent.len() > STATES_PER_SPAN {
                    members.recent.pop_front();
                }
            }
        }
        Job { topic, mark }
    }

    /// Has the topic looked at, at `at`, or before if that was planned.
    fn queue(&mut self, topic: &str, at: Instant) {
        if !self.linked {
            return;
        }
        let Some(entry) = self.entries.get_mut(topic) else { return };
        if entry.queued.is_some_and(|(due, _)| due <= at) {
            return;
        }
        if let Some((due, order)) = entry.queued.take() {
            self.queue.remove(&(due, order, topic.to_owned()));
        }
        self.order += 1;
        entry.queued = Some((at, self.order));
        self.queue.insert((at, self.order, topic.to_owned()));
    }

    fn remove(&mut self, topic: &str) {
        let Some(entry) = self.entries.remove(topic) else { return };
        if let Some((due, order)) = entry.queued {
            self.queue.remove(&(due, order, topic.to_owned()));
        }
        if let Some(members) = self.groups.get_mut(&entry.group) {
            members.topics.remove(topic);
        }
        self.drop_if_empty(&entry.group);
    }

    fn drop_if_empty(&mut self, key: &GroupKey) {
        if self.groups.get(key).is_some_and(|members| members.topics.is_empty()) {
            self.groups.remove(key);
        }
    }
}

impl Entry {
    fn new(group: GroupKey) -> Self {
        Self {
            group,
            wanted: None,
            migrates: false,
            row: false,
            standing: None,
            flying: None,
            refused: None,
            sent_at: None,
            unwanted_at: None,
            queued: None,
        }
    }
}
