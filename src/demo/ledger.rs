//! What was accepted and what arrived.

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

/// Shared by those who send and the one who receives. Events are known by their places in the log.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event was accepted.
    pub fn accepted(&self, seq: i64) {
        self.entries().accepted.insert(seq);
    }

    /// An event arrived at the subscriber. One that was sent from elsewhere (curl) was accepted, too.
    pub fn arrived(&self, seq: i64, late: bool) {
        let mut entries = self.entries();
        entries.accepted.insert(seq);
        entries.late += usize::from(entries.arrived.insert(seq) && late);
    }

    /// How many events were accepted and have not arrived.
    pub fn lost(&self) -> usize {
        let entries = self.entries();
        entries.accepted.difference(&entries.arrived).count()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.lost();
        let Entries { accepted, arrived, late } = &*self.entries();
        write!(f, "accepted {}, delivered {}, late {late}, lost {lost}", accepted.len(), arrived.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_and_did_not_arrive_is_lost() {
        let ledger = Ledger::default();
        ledger.accepted(1);
        ledger.accepted(2);
        ledger.arrived(1, false);
        ledger.arrived(1, true);
        assert_eq!(ledger.to_string(), "accepted 2, delivered 1, late 0, lost 1");
    }
}
