//! The ledger of a test: the events that the service accepted, compared with the events that a subscriber
//! received.
//!
//! This module does no I/O. It answers three questions: which events were *lost*, how many deliveries were
//! *duplicates* (which at-least-once delivery permits), and which events were *overtaken*. The deliveries on a topic
//! are split into runs: a run continues while `seq` increases, and a step back (a resend) begins the next run. The
//! deliveries are in order if both rules are met on each topic:
//!
//! 1. First deliveries are in the order of their `seq`.
//! 2. A resend begins at the first unacknowledged event and continues from there. A run may therefore skip
//!    an earlier event only if that event had been acknowledged. If the next run begins later and still
//!    delivers a skipped event, a later event has overtaken it.
//!
//! `1 2 3 4 · 2 3 4 5` is in order. `1 2 4 3` breaks the first rule, `1 2 3 4 · 2 4 · 3 4` the second.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::hash::Hash;

use serde_json::Value;

/// The number of deliveries that a report shows before and after an event.
const CONTEXT: usize = 20;

/// An event that was overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disorder {
    /// The event was first delivered after a later one.
    Late {
        /// The overtaken event.
        seq: u64,
        /// The latest event that was delivered before it.
        after: u64,
    },
    /// The event was resent after a later one that should have waited for it.
    ResendOvertaken {
        /// The overtaken event.
        seq: u64,
        /// The later event that was resent before it.
        by: u64,
    },
}

impl Disorder {
    /// Returns the overtaken event.
    #[must_use]
    pub fn seq(self) -> u64 {
        match self {
            Self::Late { seq, .. } | Self::ResendOvertaken { seq, .. } => seq,
        }
    }
}

/// The index of a topic, and an index among its deliveries.
type Place = (usize, usize);

/// The accepted and the delivered events. Events are identified by their `event_id` or, where there are very
/// many, by a smaller substitute.
#[derive(Clone, Debug)]
pub struct Ledger<Id = String> {
    accepted: BTreeSet<u64>,
    seqs: HashMap<Id, u64>,
    dead: BTreeSet<u64>,
    /// The deliveries on each topic.
    delivered: Vec<Vec<u64>>,
    /// The index of each topic in `delivered`.
    topics: HashMap<String, usize>,
    /// The topic and the index there at which a seq first appears.
    first: HashMap<u64, Place>,
    contradictions: Vec<String>,
}

impl<Id> Default for Ledger<Id> {
    fn default() -> Self {
        Self {
            accepted: BTreeSet::new(),
            seqs: HashMap::new(),
            dead: BTreeSet::new(),
            delivered: Vec::new(),
            topics: HashMap::new(),
            first: HashMap::new(),
            contradictions: Vec::new(),
        }
    }
}

impl Ledger {
    /// Returns an empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a receipt from the REST API: `{event_id, seq, …}`.
    pub fn accepted_receipt(&mut self, receipt: &Value) {
        let (event_id, seq) = identity(receipt);
        self.accepted(event_id, seq);
    }

    /// Records a delivered event payload. Replays (`replay: true`) are requested by a person and do not
    /// count.
    pub fn delivered_event(&mut self, payload: &Value) {
        if payload["replay"] != true {
            let (event_id, seq) = identity(payload);
            let camera = payload["camera_id"].as_str().unwrap_or_default();
            let topic = if payload["late"] == true { "history" } else { "event" };
            self.delivered(&format!("{camera}/{topic}"), event_id, seq);
        }
    }
}

impl<Id: Clone + Display + Eq + Hash> Ledger<Id> {
    /// Records that the service accepted this event. A repeated receipt must have the same seq.
    pub fn accepted(&mut self, event: impl Into<Id>, seq: u64) {
        self.check_identity(event.into(), seq, "receipt");
        self.accepted.insert(seq);
    }

    /// Records that the service lists this event as dead, for a reason that the test has checked. It need not
    /// be delivered.
    pub fn dead(&mut self, seq: u64) {
        self.dead.insert(seq);
    }

