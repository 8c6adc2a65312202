//! One client's connection to the [`ScriptedBroker`](super::ScriptedBroker): bytes in, bytes out. The
//! [`State`](super::state::State) decides what to send.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Shared;
use super::state::Out;
use crate::mqtt5::{Packet, Version, read_packet};

pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // A failure only makes small packets slower.
    let _ = stream.set_nodelay(true);
    let (outbox, out) = mpsc::unbounded_channel();
    let id = shared.change(|state| state.open(outbox));
    let (from, to) = stream.into_split();
    let fault = tokio::select! {
        result = read_all(from, id, &shared) => result.err(),
        // The client is gone; the reading side reports this as well.
        _ = write_all(to, out) => None,
    };
    let malformed = fault.filter(|fault| fault.kind() == io::ErrorKind::InvalidData);
    shared.change(|state| state.closed(id, malformed));
}

async fn read_all(from: OwnedReadHalf, id: usize, shared: &Shared) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut version = Version::V5;
    while let Some(packet) = read_packet(version, &mut from).await? {
        if let Packet::Connect(connect) = &packet {
            version = connect.version;
        }
        shared.change(|state| state.packet(id, packet));
    }
    Ok(())
}

/// Writes all packets, and ends after the command to close or to reset.
async fn write_all(mut to: OwnedWriteHalf, mut out: mpsc::UnboundedReceiver<Out>) -> io::Result<()> {
    loop {
        match out.recv().await {
            Some(Out::Packet(bytes)) => to.write_all(&bytes).await?,
            Some(Out::Reset) => return to.as_ref().set_zero_linger(),
            Some(Out::Close) | None => return to.shutdown().await,
        }
    }
}
