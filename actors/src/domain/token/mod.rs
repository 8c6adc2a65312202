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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenRecord {
    /// The name that the administrator gave it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: TokenName,
    /// What it permits.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Scope>))]
    pub scopes: Scopes,
    /// When it was created.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it was last used, accurate to a minute. `None` if it has never been used.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>, format = DateTime))]
    pub last_used_at: Option<Timestamp>,
}

/// The maximum number of tokens. Each caller has its own token, and every request is compared with all of
/// them.
pub const MAX_TOKENS: u64 = 100;
