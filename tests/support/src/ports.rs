//! Free loopback ports.
//!
//! They are taken below the range from which the kernel hands out local ports (32768 and up by default). A test that
//! stops a server and starts it again on the same port would otherwise, now and then, find the port taken by an
//! outgoing connection; and a client that keeps trying to reach a closed port of that range can end up connected to
//! itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

const FIRST: u64 = 20_000;
const COUNT: u64 = 12_000;
const ATTEMPTS: usize = 200;

/// A loopback port on which nobody listens right now.
///
/// Another process may take it before the caller does: who starts a server on it should try again on another one.
///
/// # Panics
///
/// When no free port is found.
#[must_use]
pub fn free_port() -> u16 {
    (0..ATTEMPTS)
        .map(|_| random_port())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or_else(|| panic!("no free loopback port in {ATTEMPTS} attempts"))
}

fn random_port() -> u16 {
    let random = RandomState::new().build_hasher().finish();
    u16::try_from(FIRST + random % COUNT).expect("the range lies below 65536")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_on() {
        let port = free_port();
        assert!((20_000..32_000).contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    }
}
