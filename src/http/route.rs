//! Turns the table of routes into actix resources, one for each path, with 404 and 405 as problems.

use actix_web::{
    HttpRequest, HttpResponse, Resource, ResponseError, Route,
    guard::{self, Guard},
    http::Method,
    middleware::from_fn,
    web::{self, PathConfig, ServiceConfig},
};

use super::{access::Access, auth, page, problem::Problem};

const API: &str = "/api";

/// One entry of the table.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// Whether only holders of a token may use it, not everyone who comes through a trusted proxy.
    pub(super) is_for_owner: bool,
    handler: fn() -> Route,
}

impl Endpoint {
    const fn new(method: Method, path: &'static str, access: Access, handler: fn() -> Route) -> Self {
        Self { method, path, access, is_for_owner: false, handler }
    }

    /// Refuses requests through a trusted proxy.
    pub(super) const fn for_owner(mut self) -> Self {
        self.is_for_owner = true;
        self
    }
}

pub(super) const fn get(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint::new(Method::GET, path, access, handler)
}

pub(super) const fn post(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint::new(Method::POST, path, access, handler)
}

pub(super) const fn put(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint::new(Method::PUT, path, access, handler)
}

pub(super) const fn delete(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint::new(Method::DELETE, path, access, handler)
}

/// Registers the endpoints of a table. The actix scope of `/api` requires a token for every path that the
/// router finds under it, so that no unusual spelling of a path bypasses the check. Each endpoint then checks
/// the token's scopes. A resource that signed links can open has its own guard: only requests that the
/// router matches to that resource reach it.
pub(super) fn register(cfg: &mut ServiceConfig, table: &[Endpoint]) {
    cfg.app_data(PathConfig::default().error_handler(|_, _| Problem::not_found().into()));
    let mut api = web::scope(API);
    for (path, endpoints) in by_path(table) {
        match path.strip_prefix(API) {
            Some(_) if endpoints.iter().any(|e| matches!(e.access, Access::HolderOrLink(_))) => {
                cfg.service(resource(path, &endpoints).wrap(from_fn(auth::require_token_or_link)));
            }
            Some(below) if is_special_case(path, table) => {
                api = api.service(resource(below, &endpoints).guard(methods_guard(&endpoints)));
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

/// Groups the endpoints by path, in the order of the table.
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

/// Returns whether another path of the table has a parameter where this one has a name. Other methods are then
/// left to that path: an event may have the id `batch`.
fn is_special_case(path: &str, table: &[Endpoint]) -> bool {
    let segments = || path.split('/');
    table.iter().filter(|endpoint| endpoint.path != path).any(|endpoint| {
        let mut others = endpoint.path.split('/');
        segments().all(|own| others.next().is_some_and(|other| other == own || other.starts_with('{')))
            && others.next().is_none()
    })
}

fn methods_guard(endpoints: &[&Endpoint]) -> impl Guard + use<> {
    let methods: Vec<_> = endpoints.iter().map(|endpoint| endpoint.method.clone()).collect();
    guard::fn_guard(move |ctx| methods.contains(&ctx.head().method))
}

fn resource(path: &str, endpoints: &[&Endpoint]) -> Resource {
    let allow = allow(endpoints);
    let mut resource = web::resource(path);
    for endpoint in endpoints {
        let access = endpoint.access;
        let route = (endpoint.handler)().guard(method_guard(&endpoint.method));
        let route = route.wrap(from_fn(move |request, next| auth::require(access, request, next)));
        resource = if endpoint.is_for_owner {
            resource.route(route.wrap(from_fn(auth::require_owner)))
        } else {
            resource.route(route)
        };
    }
    resource.default_service(web::to(move || {
        let allow = allow.clone();
        async move { Problem::method_not_allowed(allow).error_response() }
    }))
}

/// A GET endpoint also accepts HEAD (RFC 9110 section 9.1); the server omits the body.
fn method_guard(method: &Method) -> impl Guard + use<> {
    let any = guard::Any(guard::Method(method.clone()));
    if *method == Method::GET { any.or(guard::Head()) } else { any }
}

/// Returns the value of the `Allow` header.
fn allow(endpoints: &[&Endpoint]) -> String {
    let methods: Vec<_> = endpoints
        .iter()
        .map(|e| if e.method == Method::GET { "GET, HEAD" } else { e.method.as_str() })
        .collect();
    methods.join(", ")
}

/// Responds to everything that has no route.
async fn not_found(request: HttpRequest) -> HttpResponse {
    page::for_browser(&request).unwrap_or_else(|| Problem::not_found().error_response())
}
