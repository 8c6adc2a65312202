//! The connection test: tries a connection stage by stage, and reports the result and the duration of each
//! stage.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout},
};

use super::{
    client::{self, Accepted, Answer, Client, Ended, Event, Events, Message, SessionOptions},
    dial::{self, SessionTransport, Stages},
    reason,
};
use crate::domain::{
    delivery::DeadReason,
    mqtt_version::{Version, VersionPolicy},
    probe_report::{Stage, TestProgress, TestReport},
    settings::{MqttSettings, QoS, Transport},
    status::{Failure, FailureKind},
};

/// Maximum duration of the whole test.
const MAX_DURATION: Duration = Duration::from_secs(MAX_SECONDS as u64);
const MAX_SECONDS: u16 = 10;

/// How long to wait for the test message to come back once it was acknowledged.
const LOOPBACK_TIMEOUT: Duration = Duration::from_secs(2);

/// Tries to connect, log in, publish a message and receive it back. The service's connection is not
/// disturbed: the test uses a different client id and has no will.
pub async fn run(settings: Arc<MqttSettings>, watcher: Option<UnboundedSender<TestProgress>>) -> TestReport {
    let mut report = Report { protocol: None, stages: Stages::reporting_to(watcher) };
    match timeout(MAX_DURATION, run_stages(&settings, &mut report)).await {
        Ok(Ok(())) => report.passed(&settings),
        Ok(Err(failure)) => report.failed(failure),
        Err(_) => {
            let stage = report.stages.current();
            report.failed(reason::timed_out(&settings.broker(), MAX_SECONDS, stage))
        }
    }
}

#[derive(Debug)]
struct Report {
    protocol: Option<&'static str>,
    stages: Stages,
}

impl Report {
    fn passed(self, settings: &MqttSettings) -> TestReport {
        let message = format!("{} accepted the login and a test message.", settings.broker());
        TestReport { success: true, message, protocol: self.protocol, stages: self.stages.finish() }
    }

    fn failed(mut self, failure: Failure) -> TestReport {
        self.stages.fail(&failure);
        let Failure { message, .. } = failure;
        TestReport { success: false, message, protocol: self.protocol, stages: self.stages.finish() }
    }
}

async fn run_stages(settings: &Arc<MqttSettings>, report: &mut Report) -> Result<(), Failure> {
    let stages = &mut report.stages;
    let transport = SessionTransport::default();
    transport.keep(dial::open(settings, &transport, stages).await?);
    stages.begin(Stage::Login);
    let (mut session, detail) = Session::open(settings, transport).await?;
    stages.pass(detail);
    report.protocol = Some(session.version.as_str());
    stages.begin(Stage::Publish);
    stages.pass(session.publish().await?);
    stages.begin(Stage::Loopback);
    match session.receive_back().await? {
        Loopback::Received => stages.pass("received the test message back"),
        // With MQTT 5, an acknowledgement proves that publishing is allowed, so only reading is forbidden.
        Loopback::NotReceived if session.version == Version::V5 => {
            stages.end(
                None,
                "the broker accepted the test message but does not allow this user to read the topic",
            );
        }
        Loopback::NotReceived => return Err(dropped(settings, &session.topic)),
        Loopback::CannotSubscribe => {
            let detail = "the broker does not allow this user to subscribe, so this could not be tested";
            stages.end(None, detail);
        }
    }
    session.disconnect().await;
    Ok(())
}

/// Explains that an MQTT 3.1.1 broker acknowledged the test message but did not deliver it.
fn dropped(settings: &MqttSettings, topic: &str) -> Failure {
    Failure::new(
        FailureKind::NotAuthorized,
        format!(
            "{} acknowledged the test message on {topic} but did not deliver it. Its access rules probably \
             drop the message: allow this user to publish and to read the topic. (With MQTT 3.1.1, only \
             reading the message back proves that publishing is allowed.)",
            settings.broker(),
        ),
    )
}

/// Returns the event, or the failure if the session has ended.
fn event_or_failure(event: Option<Result<Event, Ended>>) -> Result<Event, Failure> {
    let ended = || Failure::new(FailureKind::Closed, "The connection was closed.");
    event.ok_or_else(ended)?.map_err(|ended| ended.failure)
}

/// Whether the test message came back after the broker acknowledged it.
enum Loopback {
    Received,
    NotReceived,
    /// The broker refused the subscription.
    CannotSubscribe,
}

