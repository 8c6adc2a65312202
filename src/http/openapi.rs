//! The OpenAPI 3.1 document, made from the handlers and the schemas.

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::Method, web::Bytes};
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, OneOfBuilder, PathItem, Ref, RefOr, Response,
        ResponseBuilder, Schema, Type,
        path::Operation,
        schema::SchemaType,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    ROUTES, cameras, events, health, history, metrics, mqtt, page, problem::CONTENT_TYPE, route::Access,
    schema, session, stream, thumbnails, tokens,
};

/// The document's source: every handler, and what holds for all of them.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "liveobject",
        description = "Takes camera detection events, keeps them safe on disk, and publishes them over MQTT. A 5xx answer \
                       means *not known to be accepted*: send the event again with the same `event_id`; it cannot double."
    ),
    paths(
        health::live,
        health::ready,
        metrics::metrics,
        document,
        page::index,
        page::file,
        session::look,
        session::sign_in,
        session::sign_out,
        events::publish,
        events::list,
        events::publish_batch,
        events::find,
        events::retry,
        events::dismiss,
        stream::open,
        history::history,
        thumbnails::store,
        thumbnails::find,
        cameras::list,
        cameras::find,
        cameras::replace,
        cameras::delete,
        cameras::set_status,
        cameras::thumbnail,
        mqtt::config,
        mqtt::replace_config,
        mqtt::status,
        mqtt::test,
        mqtt::test_message,
        mqtt::publish_discovery,
        tokens::list,
        tokens::create,
        tokens::revoke,
    ),
    components(schemas(schema::Problem, schema::FieldError, schema::DeliveryChange)),
    modifiers(&EveryCall),
    tags(
        (name = "events", description = "Accepting events, and telling what became of them"),
        (name = "cameras", description = "The cameras, and how they stand"),
        (name = "mqtt", description = "The connection to the broker"),
        (name = "tokens", description = "Who may call, and what"),
        (name = "session", description = "Signing in to the page"),
        (name = "page", description = "The web page"),
        (name = "operation", description = "Health and metrics"),
    ),
)]
struct Document;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    Document::openapi().to_json().expect("a document of texts and numbers always serializes").into()
});

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.clone())
}

/// Adds what every call has: the answers to a foreign host and, under `/api`, to a caller without token or scope and by a
/// service that is away; wherever a body is read, the answers to one that cannot be; and the form of all errors.
struct EveryCall;

impl Modify for EveryCall {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "The administrator's token, in `api-token`, or another one that has the scope which the call names: \
             `events:write`, `read` or `admin`, which is all of them",
        ));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let cookie = ApiKeyValue::with_description(
            "liveobject_session",
            "The page's own way: it signs in with a token and permits what that permits, for calls of the page itself",
        );
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        let link = ApiKeyValue::with_description(
            "signature",
            "A link that was signed: `expires` and `signature` of an event's `thumbnail_url`",
        );
        components.add_security_scheme("link", SecurityScheme::ApiKey(ApiKey::Query(link)));
        let settings = schema::SettingsInput::name();
        if let Some(RefOr::T(Schema::Object(settings))) = components.schemas.get_mut(&*settings) {
            settings.properties.values_mut().for_each(or_null);
        }
        for (path, item) in &mut openapi.paths.paths {
            for (method, operation) in operations(item) {
                let foreign = "`Host` or `Origin` is not this service's; see `[http] allowed_hosts`";
                let access = ROUTES.iter().find(|r| r.path == path && r.method == method).map(|r| r.access);
                if let Some(Access::Holder(scope) | Access::HolderOrLink(scope)) = access {
                    let link = matches!(access, Some(Access::HolderOrLink(_))).then(|| needs("link", None));
                    let holder =
                        [needs("bearer", Some(scope.as_str())), needs("session", Some(scope.as_str()))];
                    let security = holder.into_iter().chain(link);
                    operation.security = Some(security.collect());
                    answer(operation, "401", "No token, or a wrong one");
                    answer(operation, "403", &format!("The token has not the scope `{scope}`; or {foreign}"));
                    answer(operation, "429", "Too many wrong tokens from this address");
                    answer(
                        operation,
                        "503",
                        "Stopping, or starting anew: ask again after `Retry-After` seconds",
                    );
                }
                answer(operation, "403", foreign);
                if operation.request_body.is_some() {
                    answer(operation, "400", "The body is not JSON");
                    answer(operation, "408", "The body did not come in time");
                    answer(operation, "413", "The body is too large");
                    answer(operation, "415", "The body is compressed");
                }
                for (status, response) in &mut operation.responses.responses {
                    if let RefOr::T(response) = response
                        && *status.as_str() >= *"400"
                    {
                        as_problem(status, response);
                    }
                }
            }
        }
    }
}

