//! TLS connections without Nagle's algorithm, which sqlx 0.9.0 does not switch off.
//!
//! With TLS, each 16 KiB of a commit are written separately. With Nagle's algorithm, the end of such a part waits for the
//! acknowledgement of what was sent before, which the server's kernel may delay for 40 ms. Without TLS, a commit is
//! written at once, and nothing waits.
//!
//! sqlx can only connect to an address or to a socket in the file system. So the connection is opened here, and sqlx
//! connects to a socket of this process, from which the encrypted bytes are copied. Nothing else differs: an error of
//! either connection ends both.

use std::{io, process, time::Duration};

use rustix::net::sockopt;
use sea_orm::sqlx::{
    self, ConnectOptions as _,
    postgres::{PgConnectOptions, PgConnection, PgSslMode},
};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpStream, UnixListener, UnixStream},
};
use uuid::Uuid;

/// The sizes of the buffers, of which the first is for what is sent to the server.
const BUFFERS: (usize, usize) = (32 * 1024, 8 * 1024);
/// When the kernel begins to test an idle connection, how often, and how often without a response before it ends the
/// connection. The server does the same (see [`super::SESSION`]).
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);
/// After which time without an acknowledgement of what was sent the kernel ends the connection.
const USER_TIMEOUT_MILLIS: u32 = 10_000;

/// Connects.
pub async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    if is_relayed(options) { connect_relayed(options).await } else { options.connect().await }
}

/// Returns whether the connection would need more than one write for a commit. Other systems than Linux have no sockets
/// without a file.
fn is_relayed(options: &PgConnectOptions) -> bool {
    let is_encrypted = !matches!(options.get_ssl_mode(), PgSslMode::Disable);
    cfg!(target_os = "linux") && options.get_socket().is_none() && is_encrypted
}

async fn connect_relayed(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let server = dial(options.get_host(), options.get_port()).await?;
    let random = Uuid::from_bytes(rand::random()).simple();
    // The zero byte means that the name is not one of a file.
    let directory = format!("\0liveobject-{random}");
    let listener = UnixListener::bind(format!("{directory}/.s.PGSQL.{}", options.get_port()))?;
    let options = options.clone().socket(directory);
    let relaying = async {
        relay(accept_own(&listener).await?, server);
        Ok(())
    };
    let (connection, ()) = tokio::try_join!(options.connect(), relaying)?;
    Ok(connection)
}

/// Opens the connection to the server.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let server = TcpStream::connect((host, port)).await?;
    server.set_nodelay(true)?;
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_socket_keepalive(&server, true)?;
    sockopt::set_tcp_keepidle(&server, idle)?;
    sockopt::set_tcp_keepintvl(&server, interval)?;
    sockopt::set_tcp_keepcnt(&server, count)?;
    sockopt::set_tcp_user_timeout(&server, USER_TIMEOUT_MILLIS)?;
    Ok(server)
}

/// Waits for a connection from this process. Others, which could have found the name, are closed.
async fn accept_own(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        let peer = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        if peer == Some(process::id()) {
            return Ok(stream);
        }
    }
}

/// Copies in both directions until both have ended, or one of them fails.
#[expect(
    clippy::disallowed_methods,
    reason = "if it panics, both connections are closed, which is noticed like a loss of the connection"
)]
fn relay(mut near: UnixStream, mut server: TcpStream) {
    tokio::spawn(async move {
        let (to_server, from_server) = BUFFERS;
        let copied = copy_bidirectional_with_sizes(&mut near, &mut server, to_server, from_server).await;
        if let Err(error) = copied {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a connection to the database was lost"
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_neither_delays_what_is_sent_nor_outlives_a_server_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = dial("127.0.0.1", listener.local_addr().unwrap().port()).await.unwrap();
        assert!(server.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&server).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&server).unwrap(), KEEPALIVE.0);
        assert_eq!(sockopt::tcp_keepintvl(&server).unwrap(), KEEPALIVE.1);
        assert_eq!(sockopt::tcp_keepcnt(&server).unwrap(), KEEPALIVE.2);
        assert_eq!(sockopt::tcp_user_timeout(&server).unwrap(), USER_TIMEOUT_MILLIS);
    }

    #[test]
    fn only_connections_over_tcp_with_tls_are_relayed() {
        let over_tcp = PgConnectOptions::new_without_pgpass().host("db");
        for (mode, is_expected) in [
            (PgSslMode::Disable, false),
            (PgSslMode::Require, true),
            (PgSslMode::VerifyCa, true),
            (PgSslMode::VerifyFull, true),
        ] {
            let options = over_tcp.clone().ssl_mode(mode);
            assert_eq!(is_relayed(&options), is_expected, "{mode:?}");
            assert!(!is_relayed(&options.socket("/run/postgresql")));
        }
    }
}
