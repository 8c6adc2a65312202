//! From a name and a port to an open socket, with a typed failure for each way in which that can fail.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::reason;
use crate::{settings::MqttSettings, status::Failure};

/// More addresses than this are not tried.
const MAX_ADDRESSES: usize = 16;

/// The broker's addresses, IPv6 and IPv4 as the resolver orders them.
pub async fn resolve(settings: &MqttSettings) -> Result<Vec<SocketAddr>, Failure> {
    let host = settings.broker_host.as_str();
    let found = timeout(connect_timeout(settings), lookup_host((host, settings.broker_port)));
    match found.await {
        Err(_) => Err(reason::name_not_found(host, &"the name server did not answer in time")),
        Ok(Err(error)) => Err(reason::name_not_found(host, &error)),
        Ok(Ok(addresses)) => match addresses.take(MAX_ADDRESSES).collect::<Vec<_>>() {
            none if none.is_empty() => Err(reason::name_not_found(host, &"the answer was empty")),
            addresses => Ok(addresses),
        },
    }
}

/// An open socket to the first address that accepts. Each gets an equal share of the connect timeout; the failure is the
/// last address's.
pub async fn connect(settings: &MqttSettings, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let share = connect_timeout(settings) / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = reason::name_not_found(&settings.broker_host, &"no address");
    for address in addresses {
        failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it the tail of small messages waits for the peer's delayed acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => reason::of_io(&error, &settings.broker()),
            Err(_) => reason::timed_out(&settings.broker(), settings.connect_timeout_seconds, false),
        };
    }
    Err(failure)
}

/// Resolves and connects, as the MQTT client's connector wants it: the failure travels inside the error.
pub async fn dial(settings: &MqttSettings) -> Result<TcpStream, io::Error> {
    let addresses = resolve(settings).await.map_err(io::Error::other)?;
    connect(settings, &addresses).await.map_err(io::Error::other)
}

/// The settings' connect timeout.
pub fn connect_timeout(settings: &MqttSettings) -> Duration {
    Duration::from_secs(settings.connect_timeout_seconds.into())
}
