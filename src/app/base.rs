//! What remains in place for the whole life of the process, while the service starts and stops.

use std::{convert::Infallible, io, net::TcpListener, time::Duration};

use actix_web::dev::Server;
use futures_util::future::join;
use liveobject_actors::{Node, Service, ServiceOptions, StartError, domain::node::NodeView, store::Location};
use rustls::ServerConfig;
use tokio::{sync::watch, time::timeout};

use super::{AppError, listen, require_mounted, restores};
use crate::{
    addresses::{Addresses, mdns_name},
    backup::{self, Restores},
    config::{Config, host_name},
    finder::Finder,
    history::History,
    http::{
        self, ApiOptions, ApiState, DatabaseView, Entrance, HostRules, Limits, StandbyEntrance, StandbyState,
        TrustedProxies, tls::Certificates,
    },
    sessions::Sessions,
    telemetry,
    token::AdminToken,
};

/// How long the preparations for requests may delay the server of a standby.
const PREPARE_LIMIT: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub struct Base {
    pub config: Config,
    pub options: ServiceOptions,
    pub token: AdminToken,
    pub certificates: Option<Certificates>,
    tls: Option<ServerConfig>,
    listeners: Vec<TcpListener>,
    ingress: Vec<TcpListener>,
    database: DatabaseView,
    /// Whether another node can own the event log, so that the listeners are used by several servers in a row.
    pub is_node: bool,
}

/// The server of a standby.
pub struct Standby {
    pub state: StandbyState,
    pub server: Server,
}

/// The API of a running service.
pub struct Api {
    pub state: ApiState,
    pub server: Server,
    pub history: History,
}

impl Base {
    /// Loads the token and the certificate, and binds the addresses.
    pub async fn prepare(config: &Config) -> Result<Self, AppError> {
        let database = config.service_options().database().map_err(StartError::from)?;
        if let Location::File(file) = &database {
            backup::remove_leftover(file);
        }
        require_mounted(config)?;
        let token = match &config.secrets.api_token {
            Some(given) => AdminToken::given(given.clone()),
            None => AdminToken::load_when_complete(&config.data_dir).await?,
        };
        let certificates = config.http.tls.clone().map(Certificates::load).transpose()?;
        let tls = certificates.as_ref().map(Certificates::server_config).transpose()?;
        let listeners = listen(&config.http.bind, "bind")?;
        let ingress = listen(config.http.ingress.as_slice(), "ingress")?;
        let mut options = config.service_options();
        if let Some(address) = listeners.first().and_then(|listener| listener.local_addr().ok()) {
            options.public_url = config.public_url(address);
            let scheme = if tls.is_some() { "https" } else { "http" };
            options.node_url.get_or_insert_with(|| node_url(scheme, address, host_name()));
        }
        let (is_node, database) = (database.is_on_server(), DatabaseView::of(&database));
        if is_node {
            token.share(options.clone());
        }
        let config = config.clone();
        Ok(Self { config, options, token, certificates, tls, listeners, ingress, database, is_node })
    }

    /// Logs where the process listens.
    pub fn announce(&self) {
        for warning in &self.config.warnings {
            tracing::warn!("{warning}");
        }
        for listener in &self.listeners {
            let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
            tracing::info!(
                address,
                tls = self.tls.is_some(),
                version = env!("CARGO_PKG_VERSION"),
                "listening"
            );
        }
        for listener in &self.ingress {
            let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
            let from = &self.config.http.ingress_from;
            tracing::info!(address, ?from, "listening for Home Assistant's ingress");
        }
    }

    /// Closes the listeners. Those of a running server are not affected.
    pub fn close(&mut self) {
        (self.listeners, self.ingress) = (Vec::new(), Vec::new());
    }

