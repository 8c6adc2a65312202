//! Counts the events that were accepted and the ones that arrived.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Default)]
struct Entries {
    accepted: BTreeSet<i64>,
    arrived: BTreeSet<i64>,
    late: usize,
}

/// The ledger of all events, by their sequence numbers. The clones that the classifiers and the subscriber
/// own share it.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event that the service accepted.
    pub fn record_accepted(&self, seq: i64) {
        self.entries().accepted.insert(seq);
    }

    /// Records an event that arrived at the subscriber. It also counts as accepted, because it may have been
    /// sent by another client, such as curl.
    pub fn record_arrived(&self, seq: i64, late: bool) {
        let mut entries = self.entries();
        entries.accepted.insert(seq);
        entries.late += usize::from(entries.arrived.insert(seq) && late);
    }

    /// Returns how many events were accepted and have not arrived.
    pub fn missing(&self) -> usize {
        let entries = self.entries();
        entries.accepted.difference(&entries.arrived).count()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.missing();
        let Entries { accepted, arrived, late } = &*self.entries();
        write!(f, "accepted {}, delivered {}, late {late}, lost {lost}", accepted.len(), arrived.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_event_that_did_not_arrive_is_lost() {
        let ledger = Ledger::default();
        ledger.record_accepted(1);
        ledger.record_accepted(2);
        ledger.record_arrived(1, false);
        ledger.record_arrived(1, true);
        assert_eq!(ledger.to_string(), "accepted 2, delivered 1, late 0, lost 1");
    }
}
