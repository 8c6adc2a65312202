//! One address of the broker for all nodes, because they share their settings, and a line of its own for each of them.

use std::{
    fs,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use liveobject_test_support::free_port;

/// The processes of the nodes that run.
#[derive(Debug, Clone)]
pub struct Pids(Arc<Mutex<Vec<Option<u32>>>>);

impl Pids {
    pub fn new(nodes: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![None; nodes])))
    }

    pub fn set(&self, node: usize, pid: Option<u32>) {
        self.lock()[node] = pid;
    }

    /// Returns the node that has connected from this port to that one.
    fn connected(&self, from: u16, to: u16) -> Option<usize> {
        let inode = inode(&fs::read_to_string("/proc/net/tcp").ok()?, from, to)?;
        let pids = self.lock().clone();
        pids.iter().position(|pid| pid.is_some_and(|pid| has_open(pid, &inode)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts the nodes' connections on one port, and forwards each to the port of its node.
#[derive(Debug)]
pub struct Router {
    port: u16,
    _acceptor: JoinSet<()>,
}

impl Router {
    pub async fn start(pids: Pids, targets: Vec<u16>) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free");
        let mut acceptor = JoinSet::new();
        acceptor.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                // An error concerns a connection that is already gone.
                let Ok((mut client, address)) = listener.accept().await else { continue };
                let target = pids.connected(address.port(), port).map(|node| targets[node]);
                connections.spawn(async move {
                    // The process may have been killed.
                    let Some(target) = target else { return };
                    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
                        return;
                    };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let _closed = copy_bidirectional(&mut client, &mut server).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, _acceptor: acceptor }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Returns the inode of the client's socket of a connection on loopback, from `/proc/net/tcp`.
fn inode(table: &str, from: u16, to: u16) -> Option<String> {
    let (from, to) = (format!("0100007F:{from:04X}"), format!("0100007F:{to:04X}"));
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&from.as_str()) && fields.get(2) == Some(&to.as_str());
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    })
}

fn has_open(pid: u32, inode: &str) -> bool {
    let socket = format!("socket:[{inode}]");
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_that_has_connected_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it accepts");
        let from = client.local_addr().expect("it has an address").port();
        let pids = Pids::new(3);
        assert_eq!(pids.connected(from, port), None);
        pids.set(1, Some(std::process::id()));
        assert_eq!(pids.connected(from, port), Some(1));
    }
}
