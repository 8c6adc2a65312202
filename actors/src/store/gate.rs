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

#[cfg(test)]
impl Gate {
    /// Returns the gate of a service that owns the event log in this term.
    pub fn new(ownership: Ownership, term: Term) -> Self {
        Self { ownership: Some((ownership, term)), store: None }
    }
}
