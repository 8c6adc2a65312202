//! What this process knows about its ownership of the event log. Shared by the keeper, which beats and claims; by the
//! connection that writes, which learns from each write whether the term is still the current one; and by everything
//! that must not publish unless the ownership is trusted.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use crate::domain::lease::{Lease, Term};

/// The ownership. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ownership(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lease: Mutex<Lease>,
    changed: watch::Sender<()>,
    /// How often a write has shown that the term had ended.
    fenced: AtomicU64,
}

/// Returns the current monotonic time.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns a new, random term.
pub fn new_term() -> Term {
    Term(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
}

impl Ownership {
    /// Shares this state.
    pub fn new(lease: Lease) -> Self {
        Self(Arc::new(Shared {
            lease: Mutex::new(lease),
            changed: watch::Sender::new(()),
            fenced: AtomicU64::new(0),
        }))
    }

    /// Returns whether this node is the owner and may publish now.
    pub fn is_trusted(&self) -> bool {
        self.lock().is_trusted(now())
    }

    /// Returns whether this node is the owner with this term and may publish now.
    pub fn is_trusted_in(&self, term: Term) -> bool {
        let lease = self.lock();
        lease.term() == Some(term) && lease.is_trusted(now())
    }

    /// Returns the term of which this node is the owner.
    pub fn term(&self) -> Option<Term> {
        self.lock().term()
    }

    /// Reads the state.
    pub fn read<R>(&self, read: impl FnOnce(&Lease) -> R) -> R {
        read(&self.lock())
    }

    /// Changes the state, and notifies the subscribers.
    pub fn update<R>(&self, change: impl FnOnce(&mut Lease) -> R) -> R {
        let result = change(&mut self.lock());
        self.notify();
        result
    }

    /// Records that a write with this term, which was sent at `started`, has succeeded. Notifies the subscribers if
    /// the ownership was not trusted before: there can be hundreds of writes in a second.
    pub fn written(&self, term: Term, started: Instant) {
        let is_resumed = {
            let mut lease = self.lock();
            let now = now();
            let was_trusted = lease.is_trusted(now);
            lease.written(term, started);
            !was_trusted && lease.is_trusted(now)
        };
        if is_resumed {
            self.notify();
        }
    }

    /// Records that a write with this term has changed nothing, because the term has ended.
    pub fn fenced(&self, term: Term) {
        let change = self.lock().fenced(term);
        if change.is_some() {
            self.0.fenced.fetch_add(1, Ordering::Relaxed);
            self.notify();
        }
    }

    /// Returns how often a write has shown that this node had lost the ownership.
    pub fn fenced_count(&self) -> u64 {
        self.0.fenced.load(Ordering::Relaxed)
    }

    /// Returns a receiver that is notified of changes. The trust also ends as time passes, without a notification.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn notify(&self) {
        self.0.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Lease> {
        // A thread that panicked cannot have left a partial state.
        self.0.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::domain::lease::{ClaimOutcome, NodeId, Owner, TRUST};

    fn owner() -> (Ownership, Term) {
        let ownership = Ownership::new(Lease::new(NodeId(Uuid::from_u128(1)), true));
        let term = new_term();
        ownership.update(|lease| {
            lease.beat_answered(now(), now(), Owner { node: None, term: new_term(), beat: 0 });
            let claim = lease.wanted_claim(now(), term).unwrap();
            lease.claim_answered(claim, ClaimOutcome::Granted, now(), now());
        });
        (ownership, term)
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_are_notified_when_a_write_renews_the_trust_but_not_of_each_write() {
        let (ownership, term) = owner();
        let subscriber = ownership.subscribe();
        assert!(ownership.is_trusted_in(term) && !ownership.is_trusted_in(new_term()));
        ownership.written(term, now());
        assert!(!subscriber.has_changed().unwrap());
        tokio::time::advance(TRUST).await;
        assert!(!ownership.is_trusted() && !subscriber.has_changed().unwrap());
        ownership.written(term, now().checked_sub(Duration::from_secs(1)).unwrap());
        assert!(ownership.is_trusted() && subscriber.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_an_ended_term_ends_the_ownership() {
        let (ownership, term) = owner();
        let subscriber = ownership.subscribe();
        ownership.fenced(new_term());
        assert!(ownership.is_trusted() && !subscriber.has_changed().unwrap(), "it was an earlier one");
        ownership.fenced(term);
        assert!(!ownership.is_trusted() && subscriber.has_changed().unwrap());
        assert_eq!(ownership.term(), None);
    }
}