    /// Records that a subscriber received this event on this topic.
    pub fn delivered(&mut self, topic: &str, event: impl Into<Id>, seq: u64) {
        self.check_identity(event.into(), seq, "delivery");
        let index = self.topics.get(topic).copied().unwrap_or_else(|| {
            self.delivered.push(Vec::new());
            self.topics.insert(topic.to_owned(), self.delivered.len() - 1);
            self.delivered.len() - 1
        });
        self.first.entry(seq).or_insert((index, self.delivered[index].len()));
        self.delivered[index].push(seq);
    }

    /// Returns whether a subscriber received this event.
    #[must_use]
    pub fn has_delivered(&self, seq: u64) -> bool {
        self.first.contains_key(&seq)
    }

    /// Returns the deliveries on the same topic around the first delivery of this event, which show whether it was
    /// resent or overtaken.
    #[must_use]
    pub fn around(&self, seq: u64) -> &[u64] {
        let Some(&(topic, place)) = self.first.get(&seq) else { return &[] };
        let delivered = &self.delivered[topic];
        &delivered[place.saturating_sub(CONTEXT)..delivered.len().min(place + CONTEXT)]
    }

    /// Returns the number of accepted events.
    #[must_use]
    pub fn accepted_count(&self) -> usize {
        self.accepted.len()
    }

    /// Returns the events that were accepted, are not dead, and were never delivered.
    #[must_use]
    pub fn lost(&self) -> Vec<u64> {
        let missing = |seq: &&u64| !self.first.contains_key(seq) && !self.dead.contains(seq);
        self.accepted.iter().filter(missing).copied().collect()
    }

    /// Returns the ledger without the deliveries of these events, for example because somebody decided to send
    /// them again, after later ones.
    #[must_use]
    pub fn without_deliveries(&self, of: &BTreeSet<u64>) -> Self {
        let mut ledger = Self { first: HashMap::new(), ..self.clone() };
        for (topic, delivered) in ledger.delivered.iter_mut().enumerate() {
            delivered.retain(|seq| !of.contains(seq));
            for (index, seq) in delivered.iter().enumerate() {
                // An event that was delivered on two topics was first delivered on the one that it has here.
                if self.first.get(seq).is_some_and(|(first, _)| *first == topic) {
                    ledger.first.entry(*seq).or_insert((topic, index));
                }
            }
        }
        ledger
    }

    /// Returns every overtaken event.
    #[must_use]
    pub fn out_of_order(&self) -> Vec<Disorder> {
        let topics = 0..self.delivered.len();
        topics.flat_map(|topic| [self.late(topic), self.overtaken_resends(topic)].concat()).collect()
    }

