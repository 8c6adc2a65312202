//! The shapes of tokens.

use serde::Deserialize;
use utoipa::ToSchema;

/// What a token permits: `events:write` to hand in events, their pictures and how cameras stand; `read` to look at
/// everything but the tokens; `admin` everything.
#[derive(Deserialize, ToSchema)]
pub(in crate::http) enum Scope {
    #[serde(rename = "events:write")]
    EventsWrite,
    #[serde(rename = "read")]
    Read,
    #[serde(rename = "admin")]
    Admin,
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct TokenInput {
    /// What it is called.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$",
        example = "classifier-2"
    )]
    name: String,
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
}

/// What is known of a token.
#[derive(ToSchema)]
pub(in crate::http) struct TokenRecord {
    name: String,
    scopes: Vec<Scope>,
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last shown, to a minute; `null`: never.
    #[schema(required = true, format = DateTime)]
    last_used_at: Option<String>,
}

/// A token that was just made.
#[derive(ToSchema)]
pub(in crate::http) struct NewToken {
    name: String,
    scopes: Vec<Scope>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required = true, format = DateTime)]
    last_used_at: Option<String>,
    /// The token itself: told once.
    token: String,
}

/// Every token.
#[derive(ToSchema)]
pub(in crate::http) struct Tokens {
    tokens: Vec<TokenRecord>,
}
