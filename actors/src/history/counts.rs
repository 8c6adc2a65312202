//! Counts what became of the events of outages, with a limit on the work of a request.
//!
//! The log of a long outage can have a million rows. A request counts until its time is over; the next one goes on
//! there. Until then, nothing is claimed of events that were not counted.

use std::collections::HashMap;

use crate::domain::{
    ids::Seq,
    outage::{Facts, MAX_OUTAGES, Outage, OutageReport},
};

/// The counts of all outages that were asked for, at most [`MAX_OUTAGES`].
#[derive(Debug, Default)]
pub struct Counts {
    of: HashMap<i64, Known>,
    /// Number of requests so far.
    requests: u64,
}

/// What is known of the events of one outage.
#[derive(Debug, Default)]
struct Known {
    /// A report that cannot change any more.
    last_report: Option<OutageReport>,
    /// The latest complete count.
    complete: Option<Complete>,
    /// A count that ran out of time.
    begun: Option<Count>,
}

#[derive(Debug)]
struct Complete {
    /// The outage as it was.
    outage: Outage,
    /// Without the events that the outbox knows to be open.
    facts: Facts,
    /// Whether no event can become dead or late any more that was not counted.
    is_settled: bool,
    /// In which request it was counted.
    request: u64,
}

/// A count of the events of an outage.
#[derive(Debug, Clone)]
pub struct Count {
    outage: Outage,
    /// All events up to this one are counted.
    pub up_to: Seq,
    facts: Facts,
}

impl Count {
    fn new(outage: &Outage) -> Self {
        let facts = Facts { complete: true, ..Facts::default() };
        Self { outage: outage.clone(), up_to: outage.before.cursor, facts }
    }

    /// Returns whether what was counted of this outage belongs to `outage`, too: a later state of the same one.
    fn continues_as(&self, outage: &Outage) -> bool {
        let Outage { id, began, before, missing, .. } = &self.outage;
        (*id, *began, *before, *missing) == (outage.id, outage.began, outage.before, outage.missing)
    }

    /// Adds the facts of the events up to this one.
    pub fn add(&mut self, part: Facts, up_to: Seq) {
        self.facts = self.facts.plus(part);
        self.up_to = up_to;
    }

    /// Returns whether all events of the outage are counted.
    pub fn is_complete(&self) -> bool {
        self.up_to >= self.outage.last
    }
}

impl Counts {
    /// Begins a request. Returns the indexes of the outages in the order in which they must be counted: those without
    /// a complete count first, the newest first, then those that were counted longest ago. Those that cannot change
    /// any more are left out.
    pub fn order(&mut self, outages: &[Outage]) -> Vec<usize> {
        self.requests += 1;
        let newest = self.of.keys().copied().chain(outages.iter().map(|outage| outage.id)).max().unwrap_or(0);
        let oldest = newest.saturating_sub(i64::try_from(MAX_OUTAGES).unwrap_or(i64::MAX));
        self.of.retain(|id, _| *id > oldest);
        let counted = |outage: &Outage| {
            let complete = self.of.get(&outage.id)?.complete.as_ref()?;
            (complete.outage == *outage).then_some(complete.request)
        };
        let mut order: Vec<_> =
            (0..outages.len()).filter(|at| self.last_report(&outages[*at]).is_none()).collect();
        order.sort_by_key(|at| (counted(&outages[*at]), std::cmp::Reverse(outages[*at].id)));
        order
    }

    /// Begins to count the events of an outage, or goes on where the time was over.
    pub fn begin(&mut self, outage: &Outage) -> Count {
        let begun = self.of.get_mut(&outage.id).and_then(|known| known.begun.take());
        match begun.filter(|begun| begun.continues_as(outage)) {
            Some(begun) => Count { outage: outage.clone(), ..begun },
            None => Count::new(outage),
        }
    }

    /// Keeps a count whose time is over. Events that were open when they were counted must be counted again, so it must
    /// have ended at the cursor or before.
    pub fn keep(&mut self, count: Count) {
        let id = count.outage.id;
        self.of.entry(id).or_default().begun = Some(count);
    }

    /// Records a complete count. `has_events`: the log still has the events. `cursor`: all events up to it were settled
    /// before they were counted.
    pub fn finish(&mut self, Count { outage, facts, .. }: Count, has_events: bool, cursor: Seq) {
        let facts = Facts { complete: facts.complete && has_events, ..facts };
        let is_settled = outage.ended.is_some() && outage.last <= cursor;
        let known = self.of.entry(outage.id).or_default();
        known.begun = None;
        known.complete = Some(Complete { outage, facts, is_settled, request: self.requests });
    }

    /// Creates the report of an outage. `waiting`: how many of its events are open.
    pub fn report(&self, outage: Outage, waiting: u64) -> OutageReport {
        if let Some(report) = self.last_report(&outage) {
            return report.clone();
        }
        let known = self.of.get(&outage.id);
        let complete = known.and_then(|known| known.complete.as_ref());
        let begun = known.and_then(|known| known.begun.as_ref()).filter(|begun| begun.continues_as(&outage));
        let facts = match (complete, begun) {
            (Some(complete), _) if complete.outage == outage => {
                let is_valid = complete.is_settled || complete.request == self.requests;
                Facts { complete: complete.facts.complete && is_valid, ..complete.facts }
            }
            // At least these.
            (_, Some(begun)) => Facts { complete: false, ..begun.facts },
            (Some(complete), None) if complete.outage.began == outage.began => {
                Facts { complete: false, ..complete.facts }
            }
            _ => Facts::default(),
        };
        OutageReport::new(outage, Facts { waiting: waiting.saturating_add(facts.waiting), ..facts })
    }

    /// Records a report that cannot change any more.
    pub fn is_last(&mut self, report: OutageReport) {
        let last_report = Some(report.clone());
        self.of.insert(report.outage.id, Known { last_report, ..Known::default() });
    }

    fn last_report(&self, outage: &Outage) -> Option<&OutageReport> {
        let known = self.of.get(&outage.id)?;
        known.last_report.as_ref().filter(|report| report.outage == *outage)
    }
}
