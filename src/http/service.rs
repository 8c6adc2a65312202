//! What the page shows about the service itself.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use liveobject_actors::{
    domain::{
        clock::Timestamp,
        event_log::LogSize,
        node::KnownNode,
        token::{Scope, Scopes},
    },
    messages::{
        search::MeasureLog,
        thumbnails::{GetPictureStock, PictureStock},
    },
    store::Location,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth,
    problem::Problem,
    state::{ApiState, ask},
};
use crate::addresses::Reach;

/// Where the documentation of this version is.
const DOCUMENTATION: &str =
    concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/v", env!("CARGO_PKG_VERSION"), "/README.md");
/// What is new, also in later versions.
const CHANGELOG: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/CHANGELOG.md");

/// The service itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Service)]
pub(super) struct ServiceView {
    /// The version; in parentheses, the git revision and the features of this build.
    version: &'static str,
    #[schema(minimum = 0)]
    uptime_seconds: u64,
    /// The URLs under which the page can be opened, the most useful one first. At least one.
    urls: Vec<String>,
    /// Whether the service listens only on its own machine.
    local_only: bool,
    caller: CallerView,
    events: EventsView,
    pictures: PicturesView,
    database: DatabaseView,
    /// The size of the database file and its write-ahead log, or of the database on its server. `null` until it is
    /// known.
    #[schema(required = true, minimum = 0)]
    database_bytes: Option<i64>,
    /// The free space on the disk of the database. `null` until it is known, and if the database is on a server.
    #[schema(required = true, minimum = 0)]
    disk_free_bytes: Option<i64>,
    /// The services that share a database on a server, by name, and those that have ended without being stopped. Empty
    /// if the database is a file.
    nodes: Vec<NodeEntry>,
    /// Where the documentation of this version can be read.
    documentation_url: &'static str,
    /// Where the changes of all versions can be read.
    changelog_url: &'static str,
}

/// One of the services that share a database.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node)]
pub(super) struct NodeEntry {
    name: String,
    /// The URL at which the other nodes reach it.
    url: String,
    version: String,
    state: NodeState,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NodeState {
    /// It owns the event log, and answers this request.
    Active,
    /// It can take over.
    Standby,
    /// It has not reported to the database for some seconds.
    Away,
}

/// Returns the nodes, of which the active one answers.
fn nodes(state: &ApiState) -> Vec<NodeEntry> {
    let Some(view) = &state.nodes else { return Vec::new() };
    let view = view.borrow();
    let entry = |node: &KnownNode| NodeEntry {
        name: node.name.name.clone(),
        url: node.name.url.clone(),
        version: node.version.clone(),
        state: match node.boot {
            boot if boot == view.boot => NodeState::Active,
            _ if node.is_alive => NodeState::Standby,
            _ => NodeState::Away,
        },
    };
    view.nodes.iter().map(entry).collect()
}

/// Where the data is stored.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Database)]
pub struct DatabaseView {
    /// The kind of database.
    pub engine: DatabaseEngine,
    /// The path of the file, or the name of the database and its server.
    pub name: String,
}

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseEngine {
    /// A file on the machine of the service.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

impl DatabaseView {
    /// Describes a database, without the password.
    pub fn of(location: &Location) -> Self {
        let engine = if location.is_on_server() { DatabaseEngine::Postgres } else { DatabaseEngine::Sqlite };
        Self { engine, name: location.to_string() }
    }
}

/// Who has sent this request.
#[derive(Serialize, ToSchema)]
#[schema(as = Caller)]
pub(super) struct CallerView {
    kind: CallerKind,
    /// The name of the token; `null` unless `kind` is `token`.
    #[schema(required = true)]
    name: Option<String>,
    #[schema(value_type = Vec<Scope>)]
    scopes: Scopes,
}

/// How a caller has proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CallerKind {
    /// With the admin token, or with a link that signs in as its holder.
    Administrator,
    /// With another token.
    Token,
    /// Home Assistant has checked the user.
    HomeAssistant,
}

impl CallerKind {
    /// All kinds.
    #[cfg(test)]
    pub(super) const ALL: [Self; 3] = [Self::Administrator, Self::Token, Self::HomeAssistant];
}

/// The event log.
#[derive(Serialize, ToSchema)]
#[schema(as = StoredEvents)]
pub(super) struct EventsView {
    /// The number of events. `null` while it cannot be determined quickly, as in the first minutes after an upgrade.
    #[schema(required = true, minimum = 0)]
    count: Option<u64>,
    /// When the oldest event was accepted; `null` if there is none.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    oldest_at: Option<Timestamp>,
    /// For how many days events and their pictures are kept after they were delivered or became dead.
    #[schema(minimum = 1)]
    retention_days: u32,
}

/// The pictures of events.
#[derive(Serialize, ToSchema)]
#[schema(as = StoredPictures)]
pub(super) struct PicturesView {
    /// The number of pictures. `null` until they were counted after the start.
    #[schema(required = true, minimum = 0)]
    count: Option<u64>,
    /// Their size, including small renditions. `null` like `count`.
    #[schema(required = true, minimum = 0)]
    bytes: Option<u64>,
    /// The size above which the oldest pictures are removed. `null` if it cannot be determined.
    #[schema(required = true, minimum = 0)]
    max_bytes: Option<u64>,
}

/// The version of the service, its addresses and its storage, and who the caller is.
#[utoipa::path(
    get, path = "/api/v1/service", tag = "operation",
    responses((status = 200, description = "The service", body = ServiceView)),
)]
pub(super) async fn service(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let Reach { urls, is_local_only } = state.reach(&request);
    let metrics = &state.handle.metrics;
    let stock = ask(&state.handle.picture_stock, GetPictureStock);
    let size = ask(&state.handle.measure_log, MeasureLog);
    let (caller, stock, size) = futures_util::join!(caller(&state, &request), stock, size);
    // What cannot be read now is reported as unknown, so that the rest can be shown.
    let LogSize { events, oldest } = size.ok().and_then(Result::ok).unwrap_or_default();
    let stored = stock.as_ref().ok().and_then(|stock: &PictureStock| stock.stored);
    Ok(HttpResponse::Ok().json(ServiceView {
        version: env!("LIVEOBJECT_VERSION"),
        uptime_seconds: state.uptime().as_secs(),
        urls,
        local_only: is_local_only,
        caller: caller?,
        events: EventsView { count: events, oldest_at: oldest, retention_days: state.retention_days },
        pictures: PicturesView {
            count: stored.map(|(pictures, _)| pictures),
            bytes: stored.map(|(_, bytes)| bytes),
            max_bytes: stock.ok().map(|stock| stock.max_bytes),
        },
        database: state.database.clone(),
        database_bytes: metrics.database_bytes.get(),
        disk_free_bytes: metrics.disk_free.get(),
        nodes: nodes(&state),
        documentation_url: DOCUMENTATION,
        changelog_url: CHANGELOG,
    }))
}

async fn caller(state: &ApiState, request: &HttpRequest) -> Result<CallerView, Problem> {
    let scopes = auth::scopes(request)?;
    if state.trusted_peers.is_some() {
        return Ok(CallerView { kind: CallerKind::HomeAssistant, name: None, scopes });
    }
    let name = auth::token_name(state, request).await?;
    let kind = if name.is_some() { CallerKind::Token } else { CallerKind::Administrator };
    Ok(CallerView { kind, name, scopes })
}