    /// Returns how many deliveries repeated an earlier one.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.delivered.iter().map(Vec::len).sum::<usize>() - self.first.len()
    }

    /// Returns how many resends (steps back on a topic) there were. Each must be explained by a lost connection, or
    /// by a service or broker that was killed.
    #[must_use]
    pub fn resends(&self) -> usize {
        self.delivered.iter().map(|delivered| runs(delivered).len().saturating_sub(1)).sum()
    }

    /// Returns how many resends began before the start of the preceding resend. A running service never
    /// forgets an acknowledgement, so each of these means that the service or the broker was killed.
    #[must_use]
    pub fn resend_regressions(&self) -> usize {
        let regressions = |delivered: &Vec<u64>| {
            runs(delivered).windows(2).filter(|pair| delivered[pair[1]] < delivered[pair[0]]).count()
        };
        self.delivered.iter().map(regressions).sum()
    }

    /// Returns the events that were delivered without a receipt: they were accepted, but the response did
    /// not reach the sender. This is permitted.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<u64> {
        let seqs: BTreeSet<u64> = self.first.keys().copied().collect();
        seqs.into_iter().filter(|seq| !self.accepted.contains(seq)).collect()
    }

    /// Returns descriptions of the events with two seqs and of the seqs with two events. Neither is ever
    /// permitted.
    #[must_use]
    pub fn contradictions(&self) -> &[String] {
        &self.contradictions
    }

    /// Returns all counts in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "accepted {}, delivered {}, lost {}, out of order {}, duplicates {}, resends {}, unconfirmed {}, \
             dead {}",
            self.accepted.len(),
            self.first.len(),
            self.lost().len(),
            self.out_of_order().len(),
            self.duplicates(),
            self.resends(),
            self.unconfirmed().len(),
            self.dead.len()
        )
    }

    /// # Panics
    ///
    /// Panics if an accepted event was neither delivered nor recorded as dead, or if the records contradict
    /// each other.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(self.contradictions.is_empty(), "contradictions: {:?}", first_few(&self.contradictions));
        let lost = self.lost();
        assert!(lost.is_empty(), "lost {}: {:?} ({})", lost.len(), first_few(&lost), self.summary());
    }

    /// # Panics
    ///
    /// Panics if an event was overtaken.
    #[track_caller]
    pub fn assert_in_order(&self) {
        let disorder = self.out_of_order();
        assert!(
            disorder.is_empty(),
            "out of order {}: {:?} ({})",
            disorder.len(),
            first_few(&disorder),
            self.summary()
        );
    }

    fn check_identity(&mut self, event: Id, seq: u64, what: &str) {
        match self.seqs.insert(event.clone(), seq) {
            Some(other) if other != seq => {
                self.contradictions.push(format!("{what}: event {event} has seq {seq} and seq {other}"));
            }
            // A new event must have a new seq.
            None if self.accepted.contains(&seq) || self.first.contains_key(&seq) => {
                self.contradictions
                    .push(format!("{what}: seq {seq} of event {event} belongs to another event"));
            }
            Some(_) | None => {}
        }
    }

    fn late(&self, topic: usize) -> Vec<Disorder> {
        let mut latest = 0;
        let mut late = Vec::new();
        for (index, &seq) in self.delivered[topic].iter().enumerate() {
            if self.first[&seq] == (topic, index) && seq < latest {
                late.push(Disorder::Late { seq, after: latest });
            }
            latest = latest.max(seq);
        }
        late
    }

    fn overtaken_resends(&self, topic: usize) -> Vec<Disorder> {
        let delivered = &self.delivered[topic];
        let mut starts = runs(delivered);
        starts.push(delivered.len());
        let windows = starts.windows(3);
        windows.flat_map(|bounds| self.overtaken_between(topic, bounds[0], bounds[1], bounds[2])).collect()
    }

    /// Returns the events that the run `start..end` skipped although they had been delivered before, and that
    /// the next run, `end..next_end`, delivered.
    fn overtaken_between(&self, topic: usize, start: usize, end: usize, next_end: usize) -> Vec<Disorder> {
        let delivered = &self.delivered[topic];
        let (run, next) = (&delivered[start..end], &delivered[end..next_end]);
        if next[0] <= run[0] {
            return Vec::new();
        }
        let overtaken = |&seq: &u64| {
            let by = *run.get(run.binary_search(&seq).err()?)?;
            let (first_topic, first) = self.first[&seq];
            (first_topic == topic && first < start).then_some(Disorder::ResendOvertaken { seq, by })
        };
        next.iter().filter_map(overtaken).collect()
    }
}

/// Returns the indexes at which runs begin.
fn runs(delivered: &[u64]) -> Vec<usize> {
    let begins = |index: &usize| *index == 0 || delivered[*index] <= delivered[*index - 1];
    (0..delivered.len()).filter(begins).collect()
}

fn identity(json: &Value) -> (&str, u64) {
    let (Some(event_id), Some(seq)) = (json["event_id"].as_str(), json["seq"].as_u64()) else {
        panic!("no event_id and seq in {json}");
    };
    (event_id, seq)
}

/// Returns the beginning of a long list, which is enough to see what is wrong.
fn first_few<T>(list: &[T]) -> &[T] {
    &list[..list.len().min(10)]
}

#[cfg(test)]
mod tests;
