//! What a node can decrypt, which it shows to the other nodes.

use super::{identity_state::IdentityState, secrets::Secrets, shared_keys, source::IdentitySource};
use crate::{
    domain::node::Readable,
    store::{Store, StoreError},
};

/// Checks what the identity of this process can decrypt. Changes nothing.
#[derive(Debug)]
pub struct ReadableCheck {
    source: IdentitySource,
    /// Whether the settings come from the configuration, so that nothing needs to be decrypted for them.
    is_managed: bool,
    identity: Option<IdentityState>,
}

impl ReadableCheck {
    /// Creates a check of this identity.
    pub fn new(source: IdentitySource, is_managed: bool) -> Self {
        Self { source, is_managed, identity: None }
    }

    /// Returns what can be decrypted of what is stored. The file of the identity may have been replaced: a node that is
    /// active keeps the identity that it has used, as long as that can decrypt everything.
    pub async fn run(&mut self, store: &Store, is_active: bool) -> Result<Readable, StoreError> {
        let (row, shared) = (store.load_settings().await?, store.load_shared_keys().await?);
        let check = |identity: &IdentityState| {
            let is_readable = |password: Option<&[u8]>, client_key: Option<&[u8]>| {
                Secrets::decrypt(identity.clone(), store.place(), password, client_key).unreadable().is_none()
            };
            let settings = row
                .as_ref()
                .is_none_or(|row| is_readable(row.password.as_deref(), row.client_key.as_deref()));
            Readable {
                settings: self.is_managed || settings,
                keys: shared_keys::are_readable(identity, &shared),
            }
        };
        if is_active && self.identity.as_ref().map(check) == Some(Readable::ALL) {
            return Ok(Readable::ALL);
        }
        let identity = self.source.load();
        let readable = check(&identity);
        self.identity = Some(identity);
        Ok(readable)
    }
}
