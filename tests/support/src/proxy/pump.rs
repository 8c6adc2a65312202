//! One connection through the [`Proxy`](super::Proxy): two directions, each with a reader and a writer and a
//! queue between them, so that delayed bytes do not hold up the bytes behind them.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::tap::Tap;

/// Maximum number of chunks queued in one direction. With the chunk size it limits the memory of a stalled
/// connection to 4 MiB.
const QUEUED_CHUNKS: usize = 256;
const CHUNK: usize = 16 * 1024;

/// Maximum number of chunks queued while the throughput is limited. A slow line takes little at once, so the
/// sender notices that it is slow.
const QUEUED_CHUNKS_THROTTLED: usize = 2;
/// Time from a message that is not permitted to the end of its connection.
const CLOSE_DELAY: Duration = Duration::from_millis(100);
const THROTTLE_CHECK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Mode {
    #[default]
    Flow,
    Stall,
    Swallow,
}

/// The current treatment of connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Treatment {
    pub(super) mode: Mode,
    pub(super) delay: Duration,
    pub(super) bytes_per_second: Option<u32>,
    /// Incremented by every cut; connections of an earlier generation end.
    pub(super) generation: u64,
    /// Whether the latest cut was a reset.
    pub(super) reset: bool,
}

type Watch = watch::Receiver<Treatment>;

/// Forwards until both sides have closed, one has failed, or the connection is cut.
pub(super) async fn run(
    mut client: TcpStream,
    mut target: TcpStream,
    treatment: Watch,
    [out, back]: [Tap; 2],
) {
    let generation = treatment.borrow().generation;
    let mut cut = treatment.clone();
    // A failure only makes small packets slower.
    let _ = (client.set_nodelay(true), target.set_nodelay(true));
    let reset = {
        let (client_read, client_write) = client.split();
        let (target_read, target_write) = target.split();
        let both_ways = async {
            tokio::try_join!(
                one_way(client_read, target_write, treatment.clone(), out),
                one_way(target_read, client_write, treatment, back),
            )
        };
        tokio::select! {
            _ = both_ways => return,
            latest = cut.wait_for(|latest| latest.generation != generation) => {
                latest.is_ok_and(|latest| latest.reset)
            }
        }
    };
    if reset {
        // This fails only if the socket is already closed.
        let _ = (client.set_zero_linger(), target.set_zero_linger());
    }
}

/// Forwards until the reading side has closed and everything has been written to the other side, which is
/// then closed.
async fn one_way(from: ReadHalf<'_>, to: WriteHalf<'_>, treatment: Watch, tap: Tap) -> io::Result<()> {
    let (queue, queued) = mpsc::channel(QUEUED_CHUNKS);
    tokio::try_join!(read(from, queue, treatment.clone(), tap), write(to, queued, treatment))?;
    Ok(())
}

async fn read(
    mut from: ReadHalf<'_>,
    queue: mpsc::Sender<(Instant, Bytes)>,
    mut treatment: Watch,
    mut tap: Tap,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let mut swallowed = false;
    loop {
        let mode = mode_other_than(Mode::Stall, &mut treatment).await?;
        if swallowed && mode == Mode::Flow {
            return Err(io::Error::other("bytes were lost"));
        }
        buffer.reserve(CHUNK);
        let length = tokio::select! {
            length = from.read_buf(&mut buffer) => length?,
            _ = treatment.changed() => continue,
        };
        let close_after = tap.observe(&buffer[buffer.len() - length..]);
        let Treatment { mode, delay, .. } = *treatment.borrow();
        if let Some(kept) = close_after
            && mode == Mode::Flow
        {
            buffer.truncate(kept);
            queue.send((Instant::now(), buffer.split().freeze())).await.map_err(io::Error::other)?;
            discard(&mut from).await;
            return Err(io::Error::other("the client sent a message that is not permitted"));
        }
        if mode == Mode::Swallow {
            swallowed = true;
            buffer.clear();
            if length == 0 {
                // The other side does not notice the close while bytes are swallowed.
                mode_other_than(Mode::Swallow, &mut treatment).await?;
            }
        } else if length == 0 {
            return Ok(());
        } else {
            let chunk = (Instant::now() + delay, buffer.split().freeze());
            queue.send(chunk).await.map_err(io::Error::other)?;
            while treatment.borrow().bytes_per_second.is_some()
                && queue.capacity() < QUEUED_CHUNKS - QUEUED_CHUNKS_THROTTLED
            {
                sleep(THROTTLE_CHECK).await;
            }
        }
    }
}

/// Discards what the client still sends, so that the connection can be closed without a reset, while the
/// acknowledgements of earlier messages arrive.
async fn discard(from: &mut ReadHalf<'_>) {
    let mut buffer = BytesMut::new();
    let until = sleep(CLOSE_DELAY);
    tokio::pin!(until);
    loop {
        buffer.clear();
        buffer.reserve(CHUNK);
        tokio::select! {
            length = from.read_buf(&mut buffer) => if !matches!(length, Ok(1..)) { return },
            () = &mut until => return,
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut queued: mpsc::Receiver<(Instant, Bytes)>,
    mut treatment: Watch,
) -> io::Result<()> {
    while let Some((due, chunk)) = queued.recv().await {
        sleep_until(due).await;
        treatment.wait_for(|now| now.mode == Mode::Flow).await.map_err(io::Error::other)?;
        to.write_all(&chunk).await?;
        let bytes_per_second = treatment.borrow().bytes_per_second;
        if let Some(bytes_per_second) = bytes_per_second {
            let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
            sleep(Duration::from_secs(1) * length / bytes_per_second.max(1)).await;
        }
    }
    treatment.wait_for(|now| now.mode == Mode::Flow).await.map_err(io::Error::other)?;
    to.shutdown().await
}

async fn mode_other_than(mode: Mode, treatment: &mut Watch) -> io::Result<Mode> {
    let now = treatment.wait_for(|now| now.mode != mode).await.map_err(io::Error::other)?;
    Ok(now.mode)
}
