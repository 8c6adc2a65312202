//! Free loopback ports.
//!
//! The ports are below the range from which the kernel assigns local ports (32768 and up by default). If a
//! test stops a server and starts it again on the same port, an outgoing connection could otherwise occupy
//! the port in between. Also, a client that keeps trying to reach a closed port in that range can end up
//! connected to itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

const FIRST: u64 = 20_000;
const COUNT: u64 = 12_000;
const ATTEMPTS: usize = 200;

/// Marks ports as taken for other tests, in this process and in others, even while the server on the port is
/// down. The marks end with the process.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// Returns a loopback port on which nothing listens now, and which no other test receives while this process
/// lives.
///
/// A process that is not a test may take the port before the caller does. A caller that starts a server on it
/// should retry with another port.
///
/// # Panics
///
/// Panics if no free port is found.
#[must_use]
pub fn free_port() -> u16 {
    (0..ATTEMPTS)
        .map(|_| random_port())
        .find(|port| take(*port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or_else(|| panic!("no free loopback port in {ATTEMPTS} attempts"))
}

fn random_port() -> u16 {
    let random = RandomState::new().build_hasher().finish();
    u16::try_from(FIRST + random % COUNT).expect("the range is below 65536")
}

/// Marks a port as taken. Returns false if another test already has it.
fn take(port: u16) -> bool {
    let name = SocketAddr::from_abstract_name(format!("liveobject-test-port-{port}"));
    let Ok(taken) = name.and_then(|name| UnixListener::bind_addr(&name)) else { return false };
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once() {
        let port = free_port();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nothing listens there");
        assert!(!take(port));
    }

    #[test]
    fn a_free_port_can_be_listened_on() {
        let port = free_port();
        assert!((20_000..32_000).contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    }
}
