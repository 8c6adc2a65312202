//! Decides from the records of a run whether it broke a guarantee. It does no I/O.
//!
//! The names of the checks follow those of `jepsen.tests.kafka`, where it has one.

mod end;
mod events;
mod order;
mod outage;
mod terms;
#[cfg(test)]
mod tests;

pub use self::{order::repeats_by_session, outage::outages};
use crate::records::Records;

/// The number of cases that a report shows of each check.
const SHOWN: usize = 5;

/// A guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Each acknowledged event is in the log, and delivered or dead.
    Lost,
    /// Nothing arrives that nobody has sent.
    Unexpected,
    /// One event has one seq, and one seq one event, at every node and for ever.
    Identity,
    /// The events of a camera arrive in the order in which they were accepted, and are sent in it.
    Order,
    /// An event that is sent after the receipt of another one has a higher seq.
    RealTime,
    /// No message of an earlier term reaches the broker after one of a later term.
    Terms,
    /// Only the owner writes to the log.
    Fence,
    /// A session sends only a limited number of events again.
    Repeats,
    /// Another node takes over in time.
    Outage,
    /// The counts include each event once.
    Counts,
    /// The retained messages show the final state.
    Retained,
    /// Nothing goes to the history topic.
    History,
    /// What the test has noticed on its way.
    Problem,
}

/// A guarantee that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub text: String,
}

/// Returns all broken guarantees, one for each check.
pub fn check(records: &Records) -> Vec<Finding> {
    let found = [
        (Check::Lost, events::lost(records)),
        (Check::Unexpected, events::unexpected(records)),
        (Check::Identity, events::contradictions(records)),
        (Check::Order, order::overtaken(records)),
        (Check::RealTime, order::against_real_time(records)),
        (Check::Terms, terms::stale_publications(records)),
        (Check::Fence, terms::stale_writes(records)),
        (Check::Repeats, order::repeats(records)),
        (Check::Outage, outage::too_long(records)),
        (Check::Counts, end::miscounted(records)),
        (Check::Retained, end::wrongly_retained(records)),
        (Check::History, events::late(records)),
        (Check::Problem, records.problems.clone()),
    ];
    let with_cases = found.into_iter().filter(|(_, cases)| !cases.is_empty());
    with_cases.map(|(check, cases)| Finding { check, text: summary(&cases) }).collect()
}

fn summary(cases: &[String]) -> String {
    let shown = cases[..cases.len().min(SHOWN)].join("; ");
    format!("{} cases: {shown}", cases.len())
}
