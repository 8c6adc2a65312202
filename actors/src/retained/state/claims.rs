//! The table's rows: which topics need one before anything is sent there, and who claims what the table has. What nobody
//! claims is cleared.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    RetainedState,
    entry::{Entry, GroupKey},
};
use crate::domain::retained::{Kind, OWNERS, PreviousTopic};

impl RetainedState {
    /// Topics that need a row before anything can be sent there; they are not told again.
    pub fn take_rowless(&mut self) -> Vec<(String, Kind)> {
        let unrecorded = std::mem::take(&mut self.unrecorded);
        let missing = |topic: String| {
            let entry = self.entries.get(&topic).filter(|entry| !entry.row)?;
            Some((topic, entry.group.0))
        };
        unrecorded.into_iter().filter_map(missing).collect()
    }

    /// Topics whose rows are to be removed: the broker has cleared them. They are not told again.
    pub fn take_cleared(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cleared).into_iter().collect()
    }

    /// These rows could not be removed and written; they are told again.
    pub fn rows_failed(&mut self, cleared: Vec<String>, unrecorded: Vec<(String, Kind)>) {
        self.cleared.extend(cleared);
        if !self.leaving {
            self.unrecorded.extend(unrecorded.into_iter().map(|(topic, _)| topic));
        }
    }

    /// These topics have their rows now.
    pub fn rows_written(&mut self, topics: &[(String, Kind)], now: Instant) {
        let mut unwanted = false;
        for (topic, kind) in topics {
            if let Some(entry) = self.entries.get_mut(topic) {
                entry.row = true;
                self.look_at(topic, now);
            } else {
                // Unwanted meanwhile: cleared like any other.
                self.orphaned.insert(topic.clone(), *kind);
                unwanted = true;
            }
        }
        if unwanted {
            self.claim(now);
        }
    }

    /// Has a row written for the topic, if it is to get anything.
    pub(super) fn needs_row(&mut self, topic: &str) {
        let needed = |entry: &Entry| !entry.row && entry.wanted.is_some();
        if self.linked && !self.leaving && self.entries.get(topic).is_some_and(needed) {
            self.unrecorded.insert(topic.to_owned());
        }
    }

    /// Makes the topic one of this group, whosever it was.
    pub(super) fn adopt(&mut self, topic: &str, key: &GroupKey) -> &mut Entry {
        let former = self.entries.get(topic).map(|entry| entry.group.clone()).filter(|group| group != key);
        if let Some(former) = former {
            self.dismiss(topic, &former);
        }
        self.groups.entry(key.clone()).or_default().topics.insert(topic.to_owned());
        let row = self.orphaned.remove(topic).is_some();
        let entry = self.entries.entry(topic.to_owned()).or_insert_with(|| Entry::new(key.clone()));
        entry.group.clone_from(key);
        entry.row |= row;
        entry
    }

    /// Sees to what the table has that others than its present owners may claim.
    pub(super) fn claim(&mut self, now: Instant) {
        let keys: Vec<GroupKey> = self
            .groups
            .iter()
            .filter(|(_, members)| !members.former.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.claim_former(&key, now);
        }
        // Once everybody has said what is wanted, the rest is nobody's.
        if self.linked && self.heard.len() == OWNERS {
            let nobody: Arc<str> = Arc::from("");
            for (topic, kind) in std::mem::take(&mut self.orphaned) {
                let entry = self.adopt(&topic, &(kind, Arc::clone(&nobody)));
                (entry.row, entry.unwanted_at) = (true, Some(now));
                self.look_at(&topic, now);
            }
        }
    }

    /// What may stand on topics under which this group was announced before and nobody wants; at the first announcement
    /// also what another program may have left.
    pub(super) fn claim_former(&mut self, key: &GroupKey, now: Instant) {
        let Some(members) = self.groups.get(key) else { return };
        let wanted = |topic: &String| self.entries.get(topic).filter(|entry| entry.wanted.is_some());
        let mut ours = members.topics.iter().filter_map(wanted).peekable();
        let wants_something = ours.peek().is_some();
        let first_time = self.linked && !self.leaving && wants_something && !ours.any(|entry| entry.row);
        let is_claimed = |former: &&PreviousTopic| match self.entries.get(&former.topic) {
            // Another group may have it, to clear it.
            Some(entry) => entry.wanted.is_none() && entry.group != *key,
            None => self.orphaned.contains_key(&former.topic) || (first_time && former.foreign),
        };
        let claimed: Vec<PreviousTopic> = members.former.iter().filter(is_claimed).cloned().collect();
        for PreviousTopic { topic, migrates, .. } in claimed {
            let entry = self.adopt(&topic, key);
            entry.migrates = migrates && wants_something;
            if !entry.row {
                self.unrecorded.insert(topic.clone());
            }
            self.look_at(&topic, now);
        }
    }
}
