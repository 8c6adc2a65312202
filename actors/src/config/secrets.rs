//! The secrets as they are held in memory, and what is said when one cannot be read.

use secrecy::SecretString;

use super::{identity::DecryptError, identity_file::IdentityState, source::GivenIdentity};

/// One secret.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// There is none.
    None,
    /// There is one, and it is known.
    Known(SecretString),
    /// The database holds a ciphertext that cannot be decrypted; why, and how to mend it.
    Unreadable(String),
}

impl Held {
    /// Whether the database holds a ciphertext.
    pub(super) fn is_stored(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The secret, if it is known.
    pub(super) fn known(&self) -> Option<SecretString> {
        match self {
            Self::Known(secret) => Some(secret.clone()),
            Self::None | Self::Unreadable(_) => None,
        }
    }

    /// Why it cannot be read.
    pub(super) fn fault(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::None | Self::Known(_) => None,
        }
    }
}

/// Both secrets, and what they are encrypted with.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    pub identity: IdentityState,
    pub password: Held,
    pub client_key: Held,
}

impl Secrets {
    /// Decrypts what the row holds.
    pub(super) fn unlock(
        identity: IdentityState,
        password: Option<&[u8]>,
        client_key: Option<&[u8]>,
    ) -> Self {
        let open = |name, ciphertext| match ciphertext {
            None => Held::None,
            Some(ciphertext) => open(&identity, name, ciphertext),
        };
        let (password, client_key) = (open("password", password), open("client key", client_key));
        Self { identity, password, client_key }
    }

    /// Why a stored secret cannot be read, and how to mend it; `None` when all can.
    pub(super) fn unreadable(&self) -> Option<String> {
        let faults: Vec<_> = [&self.password, &self.client_key].into_iter().filter_map(Held::fault).collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

fn open(identity: &IdentityState, name: &str, ciphertext: &[u8]) -> Held {
    let cannot = format!("the stored {name} cannot be read");
    let again = format!("enter the {name} again");
    let (identity, other) = match identity {
        IdentityState::Ready(identity) => {
            (identity, "the one in the identity file; put the right file back and restart".to_owned())
        }
        IdentityState::Given(GivenIdentity { identity, from }) => {
            (identity, format!("the one in {from}; put the right one there and restart"))
        }
        IdentityState::Missing { path } => {
            let path = path.display();
            let why =
                format!("{cannot}: the identity file {path} is missing; put it back and restart, or {again}");
            return Held::Unreadable(why);
        }
        IdentityState::Unusable { reason } => {
            return Held::Unreadable(format!("{cannot}: {reason}, and restart"));
        }
    };
    Held::Unreadable(match identity.decrypt(ciphertext) {
        Ok(secret) => return Held::Known(secret),
        Err(DecryptError::OtherIdentity) => {
            format!("{cannot}: it was encrypted with another identity than {other}, or {again}")
        }
        Err(DecryptError::Damaged) => format!("{cannot}: its ciphertext is damaged; {again}"),
    })
}
