//! The server of a standby: a node that waits until it can own the event log. It reports that it is healthy, and refers
//! everything else to the active node.

use std::{io, net::TcpListener, sync::Arc};

use actix_http::HttpService;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    dev::{AppConfig, Server},
    rt::net::TcpStream,
    web::{self, Data},
};
use liveobject_actors::{
    domain::node::{NodeName, NodeView},
    metrics::{Format, Metrics},
};
use rustls::ServerConfig;
use serde::Serialize;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{
    Limits,
    connections::Connections,
    health,
    problem::Problem,
    proxies::TrustedProxies,
    server::{DISCONNECT_TIMEOUT, WORKERS},
    transport::{self, Transport},
};

/// How long requests in progress have when the server stops.
const SHUTDOWN_SECONDS: u64 = 1;
/// When clients should try again. Taking over takes a few seconds.
const RETRY_AFTER: u32 = 1;

/// What every request needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StandbyState {
    /// What this node knows about the active node.
    view: watch::Receiver<NodeView>,
    metrics: Metrics,
    connections: Connections,
}

/// A listener of a standby.
#[derive(Debug)]
pub struct StandbyEntrance {
    /// The listener.
    pub listener: TcpListener,
    /// The configuration of TLS; `None` means plain HTTP.
    pub tls: Option<ServerConfig>,
}

impl StandbyState {
    /// Creates the state of a server that is ready for requests.
    pub fn new(view: watch::Receiver<NodeView>, limits: Limits, proxies: TrustedProxies) -> Self {
        Self { view, metrics: Metrics::new(), connections: Connections::new(limits, proxies) }
    }

    /// Returns the active node, if one is known.
    fn active(&self) -> Option<NodeName> {
        self.view.borrow().active.clone()
    }
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    /// The name of the active node; `null` if none is known.
    active: Option<String>,
}

/// Starts the server. Like that of the API, it runs until its handle stops it.
pub fn serve_standby(entrances: Vec<StandbyEntrance>, state: &StandbyState) -> io::Result<Server> {
    let limits = *state.connections.limits();
    let mut builder = Server::build()
        .workers(WORKERS)
        .max_concurrent_connections(usize::MAX - 1)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    for StandbyEntrance { listener, tls } in entrances {
        let acceptor = tls.map(|mut config| {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let data = Data::new(state.clone());
        builder = builder.listen("standby", listener, move || {
            let app = App::new()
                .app_data(data.clone())
                .route("/health/live", web::get().to(health::live))
                .route("/health/ready", web::get().to(ready))
                .route("/metrics", web::get().to(metrics))
                .default_service(web::to(elsewhere));
            let app = app.into_factory().map_err(|error: Error| error.error_response());
            let http = HttpService::build()
                .keep_alive(limits.keep_alive)
                .client_request_timeout(limits.head_timeout)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .on_connect_ext(|transport: &Transport, data| {
                    data.insert(Arc::clone(transport.connection()));
                })
                .finish(map_config(app, |()| AppConfig::default()));
            let (connections, acceptor) = (data.connections.clone(), acceptor.clone());
            fn_service(move |stream: TcpStream| {
                transport::accept(connections.clone(), stream, acceptor.clone())
            })
            .and_then(http)
        })?;
    }
    Ok(builder.run())
}

async fn ready(state: Data<StandbyState>) -> HttpResponse {
    let active = state.active().map(|active| active.name);
    HttpResponse::Ok().json(Ready { status: "standby", active })
}

async fn metrics(state: Data<StandbyState>) -> Result<HttpResponse, Problem> {
    let text = state.metrics.encode(Format::Prometheus).map_err(|error| {
        tracing::error!(%error, "cannot encode the metrics");
        Problem::unavailable("the metrics could not be encoded; see the service's log", RETRY_AFTER)
    })?;
    Ok(HttpResponse::Ok().content_type(Format::Prometheus.media_type()).body(text))
}

/// Refers a request to the active node. The connection ends, so that the client does not keep it after this node has
/// become active.
async fn elsewhere(state: Data<StandbyState>, _: HttpRequest) -> HttpResponse {
    let detail = match state.active() {
        Some(NodeName { name, url }) => {
            format!("this node is on standby; the active node is {name} at {url}")
        }
        None => "this node is on standby, and no node is active at the moment".to_owned(),
    };
    let mut response = actix_web::ResponseError::error_response(&Problem::unavailable(detail, RETRY_AFTER));
    response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    response
}