    /// Starts the API of this service. `nodes` shows the nodes that share the database, if others can use it.
    pub fn serve(
        &mut self,
        service: &Service,
        nodes: Option<watch::Receiver<NodeView>>,
    ) -> Result<Api, AppError> {
        let (config, public_url) = (&self.config, &self.options.public_url);
        if let Some(certificates) = &self.certificates {
            certificates.measure(service.handle().metrics);
        }
        let sessions = match service.shared_sessions() {
            Some(shared) => Sessions::shared(shared),
            // The service holds the lock of the data directory.
            None => Sessions::load_or_create(&config.data_dir)?,
        };
        let hosts = self.hosts();
        let calendar = self.options.calendar;
        let history = History::new(service.handle().metrics, calendar, service.delivered_today());
        let bound = self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let state = ApiState::new(ApiOptions {
            handle: service.handle(),
            token: self.token.clone(),
            sessions,
            hosts,
            history: history.clone(),
            addresses: Addresses {
                public_url: public_url.clone(),
                is_configured: config.http.public_url.is_some(),
                bound,
            },
            failed_logins_per_minute: config.http.failed_logins_per_minute,
            limits: self.limits(),
            trusted_proxies: self.trusted_proxies(),
            backup: backup::Locations::of(config).ok(),
            finder: Finder::new(&config.mqtt_candidates),
            restores: self.restores(),
            log: telemetry::recent::recent_lines(),
            retention_days: config.outbox.retention_days,
            database: self.database.clone(),
            nodes,
        });
        let trusting = state.for_ingress(&config.http.ingress_from);
        let (listeners, ingress) = self.take_listeners().map_err(AppError::Server)?;
        let ordinary = listeners.into_iter().map(|listener| (listener, state.clone(), self.tls.clone()));
        let ingress = ingress.into_iter().map(|listener| (listener, trusting.clone(), None));
        let entrances = ordinary.chain(ingress);
        let entrances = entrances.map(|(listener, state, tls)| Entrance { listener, state, tls }).collect();
        let server = http::serve_all(entrances).map_err(AppError::Server)?;
        Ok(Api { state, server, history })
    }

    /// Starts the server of a standby. Before that, it tries for a moment to ensure that the active node accepts the
    /// first request: it must know the token of this node, and this node must have the key for its proof.
    pub async fn serve_standby(&mut self, node: &Node) -> Result<Standby, AppError> {
        let preparing = join(self.token.publish_now(), self.options.load_node_key());
        let key = timeout(PREPARE_LIMIT, preparing).await.ok().and_then(|((), key)| key);
        let (limits, proxies) = (self.limits(), self.trusted_proxies());
        let state = StandbyState::new(node.view(), limits, proxies, self.hosts(), node.metrics());
        if let Some(key) = key {
            state.set_key(key);
        }
        let (listeners, ingress) = self.take_listeners().map_err(AppError::Server)?;
        let ordinary = listeners.into_iter().map(|listener| (listener, self.tls.clone()));
        let all = ordinary.chain(ingress.into_iter().map(|listener| (listener, None)));
        let entrances = all.map(|(listener, tls)| StandbyEntrance { listener, tls }).collect();
        let server = http::serve_standby(entrances, &state).map_err(AppError::Server)?;
        Ok(Standby { state, server })
    }

    /// Returns the listeners for a server. Those of a node are kept for the next one.
    fn take_listeners(&mut self) -> io::Result<(Vec<TcpListener>, Vec<TcpListener>)> {
        if !self.is_node {
            return Ok((std::mem::take(&mut self.listeners), std::mem::take(&mut self.ingress)));
        }
        let clones = |listeners: &[TcpListener]| -> io::Result<Vec<_>> {
            listeners.iter().map(TcpListener::try_clone).collect()
        };
        Ok((clones(&self.listeners)?, clones(&self.ingress)?))
    }

    /// Returns the host names of this service.
    fn hosts(&self) -> HostRules {
        // Requests that a node forwards with a proof have the host in `node_url`. It must be known even if the proof is
        // not believed, for example because that node has just started.
        let node = self.options.node_url.as_ref().filter(|_| self.is_node);
        let node = node.and_then(|url| Some(url.split_once("://")?.1.to_owned()));
        let names = self.config.http.allowed_hosts.iter().cloned().chain(mdns_name()).chain(node);
        HostRules::new(&self.options.public_url, &names.collect::<Vec<_>>())
    }

    fn limits(&self) -> Limits {
        Limits {
            max_connections: self.config.http.max_connections,
            max_connections_per_address: self.config.http.max_connections_per_address,
            ..Limits::default()
        }
    }

    fn trusted_proxies(&self) -> TrustedProxies {
        TrustedProxies::new(&self.config.http.trusted_proxies)
    }

    fn restores(&self) -> Option<Restores> {
        restores(&self.config)
    }
}

/// Renews the certificate of the server whenever its files change, if there is one. Runs forever.
pub async fn renew(certificates: Option<Certificates>) -> Infallible {
    match certificates {
        Some(certificates) => certificates.watch().await,
        None => std::future::pending().await,
    }
}

/// Returns the URL at which other nodes reach a server that listens on this address.
fn node_url(scheme: &str, address: std::net::SocketAddr, host_name: Option<String>) -> String {
    match host_name {
        Some(name) if address.ip().is_unspecified() => format!("{scheme}://{name}:{}", address.port()),
        _ => format!("{scheme}://{address}"),
    }
}
