//! A filter between the network connection and the MQTT client. It hides packets that the client cannot handle,
//! and preserves information that the client would lose.
//!
//! - *The end comes separately.* If the client reads an acknowledgement together with the end of the
//!   connection, it drops the acknowledgement. So the end is delivered on its own: the client first reports
//!   everything that arrived before.
//! - *The broker's last packets are read.* A failed write would end the client's session, although the reason may
//!   already be in the receive buffer. So write errors are hidden, and the read side reports the end.
//! - *An acknowledgement that nothing waits for is dropped*, with a warning. The client would treat it as
//!   a protocol error.
//! - *A DISCONNECT may consist of its reason only* (MQTT 5 section 3.14.2.2.1). The client's decoder expects the
//!   property length, so it is added.
//! - *Reason codes that MQTT 5 does not define for a packet* are replaced by *unspecified error*. Mosquitto
//!   refuses a message above its `message_size_limit` with 0x95 (*packet too large*), which MQTT 5 defines only
//!   for DISCONNECT; [`Traffic`] keeps that reason.
//!
//! Payloads are neither examined nor searched: the work is per packet, not per byte.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use self::{
    incoming::{Packet, Parsed},
    outgoing::Outgoing,
};
use crate::domain::mqtt_version::Version;

/// How much is read at once. A broker mostly sends acknowledgements of four bytes.
const READ_SIZE: usize = 8 * 1024;

/// How long the read side may take, after a failed write, to deliver what the broker sent last and to report the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// One bit for each packet id.
#[derive(Debug)]
struct PacketIds(Box<[u64]>);

impl Default for PacketIds {
    fn default() -> Self {
        Self(vec![0; (usize::from(u16::MAX) + 1) / 64].into())
    }
}

impl PacketIds {
    fn insert(&mut self, id: u16) {
        self.0[usize::from(id) / 64] |= 1 << (id % 64);
    }

    /// Returns whether the id was present.
    fn remove(&mut self, id: u16) -> bool {
        let (word, bit) = (&mut self.0[usize::from(id) / 64], 1 << (id % 64));
        let was_present = *word & bit != 0;
        *word &= !bit;
        was_present
    }
}

/// What the filter has seen, for the session that uses it.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    late_bytes: u64,
    too_large: BTreeSet<u16>,
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many bytes the network connection has accepted so far after it had been full. This number
    /// grows while a large message is being sent on a slow line.
    pub fn late_bytes(&self) -> u64 {
        self.lock().late_bytes
    }

    /// Returns, once, whether the broker refused the message with this packet id as too large.
    pub fn take_too_large(&self, packet_id: u16) -> bool {
        self.lock().too_large.remove(&packet_id)
    }
}

/// How the read side ended.
#[derive(Debug)]
enum End {
    Closed,
    Failed(io::Error),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct PacketFilter<S> {
    inner: S,
    version: Version,
    traffic: Traffic,
    /// The buffer for one read.
    chunk: Box<[u8]>,
    /// Bytes that have arrived and have not been examined.
    arrived: BytesMut,
    /// Bytes for the client.
    ready: BytesMut,
    /// How many bytes of a packet that passes unexamined are in `arrived` or still to come.
    passing: usize,
    /// Whether the client has received bytes since a read last returned `Pending`.
    fed: bool,
    end: Option<End>,
    /// Why a write failed, and until when the read side may report the end.
    write_error: Option<(io::Error, Pin<Box<Sleep>>)>,
    /// Whether the network connection could accept no bytes at the last write.
    was_full: bool,
    outgoing: Outgoing,
    /// The messages whose first answer (PUBACK or PUBREC) has not arrived.
    published: PacketIds,
    /// The QoS 2 messages whose PUBREC has arrived, but not their PUBCOMP.
    received: PacketIds,
}

impl<S> PacketFilter<S> {
    /// Wraps a connection that is used with this MQTT version.
    pub fn new(inner: S, version: Version, traffic: Traffic) -> Self {
        Self {
            inner,
            version,
            traffic,
            chunk: vec![0; READ_SIZE].into(),
            arrived: BytesMut::new(),
            ready: BytesMut::new(),
            passing: 0,
            fed: false,
            end: None,
            write_error: None,
            was_full: false,
            outgoing: Outgoing::default(),
            published: PacketIds::default(),
            received: PacketIds::default(),
        }
    }

    /// Moves what can be moved from `arrived` to `ready`. Returns whether the next packet must be delivered
    /// separately.
    fn examine(&mut self) -> bool {
        loop {
            if self.passing > 0 {
                let count = self.passing.min(self.arrived.len());
                self.ready.unsplit(self.arrived.split_to(count));
                self.passing -= count;
            }
            match incoming::parse(&self.arrived, self.version) {
                Parsed::Incomplete => return false,
                Parsed::Other { length } => self.passing = length,
                Parsed::Packet { packet: Packet::Disconnect { reason }, length } => {
                    if self.fed || !self.ready.is_empty() {
                        return true;
                    }
                    self.pass_disconnect(reason, length);
                }
                Parsed::Packet { packet, length } => {
                    if self.is_expected(packet) {
                        self.pass_answer(packet, length);
                    } else {
                        tracing::warn!(?packet, "ignored an acknowledgement that no message waits for");
                        self.arrived.advance(length);
                    }
                }
            }
        }
    }

