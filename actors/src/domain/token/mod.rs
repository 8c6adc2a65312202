//! API tokens: their names, scopes and hashes.

pub mod scope;
pub mod secret;

use serde::Serialize;

pub use self::{
    scope::{Scope, Scopes},
    secret::{TokenHash, TokenName},
};
use crate::domain::clock::Timestamp;

/// The properties of a token. The service does not know the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRecord {
    /// The name that the administrator gave it.
    pub name: TokenName,
    /// What it permits.
    pub scopes: Scopes,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last used, accurate to a minute. `None` if it has never been used.
    pub last_used_at: Option<Timestamp>,
}

/// The maximum number of tokens. Each caller has its own token, and every request is compared with all of
/// them.
pub const MAX_TOKENS: u64 = 100;
