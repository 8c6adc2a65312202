//! The messages that `TokenActor` handles.

use std::fmt;

use actix::Message;
use secrecy::SecretString;

#[cfg(feature = "openapi")]
use crate::domain::token::Scope;
use crate::domain::{
    store_fault::StoreFault,
    token::{
        MAX_TOKENS, TokenRecord,
        scope::Scopes,
        secret::{TokenHash, TokenName},
    },
};

/// From the HTTP layer, for each request with a token other than the admin token: finds the token with this hash.
/// Returns `None` if it does not exist or was revoked.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<Authenticated>, TokensUnavailable>")]
pub struct Authenticate(pub TokenHash);

/// A token that is valid.
#[derive(Debug, Clone, PartialEq)]
pub enum Authenticated {
    /// A token that was created over the API or with a command.
    Token(TokenRecord),
    /// The admin token of a node that uses the same database.
    Administrator,
}

impl Authenticated {
    /// Returns what the token permits.
    pub fn scopes(&self) -> Scopes {
        match self {
            Self::Token(record) => record.scopes.clone(),
            Self::Administrator => Scopes::admin(),
        }
    }
}

/// From the HTTP layer, if the nodes with the same database share the sessions of the page: stores that sessions were
/// ended, so that the next owner of the log does not revive them.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreFault>")]
pub enum EndSessions {
    /// Those with these ids, and when they expire, as log time in seconds.
    These(Vec<(String, i64)>),
    /// All of them: the next owner creates a new key.
    All,
}

/// From the HTTP layer: lists the tokens, ordered by name.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<TokenRecord>, TokensUnavailable>")]
pub struct ListTokens;

/// From the HTTP layer: creates a token. Returns once it is stored; it is valid from then on.
#[derive(Debug, Clone, Message)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(as = TokenInput, description = "A token to create.")
)]
#[rtype(result = "Result<NewToken, CreateTokenError>")]
pub struct CreateToken {
    /// The new token's name.
    #[cfg_attr(
        feature = "openapi",
        schema(
            value_type = String,
            min_length = 1,
            max_length = 64,
            pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$",
            example = "classifier-2"
        )
    )]
    pub name: TokenName,
    /// What the new token permits.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Scope>, min_items = 1))]
    pub scopes: Scopes,
}

/// A token that was just created.
pub struct NewToken {
    /// What is stored about the token.
    pub record: TokenRecord,
    /// The token itself. It is shown once; only its hash is stored.
    pub secret: SecretString,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("record", &self.record).finish_non_exhaustive()
    }
}

/// From the HTTP layer: revokes a token. Returns once that is stored; the token is refused from then on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), RevokeTokenError>")]
pub struct RevokeToken(pub TokenName);

/// The tokens could not be read from the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tokens cannot be read: {0}")]
pub struct TokensUnavailable(pub StoreFault);

/// Why a token was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTokenError {
    /// A token with this name exists.
    #[error("a token named {0} already exists; revoke it first, or choose another name")]
    Exists(TokenName),
    /// The maximum number of tokens is reached.
    #[error("there are already {MAX_TOKENS} tokens, which is the maximum; revoke one that is no longer used")]
    TooMany,
    /// The operating system provided no random numbers.
    #[error("the operating system provided no random numbers for a token: {0}")]
    Random(String),
    /// The database could not store it.
    #[error("the token was not stored: {0}")]
    Storage(StoreFault),
}

/// Why a token was not revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeTokenError {
    /// No token has this name.
    #[error("there is no token named {0}")]
    Unknown(TokenName),
    /// The database could not store the change: the token may still be valid.
    #[error("the token was not revoked: {0}")]
    Storage(StoreFault),
}
