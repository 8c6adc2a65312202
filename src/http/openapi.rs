//! The OpenAPI 3.1 document, made from the handlers and the schemas.

use std::sync::LazyLock;

use actix_web::{HttpResponse, web::Bytes};
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder,
        path::Operation,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    ROUTES, cameras, events, health, metrics, mqtt, problem::CONTENT_TYPE, schema, stream, thumbnails,
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
        events::publish,
        events::list,
        events::publish_batch,
        events::find,
        events::retry,
        events::dismiss,
        stream::open,
        thumbnails::store,
        thumbnails::find,
        cameras::list,
        cameras::find,
        cameras::replace,
        cameras::delete,
        cameras::set_status,
        mqtt::config,
        mqtt::replace_config,
        mqtt::status,
        mqtt::test,
        mqtt::test_message,
        mqtt::publish_discovery,
    ),
    components(schemas(schema::Problem, schema::FieldError, schema::DeliveryChange)),
    modifiers(&EveryCall),
    tags(
        (name = "events", description = "Accepting events, and telling what became of them"),
        (name = "cameras", description = "The cameras, and how they stand"),
        (name = "mqtt", description = "The connection to the broker"),
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

/// Adds what every call has: the answers to a foreign host and, under `/api`, to a caller without token and by a service
/// that is away; wherever a body is read, the answers to one that cannot be; and the form of all errors.
struct EveryCall;

impl Modify for EveryCall {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The text in `api-token`"));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let link = ApiKeyValue::with_description(
            "signature",
            "A link that was signed: `expires` and `signature` of an event's `thumbnail_url`",
        );
        components.add_security_scheme("link", SecurityScheme::ApiKey(ApiKey::Query(link)));
        for (path, item) in &mut openapi.paths.paths {
            if let Some(get) = item.get.as_mut().filter(|_| opens_by_link(path)) {
                get.security = Some(vec![needs("bearer"), needs("link")]);
            }
            for operation in operations(item) {
                answer(
                    operation,
                    "403",
                    "`Host` or `Origin` is not this service's; see `[http] allowed_hosts`",
                );
                if path.starts_with("/api/") {
                    operation.security.get_or_insert_with(|| vec![needs("bearer")]);
                    answer(operation, "401", "No token, or a wrong one");
                    answer(
                        operation,
                        "503",
                        "Stopping, or starting anew: ask again after `Retry-After` seconds",
                    );
                }
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

fn needs(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new::<_, [&str; 0], &str>(scheme, [])
}

fn opens_by_link(path: &str) -> bool {
    ROUTES.iter().any(|route| route.linked && route.path == path)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().filter_map(Option::as_mut)
}

/// Adds an answer, where the handler does not say more of it.
fn answer(operation: &mut Operation, status: &str, description: &str) {
    let responses = &mut operation.responses.responses;
    responses
        .entry(status.to_owned())
        .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(description).build()));
}

/// Every error is a problem; some have a header that goes with their status.
fn as_problem(status: &str, response: &mut Response) {
    let problem = Ref::from_schema_name(schema::Problem::name());
    let content = ContentBuilder::new().schema(Some(problem)).build();
    response.content.insert(CONTENT_TYPE.to_owned(), content.into());
    let (name, description) = match status {
        "401" => ("WWW-Authenticate", "`Bearer`"),
        "503" => ("Retry-After", "Seconds to wait"),
        _ => return,
    };
    let header = HeaderBuilder::new().description(Some(description)).build();
    response.headers.insert(name.to_owned(), header.into());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use liveobject_actors::{EventInput, MqttSettings, cameras::CameraUpdate};
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
                let linked = method == "get" && opens_by_link(path);
                let either = json!([{"bearer": []}, {"link": []}]);
                let secured = operation["security"] == if linked { either } else { json!([{"bearer": []}]) };
                assert_eq!(secured, path.starts_with("/api/"), "{method} {path}");
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
                    assert_eq!(problem, !status.starts_with('2'), "{method} {path} {status}");
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
