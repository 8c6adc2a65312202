//! The OpenAPI 3.1 document, generated from the handlers and from the types that they serve.

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::Method, web::Bytes};
use liveobject_actors::{
    FieldError,
    domain::{delivery::DeliveryChange, event::Label},
};
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Components, ContentBuilder, HeaderBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder, Schema,
        path::Operation,
        schema::{AdditionalProperties, AllOf, Object},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    ROUTES,
    access::Access,
    backup, cameras, candidates, density, events, health, history, log, metrics, mqtt, outages, page,
    problem::{CONTENT_TYPE, ProblemBody},
    replays, restore, schema, service, session, sign_in_links, stream, thumbnails, tokens,
};

/// The request bodies that are checked field by field, and that must not have other fields.
const INPUTS: [&str; 6] =
    ["EventInput", "CameraInput", "CameraStatusInput", "ReplayInput", "SignIn", "TokenInput"];

/// All handlers, and what applies to all of them.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "liveobject",
        description = "Accepts camera detection events, stores them durably, and publishes them over MQTT. A 5xx \
                       response means that it is *not known* whether an event was accepted: send it again with \
                       the same `event_id`. It is never stored twice."
    ),
    paths(
        health::live,
        health::ready,
        metrics::metrics,
        backup::download,
        restore::find,
        restore::upload,
        restore::discard,
        document,
        page::index,
        page::file,
        page::versioned_file,
        session::look,
        session::sign_in,
        session::sign_out,
        sign_in_links::create,
        service::service,
        log::log,
        events::publish,
        events::list,
        density::density,
        events::publish_batch,
        events::find,
        events::retry,
        events::dismiss,
        events::retry_all,
        events::dismiss_all,
        replays::create,
        replays::list,
        replays::find,
        replays::cancel,
        stream::open,
        history::history,
        outages::list,
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
        candidates::search,
        mqtt::test_message,
        mqtt::reconnect,
        mqtt::publish_discovery,
        tokens::list,
        tokens::create,
        tokens::revoke,
    ),
    components(schemas(ProblemBody, FieldError, DeliveryChange, Label)),
    modifiers(&EveryOperation, &Schemas),
    tags(
        (name = "events", description = "Accepting events, and reading the event log"),
        (name = "replays", description = "Sending events of the log again"),
        (name = "cameras", description = "The cameras and their status"),
        (name = "mqtt", description = "The connection to the broker"),
        (name = "tokens", description = "Access tokens"),
        (name = "session", description = "Signing in to the page"),
        (name = "page", description = "The web page"),
        (name = "operation", description = "Health, metrics and backups"),
    ),
)]
struct Document;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    Document::openapi().to_json().expect("a document of strings and numbers can be serialized").into()
});

/// Returns this document as it is served.
pub fn openapi() -> &'static [u8] {
    &DOCUMENT
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.clone())
}

/// Why a request that changes something is refused even if it has no body.
const FOREIGN_TYPE: &str = "the request has the page's cookie, and a content type other than \
                            `application/json` (a backup: `application/x-tar`)";

/// Adds what all operations have in common: security, the responses to foreign hosts, to missing tokens and
/// scopes, to an unavailable service and to unreadable bodies, and the form of all errors.
struct EveryOperation;

