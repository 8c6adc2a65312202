//! The ledger of a test: the events that the service accepted, compared with the events that a subscriber
//! received.
//!
//! This module does no I/O. It answers three questions: which events were *lost*, how many deliveries were
//! *duplicates* (which at-least-once delivery permits), and which events were *overtaken*. A stream of
//! deliveries is split into runs: a run continues while `seq` increases, and a step back (a resend) begins
//! the next run. The stream is in order if both rules are met:
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

/// The accepted and the delivered events. Events are identified by their `event_id` or, where there are very
/// many, by a smaller substitute.
#[derive(Clone, Debug)]
pub struct Ledger<Id = String> {
    accepted: BTreeSet<u64>,
    seqs: HashMap<Id, u64>,
    dead: BTreeSet<u64>,
    delivered: Vec<u64>,
    /// The index in `delivered` at which a seq first appears.
    first: HashMap<u64, usize>,
    contradictions: Vec<String>,
}

impl<Id> Default for Ledger<Id> {
    fn default() -> Self {
        Self {
            accepted: BTreeSet::new(),
            seqs: HashMap::new(),
            dead: BTreeSet::new(),
            delivered: Vec::new(),
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
            self.delivered(event_id, seq);
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

    /// Records that a subscriber received this event.
    pub fn delivered(&mut self, event: impl Into<Id>, seq: u64) {
        self.check_identity(event.into(), seq, "delivery");
        self.first.entry(seq).or_insert(self.delivered.len());
        self.delivered.push(seq);
    }

    /// Returns whether a subscriber received this event.
    #[must_use]
    pub fn has_delivered(&self, seq: u64) -> bool {
        self.first.contains_key(&seq)
    }

    /// Returns the deliveries around the first delivery of this event, which show whether it was resent or
    /// overtaken.
    #[must_use]
    pub fn around(&self, seq: u64) -> &[u64] {
        let Some(&place) = self.first.get(&seq) else { return &[] };
        &self.delivered[place.saturating_sub(CONTEXT)..self.delivered.len().min(place + CONTEXT)]
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
        let mut ledger = Self { delivered: Vec::new(), first: HashMap::new(), ..self.clone() };
        for &seq in self.delivered.iter().filter(|seq| !of.contains(seq)) {
            ledger.first.entry(seq).or_insert(ledger.delivered.len());
            ledger.delivered.push(seq);
        }
        ledger
    }

    /// Returns every overtaken event.
    #[must_use]
    pub fn out_of_order(&self) -> Vec<Disorder> {
        let mut disorder = self.late();
        disorder.extend(self.overtaken_resends());
        disorder
    }

    /// Returns how many deliveries repeated an earlier one.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.delivered.len() - self.first.len()
    }

    /// Returns how many resends (steps back) there were. Each must be explained by a lost connection, or by
    /// a service or broker that was killed.
    #[must_use]
    pub fn resends(&self) -> usize {
        self.runs().len().saturating_sub(1)
    }

    /// Returns how many resends began before the start of the preceding resend. A running service never
    /// forgets an acknowledgement, so each of these means that the service or the broker was killed.
    #[must_use]
    pub fn resend_regressions(&self) -> usize {
        self.runs().windows(2).filter(|pair| self.delivered[pair[1]] < self.delivered[pair[0]]).count()
    }

    /// Returns the events that were delivered without a receipt: they were accepted, but the response did
    /// not reach the sender. This is permitted.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<u64> {
        let seqs: BTreeSet<u64> = self.delivered.iter().copied().collect();
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

    fn late(&self) -> Vec<Disorder> {
        let mut latest = 0;
        let mut late = Vec::new();
        for (index, &seq) in self.delivered.iter().enumerate() {
            if self.first[&seq] == index && seq < latest {
                late.push(Disorder::Late { seq, after: latest });
            }
            latest = latest.max(seq);
        }
        late
    }

    fn overtaken_resends(&self) -> Vec<Disorder> {
        let mut starts = self.runs();
        starts.push(self.delivered.len());
        starts.windows(3).flat_map(|bounds| self.overtaken_between(bounds[0], bounds[1], bounds[2])).collect()
    }

    /// Returns the events that the run `start..end` skipped although they had been delivered before, and that
    /// the next run, `end..next_end`, delivered.
    fn overtaken_between(&self, start: usize, end: usize, next_end: usize) -> Vec<Disorder> {
        let (run, next) = (&self.delivered[start..end], &self.delivered[end..next_end]);
        if next[0] <= run[0] {
            return Vec::new();
        }
        let overtaken = |&seq: &u64| {
            let by = *run.get(run.binary_search(&seq).err()?)?;
            (self.first[&seq] < start).then_some(Disorder::ResendOvertaken { seq, by })
        };
        next.iter().filter_map(overtaken).collect()
    }

    /// Returns the indexes at which runs begin.
    fn runs(&self) -> Vec<usize> {
        let begins = |index: &usize| *index == 0 || self.delivered[*index] <= self.delivered[*index - 1];
        (0..self.delivered.len()).filter(begins).collect()
    }
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
