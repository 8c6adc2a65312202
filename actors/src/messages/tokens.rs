//! What can be said to the [`TokenActor`](super::TokenActor), and what it answers.

use std::fmt;

use actix::Message;
use secrecy::SecretString;

use crate::domain::{
    store_fault::StoreFault,
    token::{
        MAX_TOKENS, TokenRecord,
        scope::Scopes,
        secret::{TokenHash, TokenName},
    },
};

/// From the HTTP layer, at every call: whose token this is. `None`: nobody's (any more).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<TokenRecord>, TokensUnavailable>")]
pub struct Authenticate(pub TokenHash);

/// From the HTTP layer: the tokens, in the order of their names.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<TokenRecord>, TokensUnavailable>")]
pub struct ListTokens;

/// From the HTTP layer: make a token. Answered when it is stored; it holds from then on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<NewToken, CreateTokenError>")]
pub struct CreateToken {
    /// What it is to be called.
    pub name: TokenName,
    /// What it is to permit.
    pub scopes: Scopes,
}

/// A token that was just made.
pub struct NewToken {
    /// What is kept of it.
    pub record: TokenRecord,
    /// The token itself: told once, and kept nowhere.
    pub secret: SecretString,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("record", &self.record).finish_non_exhaustive()
    }
}

/// From the HTTP layer: this token is not to hold any more. Answered when that is stored; it is refused from then on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), RevokeTokenError>")]
pub struct RevokeToken(pub TokenName);

/// The tokens could not be read from the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tokens cannot be looked up: {0}")]
pub struct TokensUnavailable(pub StoreFault);

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTokenError {
    /// There is one of this name.
    #[error("there is a token named {0} already; revoke it first, or choose another name")]
    Exists(TokenName),
    /// There are as many as may be.
    #[error("there are {MAX_TOKENS} tokens already; revoke one that is not used any more")]
    TooMany,
    /// The system gave no random numbers.
    #[error("the system gave no random numbers for a token: {0}")]
    Random(String),
    /// The database could not store it.
    #[error("the token was not stored: {0}")]
    Storage(StoreFault),
}

/// Why a token was not revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeTokenError {
    /// There is none of this name.
    #[error("there is no token named {0}")]
    Unknown(TokenName),
    /// The database could not store the change: the token may still be valid.
    #[error("the token was not revoked: {0}")]
    Storage(StoreFault),
}
