//! The stored secrets in memory, and the error messages for secrets that cannot be read.

use secrecy::SecretString;

use super::{
    identity::DecryptError,
    identity_state::{GivenIdentity, IdentityState},
};
use crate::domain::store_fault::DatabasePlace;

/// A secret that may be stored in the database.
#[derive(Debug, Clone)]
pub(super) enum StoredSecret {
    /// No secret is stored.
    Absent,
    /// The secret is stored and was decrypted.
    Known(SecretString),
    /// The secret is stored but cannot be decrypted. Contains the reason and how to fix it.
    Unreadable(String),
}

impl StoredSecret {
    /// Returns whether the database contains a ciphertext.
    pub(super) fn is_stored(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// Returns the secret if it is known.
    pub(super) fn known(&self) -> Option<SecretString> {
        match self {
            Self::Known(secret) => Some(secret.clone()),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// Returns why the secret cannot be read.
    pub(super) fn fault(&self) -> Option<&str> {
        match self {
            Self::Unreadable(reason) => Some(reason),
            Self::Absent | Self::Known(_) => None,
        }
    }
}

/// Both secrets, and the identity that encrypts them.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    pub identity: IdentityState,
    pub password: StoredSecret,
    pub client_key: StoredSecret,
}

impl Secrets {
    /// Decrypts the ciphertexts in the row. Other nodes may use a database on a server: a secret that is entered again
    /// can only be decrypted with the identity of this node.
    pub(super) fn decrypt(
        identity: IdentityState,
        place: DatabasePlace,
        password: Option<&[u8]>,
        client_key: Option<&[u8]>,
    ) -> Self {
        let decrypt = |name, ciphertext| match ciphertext {
            None => StoredSecret::Absent,
            Some(ciphertext) => {
                let problem = format!("the stored {name} cannot be read");
                let again = format!("enter the {name} again");
                let if_alone = format!("enter the {name} again if no other node uses the database");
                let remedy = match place {
                    DatabasePlace::File => &again,
                    DatabasePlace::Server => &if_alone,
                };
                decrypt(&identity, &problem, [remedy, &again], ciphertext)
            }
        };
        let (password, client_key) = (decrypt("password", password), decrypt("client key", client_key));
        Self { identity, password, client_key }
    }

    /// Returns why stored secrets cannot be read and how to fix it, or `None` if all of them can be read.
    pub(super) fn unreadable(&self) -> Option<String> {
        let faults: Vec<_> =
            [&self.password, &self.client_key].into_iter().filter_map(StoredSecret::fault).collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

/// Decrypts a secret. If that fails, the reason begins with `problem`, and names the identity to restore, or what else
/// can be done: without the identity, and with a damaged ciphertext.
pub(super) fn decrypt(
    identity: &IdentityState,
    problem: &str,
    [remedy, if_damaged]: [&str; 2],
    ciphertext: &[u8],
) -> StoredSecret {
    let (identity, other) = match identity {
        IdentityState::Ready(identity) => {
            (identity, "the one in the identity file; restore the correct file and restart".to_owned())
        }
        IdentityState::Given(GivenIdentity { identity, from }) => {
            (identity, format!("the one in {from}; put the correct one there and restart"))
        }
        IdentityState::Missing { path } => {
            let path = path.display();
            let reason = format!(
                "{problem}: the identity file {path} is missing; put it back and restart, or {remedy}"
            );
            return StoredSecret::Unreadable(reason);
        }
        IdentityState::Unusable { reason } => {
            return StoredSecret::Unreadable(format!("{problem}: {reason}; fix this and restart"));
        }
    };
    StoredSecret::Unreadable(match identity.decrypt(ciphertext) {
        Ok(secret) => return StoredSecret::Known(secret),
        Err(DecryptError::OtherIdentity) => {
            format!("{problem}: it was encrypted with an identity other than {other}, or {remedy}")
        }
        Err(DecryptError::Damaged) => {
            let remedy = if_damaged;
            format!("{problem}: its ciphertext is damaged; {remedy}")
        }
    })
}
