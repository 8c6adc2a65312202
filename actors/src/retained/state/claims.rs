//! The rows of the table: which topics need one before they can be published (*unrecorded*), and which topics
//! have a row that no group uses yet (*orphaned*).
//!
//! An orphaned topic is claimed by the group that wants it, or by the group that lists it as a previous
//! topic. When every owner has reported its groups, the remaining orphaned topics are cleared.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    RetainedState,
    entry::{Entry, GroupKey},
};
use crate::domain::retained::{Kind, OWNERS, PreviousTopic};

impl RetainedState {
    /// Takes the topics that need a row before anything can be sent to them.
    pub fn take_unrecorded(&mut self) -> Vec<(String, Kind)> {
        let unrecorded = std::mem::take(&mut self.unrecorded);
        let missing = |topic: String| {
            let entry = self.entries.get(&topic).filter(|entry| !entry.recorded)?;
            Some((topic, entry.group.0))
        };
        unrecorded.into_iter().filter_map(missing).collect()
    }

    /// Takes the topics that the broker has cleared, whose rows must be removed.
    pub fn take_cleared(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cleared).into_iter().collect()
    }

    /// Puts back topics whose rows could not be removed or written.
    pub fn rows_failed(&mut self, cleared: Vec<String>, unrecorded: Vec<(String, Kind)>) {
        self.cleared.extend(cleared);
        if !self.leaving {
            self.unrecorded.extend(unrecorded.into_iter().map(|(topic, _)| topic));
        }
    }

    /// Records that these topics now have a row.
    pub fn rows_written(&mut self, topics: &[(String, Kind)], now: Instant) {
        let mut unwanted = false;
        for (topic, kind) in topics {
            if let Some(entry) = self.entries.get_mut(topic) {
                entry.recorded = true;
                self.schedule(topic, now);
            } else {
                // No longer wanted when the row was written: cleared like any other orphaned topic.
                self.orphaned.insert(topic.clone(), *kind);
                unwanted = true;
            }
        }
        if unwanted {
            self.claim_orphaned(now);
        }
    }

    /// Requests a row for the topic, if it is wanted and has none.
    pub(super) fn request_row(&mut self, topic: &str) {
        let needed = |entry: &Entry| !entry.recorded && entry.wanted.is_some();
        if self.linked && !self.leaving && self.entries.get(topic).is_some_and(needed) {
            self.unrecorded.insert(topic.to_owned());
        }
    }

    /// Makes the topic a member of this group. It leaves the group that it belonged to before.
    pub(super) fn adopt(&mut self, topic: &str, key: &GroupKey) -> &mut Entry {
        let previous = self.entries.get(topic).map(|entry| entry.group.clone()).filter(|group| group != key);
        if let Some(previous) = previous {
            self.detach(topic, &previous);
        }
        self.groups.entry(key.clone()).or_default().topics.insert(topic.to_owned());
        let recorded = self.orphaned.remove(topic).is_some();
        let entry = self.entries.entry(topic.to_owned()).or_insert_with(|| Entry::new(key.clone()));
        entry.group.clone_from(key);
        entry.recorded |= recorded;
        entry
    }

    /// Lets groups claim orphaned topics, and clears the rest when every owner has reported its groups.
    pub(super) fn claim_orphaned(&mut self, now: Instant) {
        let keys: Vec<GroupKey> = self
            .groups
            .iter()
            .filter(|(_, members)| !members.previous.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.claim_previous(&key, now);
        }
        if self.linked && self.reported.len() == OWNERS {
            let no_name: Arc<str> = Arc::from("");
            for (topic, kind) in std::mem::take(&mut self.orphaned) {
                let entry = self.adopt(&topic, &(kind, Arc::clone(&no_name)));
                (entry.recorded, entry.unwanted_at) = (true, Some(now));
                self.schedule(&topic, now);
            }
        }
    }

    /// Lets a group claim its previous topics that no group wants. At the first announcement it also claims
    /// the topics that another program may have left.
    pub(super) fn claim_previous(&mut self, key: &GroupKey, now: Instant) {
        let Some(members) = self.groups.get(key) else { return };
        let wanted = |topic: &String| self.entries.get(topic).filter(|entry| entry.wanted.is_some());
        let mut own = members.topics.iter().filter_map(wanted).peekable();
        let wants_something = own.peek().is_some();
        let first_time = self.linked && !self.leaving && wants_something && !own.any(|entry| entry.recorded);
        let is_claimed = |previous: &&PreviousTopic| match self.entries.get(&previous.topic) {
            // Another group may be clearing it.
            Some(entry) => entry.wanted.is_none() && entry.group != *key,
            None => self.orphaned.contains_key(&previous.topic) || (first_time && previous.foreign),
        };
        let claimed: Vec<PreviousTopic> = members.previous.iter().filter(is_claimed).cloned().collect();
        for PreviousTopic { topic, migrates, .. } in claimed {
            let entry = self.adopt(&topic, key);
            entry.migrates = migrates && wants_something;
            if !entry.recorded {
                self.unrecorded.insert(topic.clone());
            }
            self.schedule(&topic, now);
        }
    }
}