    fn is_expected(&mut self, packet: Packet) -> bool {
        match packet {
            Packet::PubAck { id, .. } => self.published.remove(id),
            Packet::PubRec { id, reason } => {
                let expected = self.published.remove(id);
                if expected && reason < 0x80 {
                    self.received.insert(id);
                }
                expected
            }
            Packet::PubComp { id } => self.received.remove(id),
            Packet::Disconnect { .. } => true,
        }
    }

    fn pass_answer(&mut self, packet: Packet, length: usize) {
        let mut bytes = self.arrived.split_to(length);
        if let Packet::PubAck { id, reason } | Packet::PubRec { id, reason } = packet
            && let Some(defined) = incoming::defined_answer(reason)
        {
            tracing::debug!(?packet, "replaced a reason code that MQTT 5 does not define here");
            if reason == incoming::PACKET_TOO_LARGE {
                self.traffic.lock().too_large.insert(id);
            }
            incoming::set_reason(&mut bytes, defined);
        }
        self.ready.unsplit(bytes);
    }

    fn pass_disconnect(&mut self, reason: Option<u8>, length: usize) {
        let mut bytes = self.arrived.split_to(length);
        match reason {
            Some(reason) if length == 3 => {
                self.ready.extend_from_slice(&[0xE0, 2, incoming::defined_disconnect(reason), 0]);
            }
            Some(reason) => {
                incoming::set_disconnect_reason(&mut bytes, incoming::defined_disconnect(reason));
                self.ready.unsplit(bytes);
            }
            None => self.ready.unsplit(bytes),
        }
    }

    /// Interrupts the client's reading, so that it reports what it has read so far. It is woken at once.
    fn pause(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.fed = false;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn write_failed(&mut self, error: io::Error, cx: &Context<'_>) {
        // The read side may be waiting, and must set its timer.
        cx.waker().wake_by_ref();
        self.write_error = Some((error, Box::pin(sleep(DRAIN_TIMEOUT))));
    }

    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ready.len().min(buf.remaining());
        buf.put_slice(&self.ready[..count]);
        self.ready.advance(count);
        self.fed = true;
    }

    fn take_end(&mut self) -> io::Result<()> {
        match (self.end.take(), self.write_error.take()) {
            // The connection was reset, and the write has consumed the error.
            (Some(End::Closed), Some((error, _))) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(error)
            }
            (Some(End::Failed(error)), _) => Err(error),
            _ => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> PacketFilter<S> {
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut read = ReadBuf::new(&mut self.chunk);
        match Pin::new(&mut self.inner).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) if read.filled().is_empty() => self.end = Some(End::Closed),
            Poll::Ready(Ok(())) => self.arrived.extend_from_slice(read.filled()),
            Poll::Ready(Err(error)) => self.end = Some(End::Failed(error)),
            Poll::Pending => {
                // After a failed write, what has arrived may not have been noticed yet.
                let Some((_, timeout)) = &mut self.write_error else { return Poll::Pending };
                ready!(timeout.as_mut().poll(cx));
                self.end = self.write_error.take().map(|(error, _)| End::Failed(error));
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacketFilter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let separately = this.examine();
            if !this.ready.is_empty() {
                this.deliver(buf);
                return Poll::Ready(Ok(()));
            }
            if separately {
                return this.pause(cx);
            }
            if this.end.is_some() {
                if !this.arrived.is_empty() {
                    // The beginning of a packet; the client decides what to make of it.
                    this.ready = this.arrived.split();
                    continue;
                }
                if this.fed {
                    return this.pause(cx);
                }
                return Poll::Ready(this.take_end());
            }
            if this.fill(cx).is_pending() {
                this.fed = false;
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacketFilter<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.write_error.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let count = match Pin::new(&mut this.inner).poll_write(cx, buf) {
            Poll::Pending => {
                this.was_full = true;
                return Poll::Pending;
            }
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => {
                this.write_failed(error, cx);
                buf.len()
            }
        };
        let published = &mut this.published;
        this.outgoing.written(&buf[..count], |id| published.insert(id));
        if std::mem::take(&mut this.was_full) {
            this.traffic.lock().late_bytes += u64::try_from(count).unwrap_or(0);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.write_error.is_none()
            && let Err(error) = ready!(Pin::new(&mut this.inner).poll_flush(cx))
        {
            this.write_failed(error, cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
