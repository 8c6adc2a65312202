//! The shapes of signing in.

use serde::Deserialize;
use utoipa::ToSchema;

use super::tokens::Scope;

/// Who wants to sign in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SignIn {
    /// The administrator's token, or another one.
    #[schema(min_length = 1, max_length = 512, write_only)]
    token: String,
}

/// Who is signed in.
#[derive(ToSchema)]
pub(in crate::http) struct Session {
    signed_in: bool,
    /// What they may do; `null` when nobody is.
    #[schema(required = true)]
    scopes: Option<Vec<Scope>>,
}
