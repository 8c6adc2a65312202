//! The subscriber's side of MQTT: connect, subscribe, receive, acknowledge, and reconnect after a failure.
//!
//! A message is stored before it is acknowledged. With QoS 2 a packet id is remembered until its release,
//! across reconnects of the same session, so that each message is stored exactly once.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{interval, sleep, timeout};

use super::{Shared, SubscriberBuilder};
use crate::mqtt5::{Connect, Encoder, Packet, read_packet};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// After three unanswered pings the connection is considered dead.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(6);
const KEEP_ALIVE_SECONDS: u16 = 10;
const SESSION_EXPIRY_SECONDS: u32 = 3600;
const SUBSCRIBE_ID: u16 = 1;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;

pub(super) async fn run(settings: SubscriberBuilder, shared: Arc<Shared>) {
    let mut session = Session { settings, shared, connected: false, unreleased: BTreeSet::new() };
    loop {
        let fault = session.run_connection().await.err();
        session.shared.change(|seen| seen.fault = fault.map(|fault| fault.to_string()));
        sleep(session.settings.reconnect_after).await;
    }
}

struct Session {
    settings: SubscriberBuilder,
    shared: Arc<Shared>,
    /// Whether an earlier connection succeeded.
    connected: bool,
    /// Packet ids of QoS 2 messages that are stored and not released yet.
    unreleased: BTreeSet<u16>,
}

impl Session {
    /// Runs one connection to its end.
    async fn run_connection(&mut self) -> io::Result<()> {
        let address = (Ipv4Addr::LOCALHOST, self.settings.port);
        let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (from, mut to) = stream.split();
        to.write_all(&Encoder::connect(&self.connect())).await?;
        let (outbox, out) = unbounded_channel();
        tokio::select! {
            ended = self.read_all(BufReader::new(from), &outbox) => ended,
            ended = write_all(to, out) => ended,
        }
    }

    fn connect(&self) -> Connect {
        let (username, password) = self.settings.login.clone().unzip();
        Connect {
            version: self.settings.version,
            client_id: self.settings.client_id.clone(),
            keep_alive: KEEP_ALIVE_SECONDS,
            clean_start: !self.settings.has_session,
            session_expiry: self.settings.has_session.then_some(SESSION_EXPIRY_SECONDS),
            will: self.settings.will.clone(),
            username,
            password: password.map(Bytes::from),
            ..Connect::default()
        }
    }

    fn encoder(&self) -> Encoder {
        Encoder(self.settings.version)
    }

    async fn read_all(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        outbox: &UnboundedSender<Bytes>,
    ) -> io::Result<()> {
        let version = self.settings.version;
        while let Some(packet) = timeout(SILENCE_TIMEOUT, read_packet(version, &mut from)).await?? {
            if let Some(answer) = self.packet(packet)? {
                outbox.send(answer).map_err(io::Error::other)?;
            }
        }
        Err(io::Error::other("the broker closed the connection"))
    }

    fn packet(&mut self, packet: Packet) -> io::Result<Option<Bytes>> {
        match packet {
            Packet::ConnAck { session_present, reason: 0 } => Ok(self.connected(session_present)),
            Packet::ConnAck { reason, .. } | Packet::Disconnect(reason) => Err(refused("connection", reason)),
            Packet::SubAck { reasons } => {
                if let Some(reason) = reasons.into_iter().find(|reason| *reason >= 0x80) {
                    return Err(refused("subscription", reason));
                }
                self.shared.change(|seen| seen.subscribed = true);
                Ok(None)
            }
            Packet::Publish(publish) => {
                let (qos, packet_id) = (publish.qos, publish.packet_id);
                if qos < 2 || self.unreleased.insert(packet_id) {
                    self.shared.change(|seen| seen.keep(publish));
                }
                let kind = if qos == 1 { PUBACK } else { PUBREC };
                Ok((qos > 0).then(|| self.encoder().answer(kind, packet_id, 0)))
            }
            Packet::PubRel { packet_id } => {
                self.unreleased.remove(&packet_id);
                Ok(Some(self.encoder().answer(PUBCOMP, packet_id, 0)))
            }
            _ => Ok(None),
        }
    }

    fn connected(&mut self, session_present: bool) -> Option<Bytes> {
        if !session_present {
            self.unreleased.clear();
        }
        // The session of an earlier subscriber may have other filters.
        let subscribe = !session_present || !self.connected;
        self.connected = true;
        self.shared.change(|seen| {
            seen.connections += 1;
            seen.subscribed &= !subscribe;
        });
        subscribe.then(|| self.encoder().subscribe(SUBSCRIBE_ID, &self.settings.filters, self.settings.qos))
    }
}

async fn write_all(mut to: WriteHalf<'_>, mut out: UnboundedReceiver<Bytes>) -> io::Result<()> {
    let mut pings = interval(PING_INTERVAL);
    pings.tick().await;
    loop {
        let mut bytes = BytesMut::new();
        tokio::select! {
            Some(answer) = out.recv() => bytes.extend_from_slice(&answer),
            _ = pings.tick() => bytes.extend_from_slice(&Encoder::pingreq()),
        }
        while let Ok(answer) = out.try_recv() {
            bytes.extend_from_slice(&answer);
        }
        to.write_all(&bytes).await?;
    }
}

fn refused(what: &str, reason: u8) -> io::Error {
    io::Error::other(format!("the broker ended the {what} with reason {reason:#x}"))
}
