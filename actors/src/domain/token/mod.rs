//! API tokens: their names, scopes and hashes.

pub mod scope;
pub mod secret;

use serde::Serialize;

pub use self::{
    scope::{Scope, Scopes},
    secret::{TokenHash, TokenName},
};
use crate::domain::clock::Timestamp;

/// What is known of a token; the token itself is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRecord {
    /// What people call it.
    pub name: TokenName,
    /// What it permits.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last shown, to a minute; `None`: never.
    pub last_used_at: Option<Timestamp>,
}

/// How many tokens there may be: each caller has one, and each is looked through at each call.
pub const MAX_TOKENS: u64 = 100;
