//! The MQTT session of a connection test.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    connection::{
        client::{self, Accepted, Answer, Client, Ended, Event, Events, Limits, Message, SessionOptions},
        dial::{self, SessionTransport, Stages},
    },
    domain::{
        mqtt_version::{Version, VersionPolicy},
        settings::{MqttSettings, QoS, Transport},
        status::{Failure, FailureKind},
    },
};

/// A session. It uses a client id of its own, so that the service's connection is not disturbed.
pub struct Session {
    client: Client,
    events: Events,
    pub version: Version,
    pub limits: Limits,
    /// The messages that have arrived are compared with these.
    awaited: Vec<Message>,
    arrived: Vec<Message>,
}

impl Session {
    /// Logs in over this network connection, with this last will. Returns what the broker reported.
    pub async fn open(
        settings: &Arc<MqttSettings>,
        transport: SessionTransport,
        will: Option<Message>,
    ) -> Result<(Self, String), Failure> {
        let options = SessionOptions {
            client_id: format!("{}-test-{:04x}", settings.client_id, rand::random::<u16>()),
            will,
            capacity: 4,
            transport,
        };
        let mut events = client::open(settings, options, VersionPolicy::of_protocol(settings.protocol));
        loop {
            let Event::Accepted(accepted) = event_or_failure(events.next().await)? else { continue };
            let detail = login_detail(settings, &accepted);
            let Accepted { client, version, limits, .. } = accepted;
            let session = Self { client, events, version, limits, awaited: Vec::new(), arrived: Vec::new() };
            return Ok((session, detail));
        }
    }

    /// Connects and logs in again.
    pub async fn reopen(settings: &Arc<MqttSettings>, will: Option<Message>) -> Result<Self, Failure> {
        let transport = SessionTransport::default();
        transport.keep(dial::open(settings, &transport, &mut Stages::default()).await?);
        Ok(Self::open(settings, transport, will).await?.0)
    }

    /// Returns whether an acknowledgement proves that a message was accepted.
    pub fn is_acknowledgement_proof(&self) -> bool {
        self.version == Version::V5 && self.acknowledges()
    }

    /// Returns whether the broker acknowledges messages.
    pub fn acknowledges(&self) -> bool {
        self.limits.maximum_qos > QoS::AtMostOnce
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        let event = event_or_failure(self.events.next().await)?;
        if let Event::Arrived { topic, payload, .. } = &event {
            let is_it = |message: &&Message| topic == message.topic.as_bytes() && *payload == message.payload;
            self.arrived.extend(self.awaited.iter().find(is_it).cloned());
        }
        Ok(event)
    }

    /// Subscribes to the topic of a message. Returns whether the broker granted it.
    pub async fn subscribe(&mut self, message: &Message) -> Result<bool, Failure> {
        self.client.subscribe(&message.topic).map_err(overrun)?;
        self.awaited.push(message.clone());
        loop {
            if let Event::Subscribed(granted) = self.next().await? {
                return Ok(granted);
            }
        }
    }

    /// Publishes a message, with a QoS that the broker supports, and waits for the broker's answer; with QoS 0, until
    /// it is sent.
    pub async fn publish(&mut self, message: &Message) -> Result<Answer, Failure> {
        let mut message = message.clone();
        message.qos = message.qos.min(self.limits.maximum_qos);
        self.client.publish(message).map_err(overrun)?;
        loop {
            match self.next().await? {
                Event::Answered(_, answer) => return Ok(answer),
                Event::Sent(0) => return Ok(Answer::Accepted { unheard: false }),
                _ => {}
            }
        }
    }

    /// Waits until all of these messages have come back. Returns the first one that has not within `limit`.
    pub async fn missing<'a>(
        &mut self,
        messages: &'a [Message],
        limit: Duration,
    ) -> Result<Option<&'a Message>, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let Some(missing) = messages.iter().find(|message| !self.arrived.contains(message)) else {
                return Ok(None);
            };
            match timeout_at(deadline, pin!(self.next())).await {
                Ok(event) => event?,
                Err(_) => return Ok(Some(missing)),
            };
        }
    }

    /// Disconnects cleanly if the broker responds in time.
    pub async fn disconnect(mut self) {
        if self.client.disconnect(Duration::from_secs(1)).is_ok() {
            while let Ok(Some(Ok(_))) = timeout(Duration::from_secs(1), self.events.next()).await {}
        }
    }
}

fn overrun(_: client::Overrun) -> Failure {
    Failure::new(FailureKind::Closed, "The MQTT client's queue is full.")
}

/// Returns the event, or the failure if the session has ended.
fn event_or_failure(event: Option<Result<Event, Ended>>) -> Result<Event, Failure> {
    let ended = || Failure::new(FailureKind::Closed, "The connection was closed.");
    event.ok_or_else(ended)?.map_err(|ended| ended.failure)
}

/// Describes the accepted login: the MQTT version and the broker's limits.
fn login_detail(settings: &MqttSettings, Accepted { version, refused, limits, .. }: &Accepted) -> String {
    let fallback = refused.map(|refusal| {
        let other = version.other();
        format!(", because MQTT {other} {refusal}")
    });
    let fallback = fallback.unwrap_or_default();
    let websocket = match settings.transport {
        Transport::Tcp => String::new(),
        Transport::Websocket => format!("WebSocket at {}; ", settings.websocket_path),
    };
    match version {
        Version::V5 => format!(
            "{websocket}MQTT {version}{fallback}; up to QoS {}, at most {} in flight, retained messages {}",
            limits.maximum_qos.level(),
            limits.receive_maximum,
            if limits.retain_available { "supported" } else { "not supported" },
        ),
        Version::V311 => {
            format!(
                "{websocket}MQTT {version}{fallback}; with this version, brokers do not report their limits"
            )
        }
    }
}
