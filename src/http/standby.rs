//! The server of a standby: a node that waits until it can own the event log. It reports that it is healthy, and
//! forwards everything else to the active node.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, TcpListener},
    sync::Arc,
};

use actix_http::HttpService;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, Error, HttpRequest, HttpResponse, ResponseError as _,
    body::MessageBody,
    dev::{AppConfig, Server, ServiceRequest, ServiceResponse},
    http::{ConnectionType, header::HOST},
    middleware::{Next, from_fn},
    rt::net::TcpStream,
    web::{self, Data, Payload},
};
use liveobject_actors::{
    domain::{
        node::{NodeName, NodeRole, NodeView},
        node_key::NodeKey,
    },
    metrics::{Metrics, NodeMetrics},
};
use rustls::ServerConfig;
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use super::{
    HostRules, Limits, auth,
    connections::Connections,
    forward::{self, Ended, Ending, Target},
    headers, health, metrics,
    observe::{InProgress, Tracked},
    problem::Problem,
    proxies::TrustedProxies,
    server::{DISCONNECT_TIMEOUT, WORKERS, acceptor},
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
    node_metrics: NodeMetrics,
    connections: Connections,
    /// The host names of this node.
    hosts: HostRules,
    proxies: TrustedProxies,
    /// What proves to the active node that this is a node. `None` if it is not known.
    key: watch::Sender<Option<NodeKey>>,
    is_stopping: watch::Sender<bool>,
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
    pub fn new(
        view: watch::Receiver<NodeView>,
        limits: Limits,
        proxies: TrustedProxies,
        hosts: HostRules,
        metrics: NodeMetrics,
    ) -> Self {
        Self {
            view,
            metrics: Metrics::of_node(Some(&metrics)),
            node_metrics: metrics,
            connections: Connections::new(limits, proxies.clone()),
            hosts,
            proxies,
            key: watch::Sender::new(None),
            is_stopping: watch::Sender::new(false),
        }
    }

    /// Sets what proves to the active node that this is a node.
    pub fn set_key(&self, key: NodeKey) {
        self.key.send_replace(Some(key));
    }

    /// Stops waiting for responses of the active node.
    pub fn stop(&self) {
        self.is_stopping.send_replace(true);
    }

    /// Ends connections whose deadline has passed, forever.
    pub async fn watch(&self) -> Infallible {
        loop {
            self.connections.next_check(!self.connections.is_empty()).await;
            self.connections.sweep(Instant::now());
        }
    }

    /// Returns the active node, if one is known.
    fn active(&self) -> Option<NodeName> {
        self.view.borrow().active.clone()
    }

    /// Returns to which node this request is forwarded. The host name in it must be one of this node: the active node
    /// does not check it again.
    fn target(&self, request: &HttpRequest) -> Result<Target, Problem> {
        let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or(""));
        if host.is_some_and(|host| !self.hosts.is_own(host)) {
            return Err(Problem::unknown_host());
        }
        let view = self.view.borrow();
        let is_active = view.role.term().is_some();
        match &view.active {
            Some(NodeName { name, url }) if !is_active => {
                Ok(Target { name: name.clone(), url: url.clone(), proof: self.proof(&view) })
            }
            Some(_) => Err(Problem::unavailable("this node is taking over", RETRY_AFTER)),
            None => Err(Problem::unavailable(
                "this node is a standby, and no node is active at the moment",
                RETRY_AFTER,
            )),
        }
    }
}

impl StandbyState {
    /// Returns what proves to the active node that this is a node. `None` if the key or the active node's run is not
    /// known, or without the database: the active node then does not see that this one is alive.
    fn proof(&self, view: &NodeView) -> Option<String> {
        let active = view.active.as_ref().filter(|_| view.is_connected)?;
        // A node whose data directory was replaced may have left another one with its name.
        let known = view.nodes.iter().filter(|node| node.name == *active).max_by_key(|node| node.is_alive)?;
        Some(self.key.borrow().as_ref()?.prove(view.boot, known.boot))
    }

    /// Completes when this target must not be waited for any more.
    fn ending(&self, target: &Target) -> Ending {
        let (mut view, mut is_stopping) = (self.view.clone(), self.is_stopping.subscribe());
        let waited_for = NodeName { name: target.name.clone(), url: target.url.clone() };
        Box::pin(async move {
            let is_other = |view: &NodeView| {
                view.role != NodeRole::Standby || view.active.as_ref().is_some_and(|now| *now != waited_for)
            };
            tokio::select! {
                _ = view.wait_for(is_other) => Ended::TakenOver,
                _ = is_stopping.wait_for(|is_stopping| *is_stopping) => Ended::Stopping,
            }
        })
    }

    /// Returns the address of the client, which a trusted proxy reports.
    fn client(&self, request: &HttpRequest) -> IpAddr {
        self.proxies.client(auth::address(request.peer_addr()), request.headers())
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
        let acceptor = tls.map(acceptor);
        let data = Data::new(state.clone());
        builder = builder.listen("standby", listener, move || {
            let app = App::new()
                .app_data(data.clone())
                .route("/health/live", web::get().to(health::live))
                .route("/health/ready", web::get().to(ready))
                .route("/metrics", web::get().to(metrics))
                .default_service(web::to(forward))
                .wrap(from_fn(track));
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

async fn metrics(state: Data<StandbyState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    metrics::respond(&state.metrics, &request)
}

/// Forwards a request to the active node. The connection ends with the response, so that the client does not keep it
/// after this node has become active.
async fn forward(state: Data<StandbyState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let mut response = match state.target(&request) {
        Ok(target) => {
            state.node_metrics.forwarded.inc();
            let (client, ending) = (state.client(&request), state.ending(&target));
            forward::forward(&target, client, &request, payload, ending).await
        }
        Err(problem) => Err(problem),
    }
    .unwrap_or_else(|problem| problem.error_response());
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// Middleware for every request: notes in the table of connections that it is in progress, and adds the common headers.
async fn track<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Tracked<B>>, Error> {
    let progress = InProgress::begin(&request);
    let mut response = next.call(request).await?;
    headers::complete(response.headers_mut(), false);
    Ok(response.map_body(|_, body| Tracked::new(body, progress)))
}
