//! The account of a test: what the service accepted against what a subscriber received.
//!
//! Pure. It answers three questions: was anything *lost*, how much came more than once (*duplicates*, which at-least-once
//! delivery permits), and did anything *overtake*. A stream of deliveries is read as runs: a run grows, and a step
//! back (a resend) begins the next one. In order means:
//!
//! 1. Events that come for the first time come in the order of their `seq`.
//! 2. A resend begins at the first event without acknowledgement and goes on from there. So a run may leave out what
//!    came before only if that had been acknowledged; when the next run begins later and yet brings what was left
//!    out, a later event has overtaken it.
//!
//! `1 2 3 4 · 2 3 4 5` is in order. `1 2 4 3` breaks the first rule, `1 2 3 4 · 2 4 · 3 4` the second one.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::hash::Hash;

use serde_json::Value;

/// How many deliveries show what happened at one.
const AROUND: usize = 20;

/// An event that was overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disorder {
    /// It came for the first time after a later one.
    Late {
        /// The overtaken event.
        seq: u64,
        /// The latest one that came before it.
        after: u64,
    },
    /// It was sent again after a later one that should have waited for it.
    ResendOvertaken {
        /// The overtaken event.
        seq: u64,
        /// The one that went ahead.
        by: u64,
    },
}

impl Disorder {
    /// The overtaken event.
    #[must_use]
    pub fn seq(self) -> u64 {
        match self {
            Self::Late { seq, .. } | Self::ResendOvertaken { seq, .. } => seq,
        }
    }
}

/// What was accepted and what was delivered. Events are known by their `event_id`, or, where there are very many, by
/// something smaller that stands for it.
#[derive(Clone, Debug)]
pub struct Ledger<Id = String> {
    accepted: BTreeSet<u64>,
    seqs: HashMap<Id, u64>,
    dead: BTreeSet<u64>,
    delivered: Vec<u64>,
    /// Where in `delivered` a seq is first.
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
    /// An empty account.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a receipt of the REST API: `{event_id, seq, …}`.
    pub fn accepted_receipt(&mut self, receipt: &Value) {
        let (event_id, seq) = identity(receipt);
        self.accepted(event_id, seq);
    }

    /// Reads an event payload. Replays (`replay: true`) are asked for by a person and do not count.
    pub fn delivered_event(&mut self, payload: &Value) {
        if payload["replay"] != true {
            let (event_id, seq) = identity(payload);
            self.delivered(event_id, seq);
        }
    }
}

impl<Id: Clone + Display + Eq + Hash> Ledger<Id> {
    /// The service acknowledged this event. Saying so again is fine: the receipt must be the same.
    pub fn accepted(&mut self, event: impl Into<Id>, seq: u64) {
        self.agree(event.into(), seq, "receipt");
        self.accepted.insert(seq);
    }

    /// The service lists this event as dead, with a reason that the test has checked: it need not be delivered.
    pub fn dead(&mut self, seq: u64) {
        self.dead.insert(seq);
    }

    /// A subscriber received this event.
    pub fn delivered(&mut self, event: impl Into<Id>, seq: u64) {
        self.agree(event.into(), seq, "delivery");
        self.first.entry(seq).or_insert(self.delivered.len());
        self.delivered.push(seq);
    }

    /// Whether a subscriber received it.
    #[must_use]
    pub fn has_delivered(&self, seq: u64) -> bool {
        self.first.contains_key(&seq)
    }

    /// What was delivered right before and after the first time that this event was: shows a resend, or a swap.
    #[must_use]
    pub fn around(&self, seq: u64) -> &[u64] {
        let Some(&place) = self.first.get(&seq) else { return &[] };
        &self.delivered[place.saturating_sub(AROUND)..self.delivered.len().min(place + AROUND)]
    }

    /// How many were accepted.
    #[must_use]
    pub fn accepted_count(&self) -> usize {
        self.accepted.len()
    }

    /// Accepted, not dead, and never delivered.
    #[must_use]
    pub fn lost(&self) -> Vec<u64> {
        let missing = |seq: &&u64| !self.first.contains_key(seq) && !self.dead.contains(seq);
        self.accepted.iter().filter(missing).copied().collect()
    }

    /// Every event that was overtaken.
    #[must_use]
    pub fn out_of_order(&self) -> Vec<Disorder> {
        let mut disorder = self.late();
        disorder.extend(self.overtaken_resends());
        disorder
    }

    /// How many deliveries repeated an earlier one.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.delivered.len() - self.first.len()
    }

    /// How many resends there were (steps back). Each needs a cause: a lost link, a killed service, or the broker.
    #[must_use]
    pub fn resends(&self) -> usize {
        self.runs().len().saturating_sub(1)
    }

    /// How many resends began before the resend that came before them. A service that lives on never forgets an
    /// acknowledgement: each of these needs a killed service (or broker).
    #[must_use]
    pub fn setbacks(&self) -> usize {
        self.runs().windows(2).filter(|pair| self.delivered[pair[1]] < self.delivered[pair[0]]).count()
    }

    /// Delivered without a receipt: accepted, but the answer did not reach the sender. That is permitted.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<u64> {
        let seqs: BTreeSet<u64> = self.delivered.iter().copied().collect();
        seqs.into_iter().filter(|seq| !self.accepted.contains(seq)).collect()
    }

    /// One event with two seqs, or one seq with two events, in words. That is never permitted.
    #[must_use]
    pub fn contradictions(&self) -> &[String] {
        &self.contradictions
    }

    /// All counts in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "accepted {}, delivered {}, lost {}, out of order {}, duplicates {}, resends {}, unconfirmed {}, dead {}",
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
    /// When an accepted event was neither delivered nor declared dead, or the books contradict each other.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(self.contradictions.is_empty(), "contradictions: {:?}", some(&self.contradictions));
        let lost = self.lost();
        assert!(lost.is_empty(), "lost {}: {:?} ({})", lost.len(), some(&lost), self.summary());
    }

    /// # Panics
    ///
    /// When an event was overtaken.
    #[track_caller]
    pub fn assert_in_order(&self) {
        let disorder = self.out_of_order();
        assert!(
            disorder.is_empty(),
            "out of order {}: {:?} ({})",
            disorder.len(),
            some(&disorder),
            self.summary()
        );
    }

    fn agree(&mut self, event: Id, seq: u64, what: &str) {
        match self.seqs.insert(event.clone(), seq) {
            Some(other) if other != seq => {
                self.contradictions.push(format!("{what}: event {event} has seq {seq} and seq {other}"));
            }
            // An event that is new has a seq that is new.
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

    /// What the run `start..end` left out although it had come before, and the next run, `end..next_end`, brought.
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

    /// Where runs begin.
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

/// Enough of a long list to see what is wrong.
fn some<T>(list: &[T]) -> &[T] {
    &list[..list.len().min(10)]
}

#[cfg(test)]
mod tests;
