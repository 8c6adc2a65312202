//! A trial connection, stage by stage, for the administrator: what was tried, how long it took, what was found.

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
    probe_report::{TestProgress, TestReport},
    settings::{MqttSettings, QoS, Transport},
    status::{Failure, FailureKind},
};

/// The whole trial takes no longer.
const AT_MOST: Duration = Duration::from_secs(AT_MOST_SECONDS as u64);
const AT_MOST_SECONDS: u16 = 10;

/// How long to wait for one's own message, once it was acknowledged.
const LOOPBACK_PATIENCE: Duration = Duration::from_secs(2);

/// Tries to connect, log in, publish and hear one's own message. The service's connection is not disturbed: the trial has
/// a client id of its own and no will.
pub async fn run(settings: Arc<MqttSettings>, watcher: Option<UnboundedSender<TestProgress>>) -> TestReport {
    let mut report = Report { protocol: None, stages: Stages::watched_by(watcher) };
    let trial = timeout(AT_MOST, stages(&settings, &mut report)).await;
    match trial {
        Ok(Ok(())) => report.passed(&settings),
        Ok(Err(failure)) => report.failed(failure),
        Err(_) => {
            let stage = report.stages.current();
            report.failed(reason::timed_out(&settings.broker(), AT_MOST_SECONDS, stage))
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
        let message = format!("{} accepts the login and takes messages.", settings.broker());
        TestReport { success: true, message, protocol: self.protocol, stages: self.stages.finish() }
    }

    fn failed(mut self, failure: Failure) -> TestReport {
        self.stages.fail(&failure);
        let Failure { message, .. } = failure;
        TestReport { success: false, message, protocol: self.protocol, stages: self.stages.finish() }
    }
}

async fn stages(settings: &Arc<MqttSettings>, report: &mut Report) -> Result<(), Failure> {
    let stages = &mut report.stages;
    let line = SessionTransport::default();
    line.keep(dial::open(settings, &line, stages).await?);
    stages.begin("login");
    let (mut session, found) = Session::open(settings, line).await?;
    stages.pass(found);
    report.protocol = Some(session.version.as_str());
    stages.begin("publish");
    stages.pass(session.publish().await?);
    stages.begin("loopback");
    match session.hear().await? {
        Some(true) => stages.pass("heard the test message"),
        // What MQTT 5 acknowledges is permitted: this user may publish there, and not read.
        Some(false) if session.version == Version::V5 => {
            stages.end(None, "the broker took it, but does not let this user read the topic");
        }
        Some(false) => {
            return Err(Failure::new(
                FailureKind::NotAuthorized,
                format!(
                    "{} acknowledged the test message on {}, but did not pass it on. Its access rules seem to drop it: \
                     permit this user to publish there, and to read it, since with MQTT 3.1.1 nothing else proves that \
                     publishing is permitted.",
                    settings.broker(),
                    session.topic
                ),
            ));
        }
        None => stages.end(None, "the broker does not let this user subscribe, so it could not be heard"),
    }
    session.leave().await;
    Ok(())
}

/// The next event; after the end there is none.
fn happened(event: Option<Result<Event, Ended>>) -> Result<Event, Failure> {
    let over = || Failure::new(FailureKind::Closed, "The connection was closed.");
    event.ok_or_else(over)?.map_err(|ended| ended.failure)
}

fn login_detail(settings: &MqttSettings, Accepted { version, refused, limits, .. }: &Accepted) -> String {
    let before = refused.map(|refusal| {
        let other = version.other();
        format!(", because MQTT {other} {refusal}")
    });
    let before = before.unwrap_or_default();
    let socket = match settings.transport {
        Transport::Tcp => String::new(),
        Transport::Websocket => format!("WebSocket at {}; ", settings.websocket_path),
    };
    match version {
        Version::V5 => format!(
            "{socket}MQTT {version}{before}; the broker takes QoS {} and {} unacknowledged messages at most, {} retained messages",
            limits.maximum_qos.level(),
            limits.receive_maximum,
            if limits.retain_available { "keeps" } else { "does not keep" },
        ),
        Version::V311 => format!("{socket}MQTT {version}{before}; with it a broker does not tell its limits"),
    }
}

/// One trial session.
struct Session {
    settings: Arc<MqttSettings>,
    client: Client,
    events: Events,
    version: Version,
    topic: String,
    text: Bytes,
    may_subscribe: bool,
    heard: bool,
}

impl Session {
    async fn open(settings: &Arc<MqttSettings>, line: SessionTransport) -> Result<(Self, String), Failure> {
        let options = SessionOptions {
            client_id: format!("{}-test-{:04x}", settings.client_id, rand::random::<u16>()),
            will: None,
            capacity: 4,
            line,
        };
        let mut events = client::open(settings, options, VersionPolicy::to(settings.protocol));
        loop {
            let Event::Accepted(accepted) = happened(events.next().await)? else { continue };
            let detail = login_detail(settings, &accepted);
            let session = Self {
                settings: Arc::clone(settings),
                client: accepted.client,
                events,
                version: accepted.version,
                topic: settings.topic_prefix.test(),
                text: format!("connection test {:016x}", rand::random::<u64>()).into(),
                may_subscribe: false,
                heard: false,
            };
            return Ok((session, detail));
        }
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        let event = happened(self.events.next().await)?;
        if let Event::Arrived { topic, payload } = &event {
            self.heard |= topic == self.topic.as_bytes() && *payload == self.text;
        }
        Ok(event)
    }

    async fn publish(&mut self) -> Result<String, Failure> {
        self.publish_test().await.map_err(|failure| match (self.version, failure.kind) {
            // MQTT 3.1.1 has no other way to say no.
            (Version::V311, FailureKind::Closed) => Failure::new(
                FailureKind::Closed,
                format!("{} Or does it not permit this user to publish to {}?", failure.message, self.topic),
            ),
            _ => failure,
        })
    }

    async fn publish_test(&mut self) -> Result<String, Failure> {
        let overrun = |_| Failure::new(FailureKind::Closed, "The client took no message.");
        self.client.subscribe(&self.topic).map_err(overrun)?;
        loop {
            if let Event::Subscribed(granted) = self.next().await? {
                self.may_subscribe = granted;
                break;
            }
        }
        let message = Message {
            topic: self.topic.clone(),
            payload: self.text.clone(),
            qos: QoS::AtLeastOnce,
            retain: false,
            expiry_seconds: None,
        };
        self.client.publish(message).map_err(overrun)?;
        let broker = self.settings.broker();
        loop {
            match self.next().await? {
                Event::Answered(_, Answer::Accepted { .. }) | Event::Sent(0) => {
                    return Ok(format!("{broker} took the test message on {}", self.topic));
                }
                Event::Answered(_, Answer::Refused(DeadReason::NotAuthorized)) => {
                    return Err(Failure::new(
                        FailureKind::NotAuthorized,
                        format!(
                            "{broker} does not permit this user to publish to {}. Add the topics below {}/ to its access \
                             rules.",
                            self.topic, self.settings.topic_prefix
                        ),
                    ));
                }
                Event::Answered(_, refused) => {
                    return Err(Failure::new(
                        FailureKind::Refused,
                        format!("{broker} refused the test message ({refused:?})."),
                    ));
                }
                _ => {}
            }
        }
    }

    /// Whether one's own message came back; `None` when the broker does not permit to subscribe.
    async fn hear(&mut self) -> Result<Option<bool>, Failure> {
        if !self.may_subscribe {
            return Ok(None);
        }
        let deadline = Instant::now() + LOOPBACK_PATIENCE;
        while !self.heard {
            match tokio::time::timeout_at(deadline, pin!(self.next())).await {
                Ok(event) => event?,
                Err(_) => return Ok(Some(false)),
            };
        }
        Ok(Some(true))
    }

    /// A clean disconnect, as far as the broker lets us.
    async fn leave(mut self) {
        if self.client.disconnect(Duration::from_secs(1)).is_ok() {
            while let Ok(Some(Ok(_))) = timeout(Duration::from_secs(1), self.events.next()).await {}
        }
    }
}
