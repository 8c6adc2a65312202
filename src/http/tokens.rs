//! The token endpoints.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path},
};
use liveobject_actors::{
    Invalid,
    domain::{
        fields::Fields,
        token::{Scopes, TokenName, TokenRecord},
    },
    messages::tokens::{CreateToken, ListTokens, NewToken, RevokeToken},
};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    body::{EVENT_BYTES, Json},
    problem::Problem,
    state::{ApiState, ask},
};

/// A token that was just created.
#[derive(Serialize, ToSchema)]
#[schema(as = NewToken)]
pub(super) struct CreatedToken<'a> {
    #[serde(flatten)]
    #[schema(inline, value_type = TokenRecord)]
    record: &'a TokenRecord,
    /// The token itself. It cannot be retrieved again.
    token: &'a str,
}

/// All tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(super) struct TokenList {
    tokens: Vec<TokenRecord>,
}

/// Create a token.
///
/// Only this response contains the token itself; the service stores a hash of it. The token is valid
/// immediately.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses(
        (status = 201, description = "Created", body = CreatedToken,
            headers(("Location" = String, description = "The URL for revoking the token"))),
        (status = 409, description = "A token with this name exists, or the token limit is reached"),
        (status = 422, description = "Some fields are invalid; no token was created"),
    ),
)]
pub(super) async fn create(state: Data<ApiState>, body: Json<EVENT_BYTES>) -> Result<HttpResponse, Problem> {
    let message = read(body.0)?;
    let NewToken { record, secret } = ask(&state.handle.create_token, message).await??;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/v1/tokens/{}", record.name)))
        .json(CreatedToken { record: &record, token: secret.expose_secret() }))
}

/// All tokens, ordered by name, without the admin token in `api-token`.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, description = "The tokens", body = TokenList)),
)]
pub(super) async fn list(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let tokens = ask(&state.handle.list_tokens, ListTokens).await??;
    Ok(HttpResponse::Ok().json(TokenList { tokens }))
}

/// Revoke a token.
///
/// It is rejected from now on. Its event streams end, and so do the sessions of the page that were opened with it or
/// with its sign-in links.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "The name of the token", min_length = 1, max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "No such token"),
    ),
)]
pub(super) async fn revoke(state: Data<ApiState>, name: Path<String>) -> Result<HttpResponse, Problem> {
    // No token has an invalid name.
    let missing = |_| Problem::new(StatusCode::NOT_FOUND, "there is no such token");
    let name = TokenName::parse(name.into_inner()).map_err(missing)?;
    ask(&state.handle.revoke_token, RevokeToken(name)).await??;
    state.revocations.send_replace(());
    Ok(HttpResponse::NoContent().finish())
}

fn read(body: Value) -> Result<CreateToken, Invalid> {
    let mut fields = Fields::of(body)?;
    for required in ["name", "scopes"] {
        if !fields.has(required) {
            fields.faults.push(required, "is required");
        }
    }
    let name = fields.text("name").and_then(|text| fields.faults.check("name", TokenName::parse(text)));
    let scopes = fields
        .texts("scopes")
        .and_then(|texts| fields.faults.check("scopes", Scopes::parse(texts.iter().map(String::as_str))));
    fields.finish().finish()?;
    match (name, scopes) {
        (Some(name), Some(scopes)) => Ok(CreateToken { name, scopes }),
        (name, _) => Err(Invalid::one(if name.is_none() { "name" } else { "scopes" }, "must not be null")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_error_of_a_new_token_is_reported() {
        let message = read(json!({"name": "door", "scopes": ["read", "events:write"]})).unwrap();
        assert_eq!(
            (message.name.as_str(), message.scopes.to_string().as_str()),
            ("door", "events:write,read")
        );
        let fields = |body: Value| -> Vec<String> {
            read(body).unwrap_err().0.into_iter().map(|error| error.field).collect()
        };
        assert_eq!(fields(json!({})), ["name", "scopes"]);
        assert_eq!(fields(json!({"name": "a b", "scopes": ["fly"], "x": 1})), ["name", "scopes", "x"]);
        assert_eq!(fields(json!({"name": "a", "scopes": []})), ["scopes"]);
        assert_eq!(fields(json!({"name": "a", "scopes": "read"})), ["scopes"]);
        assert_eq!(fields(json!({"name": null, "scopes": ["read"]})), ["name"]);
        assert_eq!(fields(json!({"name": "a", "scopes": null})), ["scopes"]);
        assert_eq!(fields(json!([])), [""]);
    }
}