impl Modify for EveryOperation {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "The admin token in `api-token`, or another one with the scope that the operation requires: \
             `events:write`, `read`, or `admin`, which includes the others",
        ));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let cookie = ApiKeyValue::with_description(
            "liveobject_session",
            "The cookie of the web page. Its name ends with an id of the installation, and begins with `__Host-` \
             over TLS. It has the scopes of the token that was used to sign in, and is accepted only from the \
             page itself",
        );
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        let link = ApiKeyValue::with_description(
            "signature",
            "A signed link: `expires` and `signature` of an event's `thumbnail_url`",
        );
        components.add_security_scheme("link", SecurityScheme::ApiKey(ApiKey::Query(link)));
        for (path, item) in &mut openapi.paths.paths {
            for (method, operation) in operations(item) {
                let foreign = "unknown `Host` or `Origin`; see `[http] allowed_hosts`";
                let access = ROUTES.iter().find(|r| r.path == path && r.method == method).map(|r| r.access);
                if let Some(Access::Holder(scope) | Access::HolderOrLink(scope)) = access {
                    let link = matches!(access, Some(Access::HolderOrLink(_))).then(|| needs("link", None));
                    let holder =
                        [needs("bearer", Some(scope.as_str())), needs("session", Some(scope.as_str()))];
                    let security = holder.into_iter().chain(link);
                    operation.security = Some(security.collect());
                    add_response(operation, "401", "No valid token");
                    add_response(
                        operation,
                        "403",
                        &format!("The token lacks the scope `{scope}`; or {foreign}"),
                    );
                    add_response(operation, "429", "Too many failed logins from this address");
                    let stopping =
                        "The service is stopping or restarting. Try again after `Retry-After` seconds";
                    add_response(operation, "503", stopping);
                }
                add_response(operation, "403", "Unknown `Host` or `Origin`; see `[http] allowed_hosts`");
                if operation.request_body.is_some() {
                    add_response(operation, "400", "The body is not valid JSON");
                    add_response(operation, "408", "The body was not received in time");
                    add_response(operation, "413", "The body is too large");
                    add_response(operation, "415", &format!("The body is compressed; or {FOREIGN_TYPE}"));
                }
                if method != Method::GET {
                    add_response(operation, "415", &format!("Wrong content type: {FOREIGN_TYPE}"));
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

/// Adds a response, unless the handler has documented its own.
fn add_response(operation: &mut Operation, status: &str, description: &str) {
    let responses = &mut operation.responses.responses;
    responses
        .entry(status.to_owned())
        .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(description).build()));
}

/// Documents an error response as a problem, with the header that belongs to its status.
fn as_problem(status: &str, response: &mut Response) {
    let problem = Ref::from_schema_name(ProblemBody::name());
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

/// Completes the derived schemas with what cannot be derived.
struct Schemas;

impl Modify for Schemas {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for schema in components.schemas.values_mut() {
            if let RefOr::T(Schema::AllOf(parts)) = schema {
                *schema = Schema::Object(merge(parts)).into();
            }
            if let RefOr::T(Schema::Object(object)) = schema {
                object.properties.values_mut().for_each(replace_none);
            }
        }
        for input in INPUTS {
            object(components, input).additional_properties =
                Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
        schema::insert_defaults(object(components, "MqttSettings"));
    }
}

fn object<'a>(components: &'a mut Components, name: &str) -> &'a mut Object {
    match components.schemas.get_mut(name) {
        Some(RefOr::T(Schema::Object(object))) => object,
        _ => unreachable!("{name} is the schema of an object"),
    }
}

/// Descriptions come from comments of Rust types, where `null` is called `None`.
fn replace_none(property: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(Object { description: Some(description), .. })) = property {
        *description = description.replace("`None`", "`null`");
    }
}

