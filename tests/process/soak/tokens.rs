//! The API token that the senders use. It changes while they send.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The current token of the senders, and the tokens that the service may refuse.
#[derive(Debug)]
pub struct Tokens {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: String,
    revoked: BTreeSet<String>,
}

impl Tokens {
    pub fn new(current: String) -> Self {
        Self { state: Mutex::new(State { current, revoked: BTreeSet::new() }) }
    }

    pub fn current(&self) -> String {
        self.state().current.clone()
    }

    /// Makes the senders use another token.
    pub fn set_current(&self, token: &str) {
        token.clone_into(&mut self.state().current);
    }

    /// Records that a token is about to be revoked.
    pub fn revoke(&self, token: &str) {
        self.state().revoked.insert(token.to_owned());
    }

    /// Returns whether the service may refuse this token.
    pub fn is_revoked(&self, token: &str) -> bool {
        self.state().revoked.contains(token)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