fn needs(scheme: &str, scope: Option<&str>) -> SecurityRequirement {
    SecurityRequirement::new(scheme, scope)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, put, post, delete, .. } = item;
    [(Method::GET, get), (Method::PUT, put), (Method::POST, post), (Method::DELETE, delete)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds an answer, where the handler does not say more of it.
fn answer(operation: &mut Operation, status: &str, description: &str) {
    let responses = &mut operation.responses.responses;
    responses
        .entry(status.to_owned())
        .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(description).build()));
}

/// In what is written, `null` stands for a field that is left out.
fn or_null(property: &mut RefOr<Schema>) {
    match property {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Type(one) = &object.schema_type {
                object.schema_type = SchemaType::from_iter([one.clone(), Type::Null]);
            }
        }
        RefOr::Ref(reference) => {
            let null = ObjectBuilder::new().schema_type(Type::Null);
            let either = OneOfBuilder::new()
                .item(null)
                .item(Ref::new(&reference.ref_location))
                .description(Some(&reference.description))
                .default(reference.default.clone());
            *property = either.into();
        }
        RefOr::T(_) => {}
    }
}

/// Every error is a problem; some have a header that goes with their status.
fn as_problem(status: &str, response: &mut Response) {
    let problem = Ref::from_schema_name(schema::Problem::name());
    let content = ContentBuilder::new().schema(Some(problem)).build();
    response.content.insert(CONTENT_TYPE.to_owned(), content.into());
    let (name, description) = match status {
        "401" => ("WWW-Authenticate", "`Bearer`"),
        "429" | "503" => ("Retry-After", "Seconds to wait"),
        _ => return,
    };
    let header = HeaderBuilder::new().description(Some(description)).build();
    response.headers.insert(name.to_owned(), header.into());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use liveobject_actors::{EventInput, MqttSettings, domain::camera_update::CameraUpdate};
    use serde_json::{Value, json};

    use super::*;
    use crate::http::ROUTES;

    fn document() -> Value {
        serde_json::from_slice(&DOCUMENT).unwrap()
    }

    fn properties(schema: &str) -> BTreeSet<String> {
        let document = document();
        let properties = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let routes: BTreeSet<_> =
            ROUTES.iter().map(|r| (r.path.to_owned(), r.method.as_str().to_ascii_lowercase())).collect();
        let mut documented = BTreeSet::new();
        for (path, item) in document()["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                documented.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(documented, routes);
    }

    #[test]
    fn it_is_openapi_3_1_and_every_reference_in_it_leads_somewhere() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let text = document.to_string();
        for reference in text.split(r##""$ref":"#"##).skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn what_lies_under_api_needs_the_token_and_nothing_else_does() {
        for (path, item) in document()["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let of = |r: &&crate::http::route::Endpoint| {
                    r.path == path && r.method.as_str().eq_ignore_ascii_case(method)
                };
                let expected = match ROUTES.iter().find(of).unwrap().access {
                    Access::Anyone => Value::Null,
                    Access::Holder(scope) => json!([{"bearer": [scope]}, {"session": [scope]}]),
                    Access::HolderOrLink(scope) => {
                        json!([{"bearer": [scope]}, {"session": [scope]}, {"link": []}])
                    }
                };
                assert_eq!(operation["security"], expected, "{method} {path}");
                // Who signs in may have a wrong token too.
                let secured = expected.is_array() || operation["operationId"] == "sign_in";
                assert_eq!(operation["responses"]["401"].is_object(), secured, "{method} {path}");
            }
        }
    }

    #[test]
    fn every_error_is_documented_as_a_problem() {
        for (path, item) in document()["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let problem = response["content"][CONTENT_TYPE].is_object();
                    assert_eq!(problem, *status.as_str() >= *"400", "{method} {path} {status}");
                }
            }
        }
    }

    #[test]
    fn the_request_bodies_have_exactly_the_fields_that_are_read() {
        assert_eq!(properties("EventInput"), EventInput::FIELDS.map(str::to_owned).into());
        assert_eq!(properties("CameraInput"), CameraUpdate::FIELDS.map(str::to_owned).into());
        assert_eq!(properties("MqttSettingsInput"), MqttSettings::FIELDS.map(str::to_owned).into());
    }

    #[test]
    fn the_defaults_of_the_settings_are_those_in_force() {
        let defaults = serde_json::to_value(MqttSettings::defaults("made once")).unwrap();
        let document = document();
        let fields = &document["components"]["schemas"]["MqttSettingsInput"]["properties"];
        for (name, default) in defaults.as_object().unwrap() {
            if name != "client_id" {
                assert_eq!(&fields[name]["default"], default, "{name}");
            }
        }
    }

    #[test]
    fn the_settings_are_answered_as_documented() {
        let mut answered: BTreeSet<_> = MqttSettings::FIELDS.map(str::to_owned).into();
        answered.remove("password");
        answered.remove("client_key");
        answered.extend(["has_password", "has_client_key", "updated_at"].map(str::to_owned));
        assert_eq!(properties("MqttSettings"), answered);
    }
}
