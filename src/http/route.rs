//! Turns the table of routes into actix resources: one a path, with 404 and 405 as problems.

use actix_web::{
    HttpResponse, Resource, ResponseError, Route,
    guard::{self, Guard},
    http::Method,
    middleware::from_fn,
    web::{self, PathConfig, ServiceConfig},
};

use liveobject_actors::domain::token::Scope;

use super::{auth, problem::Problem};

const API: &str = "/api";

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone; nothing under `/api`.
    Anyone,
    /// Whoever holds a token with this scope.
    Holder(Scope),
    /// [`Access::Holder`], and whoever has a signed link to it.
    HolderOrLink(Scope),
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    handler: fn() -> Route,
}

pub(super) const fn get(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::GET, path, access, handler }
}

pub(super) const fn post(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::POST, path, access, handler }
}

pub(super) const fn put(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::PUT, path, access, handler }
}

pub(super) const fn delete(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::DELETE, path, access, handler }
}

/// Registers a table. A token is asked for by the actix scope of `/api`, that is by whatever the router finds to lie there,
/// so that no spelling of a path gets round it; what the token must permit is asked by the endpoint that the router found.
/// What a signed link opens has its own guard, at its own resource: only what the router finds to be that resource gets
/// there, and everything else falls to the scope.
pub(super) fn register(cfg: &mut ServiceConfig, table: &[Endpoint]) {
    cfg.app_data(PathConfig::default().error_handler(|_, _| Problem::not_found().into()));
    let mut api = web::scope(API);
    for (path, endpoints) in by_path(table) {
        match path.strip_prefix(API) {
            Some(_) if endpoints.iter().any(|e| matches!(e.access, Access::HolderOrLink(_))) => {
                cfg.service(resource(path, &endpoints).wrap(from_fn(auth::require_token_or_link)));
            }
            Some(below) => api = api.service(resource(below, &endpoints)),
            None => {
                cfg.service(resource(path, &endpoints));
            }
        }
    }
    cfg.service(api.default_service(web::to(not_found)).wrap(from_fn(auth::require_token)));
    cfg.default_service(web::to(not_found));
}

/// The table's paths in its order, each with all of its endpoints.
fn by_path(table: &[Endpoint]) -> Vec<(&'static str, Vec<&Endpoint>)> {
    let mut paths: Vec<(&'static str, Vec<&Endpoint>)> = Vec::new();
    for endpoint in table {
        match paths.iter_mut().find(|(path, _)| *path == endpoint.path) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => paths.push((endpoint.path, vec![endpoint])),
        }
    }
    paths
}

fn resource(path: &str, endpoints: &[&Endpoint]) -> Resource {
    let allow = allow(endpoints);
    let mut resource = web::resource(path);
    for endpoint in endpoints {
        let access = endpoint.access;
        let route = (endpoint.handler)().guard(of_method(&endpoint.method));
        resource =
            resource.route(route.wrap(from_fn(move |request, next| auth::require(access, request, next))));
    }
    resource.default_service(web::to(move || {
        let allow = allow.clone();
        async move { Problem::method_not_allowed(allow).error_response() }
    }))
}

/// Where GET is answered, HEAD is too (RFC 9110 section 9.1); the server leaves the body out.
fn of_method(method: &Method) -> impl Guard + use<> {
    let any = guard::Any(guard::Method(method.clone()));
    if *method == Method::GET { any.or(guard::Head()) } else { any }
}

/// The text of the `Allow` header.
fn allow(endpoints: &[&Endpoint]) -> String {
    let methods: Vec<_> = endpoints
        .iter()
        .map(|e| if e.method == Method::GET { "GET, HEAD" } else { e.method.as_str() })
        .collect();
    methods.join(", ")
}

async fn not_found() -> HttpResponse {
    Problem::not_found().error_response()
}
