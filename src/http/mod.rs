//! The HTTP layer: requests become messages, answers become JSON. It knows no SQL and no MQTT.

mod auth;
mod batch;
mod body;
mod cameras;
mod events;
mod health;
mod metrics;
mod mqtt;
mod observe;
mod openapi;
mod origin;
mod problem;
mod route;
mod schema;
mod server;
mod state;
mod stream;
mod thumbnails;

use actix_web::web::{self, ServiceConfig};

use self::route::{Endpoint, delete, get, get_linked, post, put};
pub use self::{
    origin::HostRules,
    server::{serve, serve_all},
    state::ApiState,
};

/// Every route. What lies under `/api` needs the token, or a signed link where `linked` says so; the OpenAPI document has exactly these.
const ROUTES: &[Endpoint] = &[
    get("/health/live", || web::to(health::live)),
    get("/health/ready", || web::to(health::ready)),
    get("/metrics", || web::to(metrics::metrics)),
    get("/openapi.json", || web::to(openapi::document)),
    post("/api/v1/events", || web::to(events::publish)),
    get("/api/v1/events", || web::to(events::list)),
    // Before `{event_id}`, which would match it too.
    post("/api/v1/events/batch", || web::to(events::publish_batch)),
    get("/api/v1/events/{event_id}", || web::to(events::find)),
    post("/api/v1/events/{event_id}/retry", || web::to(events::retry)),
    delete("/api/v1/events/{event_id}/dead", || web::to(events::dismiss)),
    put("/api/v1/events/{event_id}/thumbnail", || web::to(thumbnails::store)),
    get_linked("/api/v1/events/{event_id}/thumbnail", || web::to(thumbnails::find)),
    get("/api/v1/stream", || web::to(stream::open)),
    get("/api/v1/cameras", || web::to(cameras::list)),
    get("/api/v1/cameras/{camera_id}", || web::to(cameras::find)),
    put("/api/v1/cameras/{camera_id}", || web::to(cameras::replace)),
    delete("/api/v1/cameras/{camera_id}", || web::to(cameras::delete)),
    put("/api/v1/cameras/{camera_id}/status", || web::to(cameras::set_status)),
    get("/api/v1/integrations/mqtt/config", || web::to(mqtt::config)),
    put("/api/v1/integrations/mqtt/config", || web::to(mqtt::replace_config)),
    get("/api/v1/integrations/mqtt/status", || web::to(mqtt::status)),
    post("/api/v1/integrations/mqtt/test", || web::to(mqtt::test)),
    post("/api/v1/integrations/mqtt/test-message", || web::to(mqtt::test_message)),
    post("/api/v1/integrations/mqtt/publish-discovery", || web::to(mqtt::publish_discovery)),
];

/// Registers every route of the table, and the answers to what is not in it.
pub fn configure(cfg: &mut ServiceConfig) {
    route::register(cfg, ROUTES);
}
