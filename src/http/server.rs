//! The HTTP server and its limits.

use std::{convert::Infallible, io, net::TcpListener, sync::Arc, time::Duration};

use actix_http::HttpService;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, Error,
    dev::{AppConfig, Server},
    middleware::from_fn,
    rt::net::TcpStream,
    web::Data,
};
use futures_util::future;
use liveobject_actors::{
    domain::{clock, node_warnings::node_warnings},
    messages::supervisor::ReportWarnings,
};
use rustls::ServerConfig;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::{
    ApiState, Limits, auth, configure,
    connections::Connections,
    observe,
    transport::{self, Transport},
    warnings,
};
use crate::backup::Restores;

// Requests wait for the disk more than they use the CPU.
pub(super) const WORKERS: usize = 2;
/// How long a client may take to close its side after a response that ends the connection.
pub(super) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const SHUTDOWN_SECONDS: u64 = 5;

/// Serves the API on `listener`, without TLS. The server runs while the returned future is polled. Its handle
/// stops it; requests in progress then have 5 s to complete. It does not handle signals. Run
/// [`watch`] at the same time.
pub fn serve(listener: TcpListener, state: ApiState) -> io::Result<Server> {
    serve_all(vec![Entrance { listener, state, tls: None }])
}

/// A listener, and what is served there.
#[derive(Debug)]
pub struct Entrance {
    /// The listener.
    pub listener: TcpListener,
    /// What every request needs. All listeners of a server share the limits of the first one.
    pub state: ApiState,
    /// The configuration of TLS; `None` means plain HTTP.
    pub tls: Option<ServerConfig>,
}

/// Like [`serve`], on several listeners.
///
/// This does what `actix_web::HttpServer` does, with connections of our own type, which can be counted before
/// the TLS handshake and ended at any time.
pub fn serve_all(entrances: Vec<Entrance>) -> io::Result<Server> {
    let limits = entrances.first().map_or_else(Limits::default, |first| *first.state.connections.limits());
    let mut builder = Server::build()
        .workers(WORKERS)
        // `Connections` limits them. In the kernel's backlog, new ones would wait behind stuck ones.
        .max_concurrent_connections(usize::MAX - 1)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    for Entrance { listener, state, tls } in entrances {
        let acceptor = tls.map(acceptor);
        let (state, stopping) = (Data::new(state), stopping.clone());
        builder = builder.listen("api", listener, move || {
            let app = App::new()
                .app_data(state.clone())
                .wrap(from_fn(auth::check_source))
                .wrap(from_fn(observe::observe))
                .configure(configure);
            let app = app.into_factory().map_err(|error: Error| error.error_response());
            let stopping = stopping.clone();
            let http = HttpService::build()
                .keep_alive(limits.keep_alive)
                .client_request_timeout(limits.head_timeout)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .on_connect_ext(|transport: &Transport, data| {
                    data.insert(Arc::clone(transport.connection()));
                })
                .finish(map_config(app, |()| AppConfig::default()));
            let (connections, acceptor) = (state.connections.clone(), acceptor.clone());
            fn_service(move |stream: TcpStream| {
                transport::accept(connections.clone(), stream, acceptor.clone())
            })
            .and_then(http)
        })?;
    }
    Ok(builder.run())
}

/// Returns what performs the TLS handshakes.
pub(super) fn acceptor(mut config: ServerConfig) -> TlsAcceptor {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Watches the connections and the warnings. Runs forever.
pub async fn watch(state: ApiState) -> Infallible {
    future::join(watch_connections(&state), warnings::watch(&state)).await.0
}

/// Ends connections whose deadline has passed. Reports warnings in the status about addresses with too many
/// connections, about a backup that waits or could not be restored, and about the nodes. Runs forever.
async fn watch_connections(state: &ApiState) -> Infallible {
    let (mut reported, mut is_open) = (Vec::new(), true);
    loop {
        state.connections.next_check(is_open).await;
        let now = Instant::now();
        state.all_connections().for_each(|connections| connections.sweep(now));
        // Asked first: an upload that ends afterwards is reported with the next check.
        // A node looks at the others about once a second in any case.
        is_open = state.nodes.is_some() || state.restores.as_ref().is_some_and(Restores::is_busy);
        let mut warnings: Vec<_> =
            state.all_connections().flat_map(|connections| connections.warnings(now)).collect();
        is_open |= !warnings.is_empty() || !state.all_connections().all(Connections::is_empty);
        warnings.extend(state.restores.as_ref().and_then(Restores::warning));
        warnings.extend(state.nodes.iter().flat_map(|view| node_warnings(&view.borrow(), clock::now())));
        if warnings != reported {
            if state.handle.report_warnings.try_send(ReportWarnings(warnings.clone())).is_ok() {
                reported = warnings;
            } else {
                is_open = true;
            }
        }
    }
}
