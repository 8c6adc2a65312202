//! Free loopback ports.
//!
//! They are taken below the range from which the kernel hands out local ports (32768 and up by default). A test that
//! stops a server and starts it again on the same port would otherwise, now and then, find the port taken by an
//! outgoing connection; and a client that keeps trying to reach a closed port of that range can end up connected to
//! itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

const FIRST: u64 = 20_000;
const COUNT: u64 = 12_000;
const ATTEMPTS: usize = 200;

/// What tells other tests, in this process and others, that a port is taken, also while the server on it is down. Goes with the
/// process.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A loopback port on which nobody listens right now, and which no other test gets as long as this process lives.
///
/// A process that is no test may take it before the caller does: who starts a server on it should try again on another one.
///
/// # Panics
///
/// When no free port is found.
#[must_use]
pub fn free_port() -> u16 {
    (0..ATTEMPTS)
        .map(|_| random_port())
        .find(|port| take(*port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or_else(|| panic!("no free loopback port in {ATTEMPTS} attempts"))
}

fn random_port() -> u16 {
    let random = RandomState::new().build_hasher().finish();
    u16::try_from(FIRST + random % COUNT).expect("the range lies below 65536")
}

/// Whether no test had it.
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
    fn a_port_is_given_once() {
        let port = free_port();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nobody listens there");
        assert!(!take(port));
    }

    #[test]
    fn a_free_port_can_be_listened_on() {
        let port = free_port();
        assert!((20_000..32_000).contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    }
}
