//! The HTTP server and its limits.

use std::{any::Any, io, net::TcpListener, time::Duration};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    App, HttpServer,
    dev::{Extensions, Server},
    middleware::from_fn,
    rt::net::TcpStream,
    web::Data,
};
use rustls::ServerConfig;
use socket2::SockRef;

use super::{ApiState, auth, configure, observe};

// Requests wait for the disk more than they use the CPU.
const WORKERS: usize = 2;
// Per worker. Further connections wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 512;
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
// Longer than the minute for which proxies and HTTP clients keep idle connections for reuse.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const SHUTDOWN_SECONDS: u64 = 5;
// A client that has not read for this long is gone or stuck; a stream or a picture would wait for it forever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the API on `listener`, without TLS. The server runs while the returned future is polled. Its handle
/// stops it; requests in progress then have 5 s to complete. It does not handle signals.
pub fn serve(listener: TcpListener, state: ApiState) -> io::Result<Server> {
    serve_all(vec![listener], state, None)
}

/// Like [`serve`], on several listeners, and with TLS if there is a configuration for it.
pub fn serve_all(
    listeners: Vec<TcpListener>,
    state: ApiState,
    tls: Option<ServerConfig>,
) -> io::Result<Server> {
    let state = Data::new(state);
    let app = move || {
        App::new()
            .app_data(state.clone())
            .wrap(from_fn(auth::check_source))
            .wrap(from_fn(observe::observe))
            .configure(configure)
    };
    let mut server = HttpServer::new(app)
        .workers(WORKERS)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(REQUEST_HEAD_TIMEOUT)
        .tls_handshake_timeout(HANDSHAKE_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .tcp_nodelay(true)
        .on_connect(limit_write_time)
        .disable_signals();
    for listener in listeners {
        server = match &tls {
            Some(config) => server.listen_rustls_0_23(listener, config.clone())?,
            None => server.listen(listener)?,
        };
    }
    Ok(server.run())
}

/// Makes the kernel close a connection whose client no longer reads.
fn limit_write_time(connection: &dyn Any, _: &mut Extensions) {
    let encrypted = connection.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
    if let Some(stream) = connection.downcast_ref::<TcpStream>().or(encrypted)
        && let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT))
    {
        tracing::debug!(%error, "cannot set a write timeout for a connection");
    }
}
