//! Whether this service may publish now. Several services, the nodes, can share a database on a server; only the owner
//! of the event log publishes, and only while it knows that it is the owner.

use std::time::Instant;

use super::{Ownership, Store, StoreError, connection::Connection};
use crate::domain::lease::{Lease, Term};

/// Open while this service may publish. That of a database which only one service can use is always open.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// With the period of ownership.
    ownership: Option<(Ownership, Term)>,
    /// The store that confirms the ownership.
    store: Option<Store>,
}

impl Store {
    /// Returns the gate of the service that uses this store.
    pub(crate) fn gate(&self) -> Gate {
        let ownership = match &self.write {
            Connection::Writer(held) => self.ownership().cloned().zip(held.term()),
            Connection::Sqlite(_) | Connection::Readers(_) => None,
        };
        let store = ownership.is_some().then(|| self.clone());
        Gate { ownership, store }
    }
}

impl Gate {
    /// Returns whether messages may be sent now.
    pub fn is_open(&self) -> bool {
        self.ownership.as_ref().is_none_or(|(ownership, term)| ownership.is_trusted_in(*term))
    }

    /// Returns whether another node owns the event log, for good.
    pub fn has_ended(&self) -> bool {
        self.ownership.as_ref().is_some_and(|(ownership, term)| ownership.term() != Some(*term))
    }

    /// Waits until messages may be sent.
    pub async fn opened(&self) {
        self.wait_until(Self::is_open).await;
    }

    /// Returns whether the gate is open, and the database has shown that since `since`.
    pub fn is_confirmed_since(&self, since: Option<Instant>) -> bool {
        let Some((ownership, _)) = &self.ownership else { return true };
        let is_confirmed = |since| ownership.read(|lease: &Lease| lease.is_confirmed_since(since));
        self.is_open() && since.is_none_or(is_confirmed)
    }

    /// Waits until [`is_confirmed_since`](Self::is_confirmed_since) returns `true`.
    pub async fn confirmed_since(&self, since: Option<Instant>) {
        self.wait_until(|gate| gate.is_confirmed_since(since)).await;
    }

    /// Returns whether a new connection must be [confirmed](Self::confirm).
    pub fn must_confirm(&self) -> bool {
        self.ownership.is_some()
    }

    /// Asks the database whether this node still owns the event log.
    pub async fn confirm(&self) -> Result<(), StoreError> {
        match &self.store {
            Some(store) => store.confirm().await,
            None => Ok(()),
        }
    }

    async fn wait_until(&self, is_met: impl Fn(&Self) -> bool) {
        let mut changes = self.ownership.as_ref().map(|(ownership, _)| ownership.subscribe());
        while !is_met(self) {
            // The sender lives as long as the ownership.
            let Some(changes) = &mut changes else { return };
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The gate of a service that owns the event log, in a test.
#[cfg(test)]
#[derive(Debug)]
pub struct TestOwner {
    ownership: Ownership,
    term: Term,
}

#[cfg(test)]
impl TestOwner {
    /// Returns an owner whose trust has ended.
    pub fn suspended() -> Self {
        use uuid::Uuid;

        use super::{new_term, now};
        use crate::domain::lease::{ClaimOutcome, NodeId, Owner, TRUST};

        let ownership = Ownership::new(Lease::new(NodeId(Uuid::from_u128(1)), true));
        let term = new_term();
        ownership.update(|lease| {
            lease.beat_answered(now(), now(), Owner { node: None, term: new_term(), beat: 0 });
            let claim = lease.wanted_claim(now(), term).expect("there is no owner");
            lease.claim_answered(claim, ClaimOutcome::Granted, now() - TRUST, now());
        });
        Self { ownership, term }
    }

    /// Returns its gate.
    pub fn gate(&self) -> Gate {
        Gate { ownership: Some((self.ownership.clone(), self.term)), store: None }
    }

    /// Records a beat that begins now and shows that it is still the owner.
    pub fn beat(&self) {
        use super::now;
        use crate::domain::lease::Owner;

        let seen = Owner { node: None, term: self.term, beat: 1 };
        self.ownership.update(|lease| lease.beat_answered(now(), now(), seen));
    }

    /// Records that another node is the owner.
    pub fn fenced(&self) {
        self.ownership.fenced(self.term);
    }
}
