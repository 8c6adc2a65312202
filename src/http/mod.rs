//! The HTTP layer: turns requests into messages and replies into JSON. It contains no SQL and no MQTT.

mod access;
mod auth;
mod backup;
mod batch;
mod body;
mod budget;
mod cameras;
mod candidates;
mod compress;
mod connection_test;
mod connections;
mod cookie;
mod density;
mod events;
mod filter;
mod forward;
mod headers;
mod health;
mod history;
mod limiter;
mod log;
mod log_limit;
mod metrics;
mod mqtt;
mod observe;
mod openapi;
mod origin;
mod outages;
mod page;
mod problem;
mod proxies;
mod qr_code;
mod query;
mod refused;
mod replays;
mod restore;
mod route;
mod schema;
mod server;
mod service;
mod session;
mod sign_in_code;
mod sign_in_links;
mod standby;
mod state;
mod stream;
mod submission;
mod thumbnails;
mod ticket;
pub mod tls;
mod tokens;
mod transport;
mod user_streams;
mod warnings;

use actix_web::web::{self, ServiceConfig};
use liveobject_actors::domain::token::Scope::{Admin, EventsWrite, Read};

use self::{
    access::Access::{Anyone, Holder, HolderOrLink},
    route::{Endpoint, delete, get, post, put},
};
pub use self::{
    connections::Limits,
    openapi::openapi,
    origin::HostRules,
    proxies::TrustedProxies,
    server::{Entrance, serve, serve_all, watch},
    service::{DatabaseEngine, DatabaseView},
    standby::{StandbyEntrance, StandbyState, serve_standby},
    state::{ApiOptions, ApiState, FAILED_LOGINS},
};

const SESSION: &str = "/session";

