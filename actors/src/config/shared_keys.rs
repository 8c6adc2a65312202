//! The keys that the nodes with a database on a server share. They are stored there as ciphertext of the same identity
//! as the MQTT secrets.

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    StoredSettings,
    identity::{Identity, PublicKey},
    identity_state::IdentityState,
    secrets::{StoredSecret, decrypt},
    source::IdentitySource,
};
use crate::{
    domain::{hex, link_key::LinkKey, session_key::SessionKey},
    store::{SharedKeysRow, Store, StoreError},
};

const LINK_KEY: &str = "link key";

/// A key that all nodes use.
#[derive(Debug, Clone)]
pub enum SharedKey<K> {
    /// No node has stored one yet.
    Absent,
    /// The key.
    Known(K),
    /// It is stored but cannot be decrypted. Contains the reason and how to fix it.
    Unreadable(String),
}

/// The keys that all nodes use.
#[derive(Debug, Clone)]
pub struct SharedKeys {
    /// The key that signs links to pictures.
    pub link: SharedKey<LinkKey>,
    /// The key that signs the page's sessions.
    pub session: SharedKey<SessionKey>,
}

/// Why keys were not stored.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// There is no identity to encrypt them with.
    #[error("the keys cannot be shared with other nodes: {0}")]
    Identity(String),
    /// The database cannot be written.
    #[error(transparent)]
    Database(#[from] StoreError),
}

impl StoredSettings {
    /// Reads the keys that all nodes use. None is stored if the database is a file.
    pub async fn shared_keys(&self) -> Result<SharedKeys, StoreError> {
        let SharedKeysRow { link_key, session_key } = self.context.store.load_shared_keys().await?;
        let identity = &self.current.secrets.identity;
        Ok(SharedKeys {
            link: key(identity, LINK_KEY, link_key.as_deref(), LinkKey::from_bytes),
            session: key(identity, "session key", session_key.as_deref(), SessionKey::from_bytes),
        })
    }

    /// Stores keys that are absent, for all nodes.
    pub async fn share_keys(
        &self,
        link: Option<&LinkKey>,
        session: Option<&SessionKey>,
    ) -> Result<(), ShareError> {
        let identity = match &self.current.secrets.identity {
            IdentityState::Missing { path } => {
                Err(ShareError::Identity(format!("the identity file {} is missing", path.display())))
            }
            IdentityState::Unusable { reason } => Err(ShareError::Identity(reason.clone())),
            usable => usable.usable().ok_or_else(|| ShareError::Identity("there is no identity".to_owned())),
        }?;
        let seal = |key: Option<&[u8; 32]>| {
            let sealed = key.map(|key| encrypt(identity, key, &self.context.recipients)).transpose();
            sealed.map_err(|error| ShareError::Identity(error.to_string()))
        };
        let (link_key, session_key) =
            (seal(link.map(LinkKey::expose))?, seal(session.map(SessionKey::expose))?);
        Ok(self.context.store.save_shared_keys(&SharedKeysRow { link_key, session_key }).await?)
    }
}

/// Returns the key that signs links to pictures, as a node that is not active reads it. Changes nothing.
pub async fn shared_link_key(
    store: &Store,
    identity: &IdentitySource,
) -> Result<SharedKey<LinkKey>, StoreError> {
    let SharedKeysRow { link_key, .. } = store.load_shared_keys().await?;
    Ok(key(&identity.load(), LINK_KEY, link_key.as_deref(), LinkKey::from_bytes))
}

/// Returns whether this identity can decrypt the keys that are stored.
pub(super) fn are_readable(identity: &IdentityState, row: &SharedKeysRow) -> bool {
    let is_readable = |ciphertext: &Option<Vec<u8>>| {
        !matches!(key(identity, "key", ciphertext.as_deref(), |_| ()), SharedKey::Unreadable(_))
    };
    is_readable(&row.link_key) && is_readable(&row.session_key)
}

fn encrypt(
    identity: &Identity,
    key: &[u8; 32],
    recipients: &[PublicKey],
) -> Result<Vec<u8>, age::EncryptError> {
    let mut text = String::with_capacity(64);
    hex::push(&mut text, key);
    identity.encrypt(&SecretString::from(text), recipients)
}

fn key<K>(
    identity: &IdentityState,
    name: &str,
    ciphertext: Option<&[u8]>,
    of: impl FnOnce([u8; 32]) -> K,
) -> SharedKey<K> {
    let Some(ciphertext) = ciphertext else { return SharedKey::Absent };
    let problem = format!("the {name} that the nodes share cannot be read");
    let column = name.replace(' ', "_");
    let replace = format!(
        "remove the key (UPDATE liveobject.cluster SET {column} = NULL) and restart, which creates a new one"
    );
    // With another key, links or sessions of all nodes end.
    let copy = format!(
        "copy identity.age from the data directory of a node that can read this key; only if there is none any more, \
         {replace}"
    );
    match decrypt(identity, &problem, [&copy, &replace], ciphertext) {
        StoredSecret::Known(text) => match hex::read(text.expose_secret()) {
            Some(bytes) => SharedKey::Known(of(bytes)),
            None => SharedKey::Unreadable(format!("{problem}: it is damaged; {replace}")),
        },
        StoredSecret::Unreadable(reason) => SharedKey::Unreadable(reason),
        StoredSecret::Absent => SharedKey::Absent,
    }
}
