//! The ownership of the event log, shared by the keeper, the connection that writes and those that publish.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::watch;

use crate::domain::lease::{Lease, Term};

/// What this node knows about the ownership. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Ownership(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lease: Mutex<Lease>,
    changed: watch::Sender<()>,
}

impl Ownership {
    /// Shares this state.
    pub fn new(lease: Lease) -> Self {
        Self(Arc::new(Shared { lease: Mutex::new(lease), changed: watch::Sender::new(()) }))
    }

    /// Returns whether this node is the owner and may publish now.
    pub fn is_trusted(&self) -> bool {
        self.read(|lease| lease.is_trusted(Instant::now()))
    }

    /// Returns the term of which this node is the owner.
    pub fn term(&self) -> Option<Term> {
        self.read(Lease::term)
    }

    /// Reads the state.
    pub fn read<R>(&self, read: impl FnOnce(&Lease) -> R) -> R {
        read(&self.0.lease.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state, and notifies the subscribers.
    pub fn update<R>(&self, change: impl FnOnce(&mut Lease) -> R) -> R {
        let changed = change(&mut self.0.lease.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changed.send_replace(());
        changed
    }

    /// Records a successful write with this term, which began at `started`.
    pub fn written(&self, term: Term, started: Instant) {
        self.update(|lease| lease.written(term, started));
    }

    /// Records that a write with this term has changed nothing, because the term has ended.
    pub fn fenced(&self, term: Term) {
        self.update(|lease| lease.fenced(term));
    }

    /// Returns a receiver that is notified of each change.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }
}