/// Flattened fields are derived as `allOf`. One object with all fields is simpler for readers and generators.
fn merge(parts: &AllOf) -> Object {
    let mut merged = Object::default();
    merged.description.clone_from(&parts.description);
    for part in &parts.items {
        let part = match part {
            RefOr::T(Schema::Object(object)) => object.clone(),
            // A flattened field with a description.
            RefOr::T(Schema::AllOf(parts)) => merge(parts),
            _ => unreachable!("a flattened field is inlined"),
        };
        merged.properties.extend(part.properties);
        merged.required.extend(part.required);
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use liveobject_actors::{
        EventInput, MqttSettings,
        domain::{
            camera::CameraStatus,
            camera_update::CameraUpdate,
            delivery::{DeadReason, DeliveryState},
            history::PointState,
            mqtt_version::Version,
            outage::{OutageKind, Outcome},
            probe_report::Stage,
            settings::{DiscoveryFormat, Protocol, Transport},
            status::{ConnectionState, FailureKind, WarningKind},
            token::Scope,
        },
    };
    use serde::Serialize;
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
    fn the_document_is_openapi_3_1_and_has_no_dangling_references() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let text = document.to_string();
        for reference in text.split(r##""$ref":"#"##).skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn descriptions_contain_nothing_that_only_rust_programmers_understand() {
        let text = document().to_string();
        for forbidden in ["`None`", "[`", "```", "::"] {
            assert!(!text.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn everything_under_api_needs_a_token_and_nothing_else_does() {
        for (path, item) in document()["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let is_route = |r: &&crate::http::route::Endpoint| {
                    r.path == path && r.method.as_str().eq_ignore_ascii_case(method)
                };
                let expected = match ROUTES.iter().find(is_route).unwrap().access {
                    Access::Anyone => Value::Null,
                    Access::Holder(scope) => json!([{"bearer": [scope]}, {"session": [scope]}]),
                    Access::HolderOrLink(scope) => {
                        json!([{"bearer": [scope]}, {"session": [scope]}, {"link": []}])
                    }
                };
                assert_eq!(operation["security"], expected, "{method} {path}");
                // Signing in fails with 401, too.
                let is_secured = expected.is_array() || operation["operationId"] == "sign_in";
                assert_eq!(operation["responses"]["401"].is_object(), is_secured, "{method} {path}");
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
    fn request_bodies_have_exactly_the_fields_that_are_read_and_refuse_others() {
        assert_eq!(properties("EventInput"), EventInput::FIELDS.map(str::to_owned).into());
        assert_eq!(properties("CameraInput"), CameraUpdate::FIELDS.map(str::to_owned).into());
        assert_eq!(properties("MqttSettingsInput"), MqttSettings::FIELDS.map(str::to_owned).into());
        let document = document();
        for input in INPUTS.iter().chain(&["MqttSettingsInput"]) {
            let schema = &document["components"]["schemas"][input];
            assert_eq!(schema["additionalProperties"], json!(false), "{input}");
        }
    }

    /// Returns the values of an enum in the document.
    fn documented(schema: &str) -> BTreeSet<String> {
        let document = document();
        let values = document["components"]["schemas"][schema]["enum"].as_array().unwrap();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    fn served(values: &[impl Serialize]) -> BTreeSet<String> {
        let name = |value| serde_json::to_value(value).unwrap().as_str().unwrap().to_owned();
        values.iter().map(name).collect()
    }

    #[test]
    fn the_values_of_every_enum_are_documented_as_they_are_served() {
        use ConnectionState::{Connected, Connecting, Disabled, Waiting};
        use Stage::{
            Availability, Connect, Discovery, Events, Login, Loopback, Publish, Resolve, States, Tls,
        };
        use WarningKind as W;
        let warnings = [
            W::NoSubscribers,
            W::WaitingForSubscriber,
            W::LateOnArrival,
            W::ClockJumped,
            W::DatabaseUnavailable,
            W::DiskAlmostFull,
            W::DatabaseAsynchronous,
            W::NodeAway,
            W::NodeUnable,
            W::NodeKeysDiffer,
            W::NodeClockDiffers,
            W::EventsUnreadable,
            W::EventsMissing,
            W::DatabaseRestored,
            W::RestoreWaiting,
            W::RestoreFailed,
            W::SeqFileFailed,
            W::TooManyCameras,
            W::QosLowered,
            W::RetainUnavailable,
            W::ClientIdTakenOver,
            W::AvailabilityOverwritten,
            W::TlsInsecure,
            W::CertificateExpires,
            W::SettingsIgnored,
            W::TooManyConnections,
            W::TopicRefused,
            W::TopicUnconfirmed,
            W::MessagesLeftOut,
            W::BrokerNotProvided,
        ];
        let cameras = [CameraStatus::Online, CameraStatus::Offline, CameraStatus::Unavailable];
        let deliveries = [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Dead];
        let formats = [DiscoveryFormat::Device, DiscoveryFormat::Component];
        let versions = [Version::V5, Version::V311].map(Version::as_str);
        assert_eq!(documented("FailureKind"), served(&FailureKind::ALL));
        assert_eq!(documented("WarningKind"), served(&warnings));
        assert_eq!(documented("DeadReason"), served(&DeadReason::ALL));
        assert_eq!(documented("DeliveryState"), served(&deliveries));
        assert_eq!(documented("ConnectionState"), served(&[Disabled, Connecting, Connected, Waiting]));
        assert_eq!(
            documented("Stage"),
            served(&[
                Resolve,
                Connect,
                Tls,
                Login,
                Publish,
                Loopback,
                Availability,
                Discovery,
                Events,
                States
            ])
        );
        let outcomes = [
            Outcome::NothingWaited,
            Outcome::Waiting,
            Outcome::Failed,
            Outcome::Delivered,
            Outcome::DeliveredInOrder,
            Outcome::Unknown,
        ];
        assert_eq!(documented("Outcome"), served(&outcomes));
        assert_eq!(documented("OutageKind"), served(&OutageKind::ALL));
        let points = [PointState::Known, PointState::NotRunning, PointState::Unknown];
        assert_eq!(documented("PointState"), served(&points));
        assert_eq!(documented("BrokerProtocol"), served(&versions));
        assert_eq!(documented("CameraStatus"), served(&cameras));
        assert_eq!(documented("Scope"), served(&Scope::ALL));
        assert_eq!(documented("Protocol"), served(&[Protocol::Auto, Protocol::V5, Protocol::V311]));
        assert_eq!(documented("Transport"), served(&[Transport::Tcp, Transport::Websocket]));
        assert_eq!(documented("DiscoveryFormat"), served(&formats));
    }

    #[test]
    fn the_results_of_the_search_for_brokers_are_documented_as_they_are_served() {
        use crate::finder::{CandidateState as C, Source as S};
        let states = [C::Accepted, C::LoginRequired, C::TlsFailed, C::Failed, C::NotMqtt, C::Unreachable];
        let sources = [S::Configured, S::ThisMachine, S::UsualName, S::Announced, S::HomeAssistant];
        assert_eq!(documented("BrokerState"), served(&states));
        assert_eq!(documented("BrokerSource"), served(&sources));
    }

    #[test]
    fn the_kinds_of_callers_are_documented_as_they_are_served() {
        assert_eq!(documented("CallerKind"), served(&service::CallerKind::ALL));
        let states = [service::NodeState::Active, service::NodeState::Standby, service::NodeState::Away];
        assert_eq!(documented("NodeState"), served(&states));
    }

    #[test]
    fn the_levels_of_the_log_are_documented_as_they_are_served() {
        use crate::telemetry::recent::LogLevel;
        assert_eq!(documented("LogLevel"), served(&LogLevel::ALL));
        assert_eq!(served(&LogLevel::ALL), LogLevel::ALL.map(|level| level.as_str().to_owned()).into());
    }

    #[test]
    fn the_settings_are_documented_with_their_defaults() {
        let defaults = serde_json::to_value(MqttSettings::defaults("generated")).unwrap();
        let document = document();
        let fields = &document["components"]["schemas"]["MqttSettingsInput"]["properties"];
        for (name, default) in defaults.as_object().unwrap() {
            if name != "client_id" {
                assert_eq!(&fields[name]["default"], default, "{name}");
            }
        }
    }

    #[test]
    fn the_settings_are_served_as_documented() {
        let mut answered: BTreeSet<_> = MqttSettings::FIELDS.map(str::to_owned).into();
        answered.remove("password");
        answered.remove("client_key");
        answered.extend(
            ["has_password", "has_client_key", "updated_at", "managed", "provided", "revision"]
                .map(str::to_owned),
        );
        assert_eq!(properties("MqttSettings"), answered);
    }
}
