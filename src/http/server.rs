//! The HTTP server and its bounds.

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

// Requests wait for the disk more than they compute.
const WORKERS: usize = 2;
// A worker; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 512;
const REQUEST_HEAD_WITHIN: Duration = Duration::from_secs(10);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
// Longer than the minute that proxies and HTTP clients keep an idle connection for reuse.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const SHUTDOWN_SECONDS: u64 = 5;
// A client that takes nothing for so long is gone, or will not read; a stream or a picture would wait for it for ever.
const TAKES_NOTHING_FOR: Duration = Duration::from_secs(30);

/// Serves the API on `listener`, without TLS. The server runs while the returned future is polled; its handle stops it:
/// requests that have begun may end, within 5 s. It does not listen to signals.
pub fn serve(listener: TcpListener, state: ApiState) -> io::Result<Server> {
    serve_all(vec![listener], state, None)
}

/// [`serve`], on several listeners, with TLS where there is a configuration for it.
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
        .client_request_timeout(REQUEST_HEAD_WITHIN)
        .tls_handshake_timeout(HANDSHAKE_WITHIN)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .tcp_nodelay(true)
        .on_connect(bound_writes)
        .disable_signals();
    for listener in listeners {
        server = match &tls {
            Some(config) => server.listen_rustls_0_23(listener, config.clone())?,
            None => server.listen(listener)?,
        };
    }
    Ok(server.run())
}

/// The kernel ends a connection whose client takes nothing any more.
fn bound_writes(connection: &dyn Any, _: &mut Extensions) {
    let encrypted = connection.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
    if let Some(stream) = connection.downcast_ref::<TcpStream>().or(encrypted)
        && let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(TAKES_NOTHING_FOR))
    {
        tracing::debug!(%error, "a connection's writes are not bounded");
    }
}