/// All routes, and who may call them. The OpenAPI document has exactly these.
///
/// `events:write` allows a source to submit events and pictures, and to report the status of its camera.
/// `read` allows every read except those of the log, tokens, backups and restores. These, and everything that changes
/// something or opens a connection, need `admin`. What is for the owner is not available through a trusted proxy.
///
/// Signing in to the page is public because the token is in the body; the handler checks it.
const ROUTES: &[Endpoint] = &[
    get("/", Anyone, || web::to(page::index)),
    get("/page/{file}", Anyone, || web::to(page::file)),
    get("/page/{version}/{file}", Anyone, || web::to(page::versioned_file)),
    get("/health/live", Anyone, || web::to(health::live)),
    get("/health/ready", Anyone, || web::to(health::ready)),
    get("/metrics", Anyone, || web::to(metrics::metrics)),
    get("/openapi.json", Anyone, || web::to(openapi::document)),
    get(SESSION, Anyone, || web::to(session::look)),
    post(SESSION, Anyone, || web::to(session::sign_in)),
    delete(SESSION, Anyone, || web::to(session::sign_out)),
    post("/api/v1/events", Holder(EventsWrite), || web::to(events::publish)),
    get("/api/v1/events", Holder(Read), || web::to(events::list)),
    // Before `{event_id}`, which would match them too.
    get("/api/v1/events/density", Holder(Read), || web::to(density::density)),
    post("/api/v1/events/batch", Holder(EventsWrite), || web::to(events::publish_batch)),
    post("/api/v1/events/dead/retry", Holder(Admin), || web::to(events::retry_all)),
    delete("/api/v1/events/dead", Holder(Admin), || web::to(events::dismiss_all)),
    get("/api/v1/events/{event_id}", Holder(Read), || web::to(events::find)),
    post("/api/v1/events/{event_id}/retry", Holder(Admin), || web::to(events::retry)),
    delete("/api/v1/events/{event_id}/dead", Holder(Admin), || web::to(events::dismiss)),
    put("/api/v1/events/{event_id}/thumbnail", Holder(EventsWrite), || web::to(thumbnails::store)),
    get("/api/v1/events/{event_id}/thumbnail", HolderOrLink(Read), || web::to(thumbnails::find)),
    get("/api/v1/replays", Holder(Read), || web::to(replays::list)),
    post("/api/v1/replays", Holder(Admin), || web::to(replays::create)),
    get("/api/v1/replays/{id}", Holder(Read), || web::to(replays::find)),
    delete("/api/v1/replays/{id}", Holder(Admin), || web::to(replays::cancel)),
    get("/api/v1/stream", Holder(Read), || web::to(stream::open)),
    get("/api/v1/history", Holder(Read), || web::to(history::history)),
    get("/api/v1/outages", Holder(Read), || web::to(outages::list)),
    get("/api/v1/cameras", Holder(Read), || web::to(cameras::list)),
    get("/api/v1/cameras/{camera_id}", Holder(Read), || web::to(cameras::find)),
    put("/api/v1/cameras/{camera_id}", Holder(Admin), || web::to(cameras::replace)),
    delete("/api/v1/cameras/{camera_id}", Holder(Admin), || web::to(cameras::delete)),
    get("/api/v1/cameras/{camera_id}/thumbnail", Holder(Read), || web::to(cameras::thumbnail)),
    put("/api/v1/cameras/{camera_id}/status", Holder(EventsWrite), || web::to(cameras::set_status)),
    get("/api/v1/integrations/mqtt/config", Holder(Read), || web::to(mqtt::config)),
    put("/api/v1/integrations/mqtt/config", Holder(Admin), || web::to(mqtt::replace_config)),
    get("/api/v1/integrations/mqtt/status", Holder(Read), || web::to(mqtt::status)),
    post("/api/v1/integrations/mqtt/test", Holder(Admin), || web::to(mqtt::test)),
    post("/api/v1/integrations/mqtt/candidates", Holder(Admin), || web::to(candidates::search)),
    post("/api/v1/integrations/mqtt/test-message", Holder(Admin), || web::to(mqtt::test_message)),
    post("/api/v1/integrations/mqtt/reconnect", Holder(Admin), || web::to(mqtt::reconnect)),
    post("/api/v1/integrations/mqtt/publish-discovery", Holder(Admin), || web::to(mqtt::publish_discovery)),
    get("/api/v1/service", Holder(Read), || web::to(service::service)),
    get("/api/v1/log", Holder(Admin), || web::to(log::log)),
    post("/api/v1/sign-in-links", Holder(Admin), || web::to(sign_in_links::create)).for_owner(),
    get("/api/v1/backup", Holder(Admin), || web::to(backup::download)).for_owner(),
    get("/api/v1/restore", Holder(Admin), || web::to(restore::find)).for_owner(),
    post("/api/v1/restore", Holder(Admin), || web::to(restore::upload)).for_owner(),
    delete("/api/v1/restore", Holder(Admin), || web::to(restore::discard)).for_owner(),
    get("/api/v1/tokens", Holder(Admin), || web::to(tokens::list)).for_owner(),
    post("/api/v1/tokens", Holder(Admin), || web::to(tokens::create)).for_owner(),
    delete("/api/v1/tokens/{name}", Holder(Admin), || web::to(tokens::revoke)).for_owner(),
];

/// Registers all routes of the table, and the responses to unknown paths and methods.
pub fn configure(cfg: &mut ServiceConfig) {
    route::register(cfg, ROUTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_under_api_needs_a_scope_and_nothing_else_does() {
        for route in ROUTES {
            let open = !route.path.starts_with("/api/") || route.path == SESSION;
            assert_eq!(route.access == Anyone, open, "{}", route.path);
        }
    }

    #[test]
    fn backups_tokens_and_sign_in_links_are_for_the_owner() {
        let paths = ["/api/v1/backup", "/api/v1/restore", "/api/v1/tokens", "/api/v1/sign-in-links"];
        for route in ROUTES {
            let expected = paths.iter().any(|path| route.path.starts_with(path));
            assert_eq!(route.is_for_owner, expected, "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn reads_need_read_and_changes_need_admin_except_for_sources_tokens_backups_and_the_log() {
        let source_paths =
            ["/events", "/events/batch", "/events/{event_id}/thumbnail", "/cameras/{camera_id}/status"];
        for route in ROUTES.iter().filter(|route| route.access != Anyone) {
            let (Holder(scope) | HolderOrLink(scope)) = route.access else { unreachable!() };
            let path = route.path.strip_prefix("/api/v1").unwrap();
            let expected = match route.method.as_str() {
                // A backup contains the keys and tokens, and the log the addresses of clients.
                _ if path.starts_with("/tokens") || ["/backup", "/restore", "/log"].contains(&path) => Admin,
                "GET" => Read,
                _ if source_paths.contains(&path) => EventsWrite,
                _ => Admin,
            };
            assert_eq!(scope, expected, "{} {path}", route.method);
        }
    }
}