fn refused(broker: &str, reason: &str) -> Failure {
    Failure::new(FailureKind::Refused, format!("{broker} refused the test message ({reason})."))
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

/// The session of a connection test.
struct Session {
    settings: Arc<MqttSettings>,
    client: Client,
    events: Events,
    version: Version,
    topic: String,
    payload: Bytes,
    may_subscribe: bool,
    is_received: bool,
}

impl Session {
    async fn open(
        settings: &Arc<MqttSettings>,
        transport: SessionTransport,
    ) -> Result<(Self, String), Failure> {
        let options = SessionOptions {
            client_id: format!("{}-test-{:04x}", settings.client_id, rand::random::<u16>()),
            will: None,
            capacity: 4,
            transport,
        };
        let mut events = client::open(settings, options, VersionPolicy::of_protocol(settings.protocol));
        loop {
            let Event::Accepted(accepted) = event_or_failure(events.next().await)? else { continue };
            let detail = login_detail(settings, &accepted);
            let session = Self {
                settings: Arc::clone(settings),
                client: accepted.client,
                events,
                version: accepted.version,
                topic: settings.topic_prefix.test(),
                payload: format!("connection test {:016x}", rand::random::<u64>()).into(),
                may_subscribe: false,
                is_received: false,
            };
            return Ok((session, detail));
        }
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        let event = event_or_failure(self.events.next().await)?;
        if let Event::Arrived { topic, payload } = &event {
            self.is_received |= topic == self.topic.as_bytes() && *payload == self.payload;
        }
        Ok(event)
    }

    /// Subscribes to the topic, publishes the test message and waits for the acknowledgement.
    async fn publish(&mut self) -> Result<String, Failure> {
        self.publish_and_wait().await.map_err(|failure| match (self.version, failure.kind) {
            // With MQTT 3.1.1, a broker has no other way to refuse a message.
            (Version::V311, FailureKind::Closed) => Failure::new(
                FailureKind::Closed,
                format!("{} Or is this user not allowed to publish to {}?", failure.message, self.topic),
            ),
            _ => failure,
        })
    }

    async fn publish_and_wait(&mut self) -> Result<String, Failure> {
        let overrun = |_| Failure::new(FailureKind::Closed, "The MQTT client's queue is full.");
        self.client.subscribe(&self.topic).map_err(overrun)?;
        loop {
            if let Event::Subscribed(granted) = self.next().await? {
                self.may_subscribe = granted;
                break;
            }
        }
        let message = Message {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            qos: QoS::AtLeastOnce,
            retain: false,
            expiry_seconds: None,
        };
        self.client.publish(message).map_err(overrun)?;
        let broker = self.settings.broker();
        loop {
            match self.next().await? {
                Event::Answered(_, Answer::Accepted { .. }) | Event::Sent(0) => {
                    return Ok(format!("{broker} acknowledged the test message on {}", self.topic));
                }
                Event::Answered(_, Answer::Refused(DeadReason::NotAuthorized)) => {
                    return Err(Failure::new(
                        FailureKind::NotAuthorized,
                        format!(
                            "{broker} does not allow this user to publish to {}. Add {}/# to its access \
                             rules.",
                            self.topic, self.settings.topic_prefix
                        ),
                    ));
                }
                Event::Answered(_, Answer::Refused(reason)) => return Err(refused(&broker, reason.as_str())),
                Event::Answered(_, Answer::Deferred { reason, .. }) => return Err(refused(&broker, reason)),
                _ => {}
            }
        }
    }

    /// Waits for the test message to come back.
    async fn receive_back(&mut self) -> Result<Loopback, Failure> {
        if !self.may_subscribe {
            return Ok(Loopback::CannotSubscribe);
        }
        let deadline = Instant::now() + LOOPBACK_TIMEOUT;
        while !self.is_received {
            match tokio::time::timeout_at(deadline, pin!(self.next())).await {
                Ok(event) => event?,
                Err(_) => return Ok(Loopback::NotReceived),
            };
        }
        Ok(Loopback::Received)
    }

    /// Disconnects cleanly if the broker responds in time.
    async fn disconnect(mut self) {
        if self.client.disconnect(Duration::from_secs(1)).is_ok() {
            while let Ok(Some(Ok(_))) = timeout(Duration::from_secs(1), self.events.next()).await {}
        }
    }
}
