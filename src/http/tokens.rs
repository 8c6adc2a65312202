//! The tokens of the API: making, listing and revoking them.

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

use super::{
    body::{EVENT_BYTES, Json},
    problem::Problem,
    schema,
    state::{ApiState, ask},
};

/// A new token, with the token itself.
#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    record: &'a TokenRecord,
    token: &'a str,
}

#[derive(Serialize)]
struct All {
    tokens: Vec<TokenRecord>,
}

/// Make a token.
///
/// Its text is in this answer and nowhere else: only a hash of it is kept. It holds at once.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", request_body = schema::TokenInput,
    responses(
        (status = 201, description = "Made", body = schema::NewToken,
            headers(("Location" = String, description = "Where it can be revoked"))),
        (status = 409, description = "There is one of this name, or there are as many as may be"),
        (status = 422, description = "Fields are at fault; none was made"),
    ),
)]
pub(super) async fn create(state: Data<ApiState>, body: Json<EVENT_BYTES>) -> Result<HttpResponse, Problem> {
    let message = read(body.0)?;
    let NewToken { record, secret } = ask(&state.handle.create_token, message).await??;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/v1/tokens/{}", record.name)))
        .json(Created { record: &record, token: secret.expose_secret() }))
}

/// Every token, in the order of their names. The administrator's own, in `api-token`, is not among them.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, description = "The tokens", body = schema::Tokens)),
)]
pub(super) async fn list(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let tokens = ask(&state.handle.list_tokens, ListTokens).await??;
    Ok(HttpResponse::Ok().json(All { tokens }))
}

/// Revoke a token. It is refused from now on.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "What it is called", min_length = 1, max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "No such token"),
    ),
)]
pub(super) async fn revoke(state: Data<ApiState>, name: Path<String>) -> Result<HttpResponse, Problem> {
    // What cannot be a token's name names none.
    let missing = |_| Problem::new(StatusCode::NOT_FOUND, "there is no such token");
    let name = TokenName::parse(name.into_inner()).map_err(missing)?;
    ask(&state.handle.revoke_token, RevokeToken(name)).await??;
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
    fn every_fault_of_a_new_token_is_named() {
        let made = read(json!({"name": "door", "scopes": ["read", "events:write"]})).unwrap();
        assert_eq!((made.name.as_str(), made.scopes.to_string().as_str()), ("door", "events:write,read"));
        let faults = |body: Value| -> Vec<String> {
            read(body).unwrap_err().0.into_iter().map(|fault| fault.field).collect()
        };
        assert_eq!(faults(json!({})), ["name", "scopes"]);
        assert_eq!(faults(json!({"name": "a b", "scopes": ["fly"], "x": 1})), ["name", "scopes", "x"]);
        assert_eq!(faults(json!({"name": "a", "scopes": []})), ["scopes"]);
        assert_eq!(faults(json!({"name": "a", "scopes": "read"})), ["scopes"]);
        assert_eq!(faults(json!({"name": null, "scopes": ["read"]})), ["name"]);
        assert_eq!(faults(json!({"name": "a", "scopes": null})), ["scopes"]);
        assert_eq!(faults(json!([])), [""]);
    }
}
