//! A trial connection, stage by stage, for the administrator: what was tried, how long it took, what was found.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Approach, Version,
    client::{self, Accepted, Answer, Client, Ended, Event, Events, Message, SessionOptions},
    dial,
};
use crate::{
    config::{TestReport, TestStage},
    outbox::DeadReason,
    settings::{MqttSettings, QoS},
    status::{Failure, FailureKind},
};

/// The whole trial takes no longer.
const AT_MOST: Duration = Duration::from_secs(10);

/// How long to wait for one's own message, once it was acknowledged.
const LOOPBACK_PATIENCE: Duration = Duration::from_secs(2);

/// Tries to connect, log in, publish and hear one's own message. The service's connection is not disturbed: the trial has
/// a client id of its own and no will.
pub async fn run(settings: Arc<MqttSettings>) -> TestReport {
    let mut report = Report::default();
    let trial = timeout(AT_MOST, stages(&settings, &mut report)).await;
    match trial {
        Ok(Ok(())) => report.passed(&settings),
        Ok(Err(failure)) => report.failed(failure),
        Err(_) => report.failed(Failure::new(
            FailureKind::Timeout,
            format!("{} took longer than {} s.", settings.broker(), AT_MOST.as_secs()),
        )),
    }
}

#[derive(Debug, Default)]
struct Report {
    protocol: Option<&'static str>,
    stages: Vec<TestStage>,
    /// The stage that is under way.
    current: Option<(&'static str, Instant)>,
}

impl Report {
    async fn stage<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        self.current = Some((name, Instant::now()));
        let (value, detail) = work.await?;
        self.close(Some(true), detail);
        Ok(value)
    }

    fn close(&mut self, ok: Option<bool>, detail: String) {
        if let Some((name, started)) = self.current.take() {
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.stages.push(TestStage { name, ok, duration_ms, detail });
        }
    }

    fn passed(self, settings: &MqttSettings) -> TestReport {
        let message = format!("{} accepts the login and takes messages.", settings.broker());
        TestReport { success: true, message, protocol: self.protocol, stages: self.stages }
    }

    fn failed(mut self, failure: Failure) -> TestReport {
        let message = failure.message.clone();
        self.close(Some(false), format!("{}: {}", failure.kind, failure.message));
        TestReport { success: false, message, protocol: self.protocol, stages: self.stages }
    }
}

async fn stages(settings: &Arc<MqttSettings>, report: &mut Report) -> Result<(), Failure> {
    let addresses = report
        .stage("resolve", async {
            let addresses = dial::resolve(settings).await?;
            let found = addresses.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(", ");
            Ok((addresses, found))
        })
        .await?;
    report
        .stage("connect", async {
            let stream = dial::connect(settings, &addresses).await?;
            let found = peer(&stream);
            Ok(((), found))
        })
        .await?;
    let mut session = report.stage("login", Session::open(settings)).await?;
    report.protocol = Some(session.version.as_str());
    report.stage("publish", session.publish()).await?;
    report.current = Some(("loopback", Instant::now()));
    match session.hear().await? {
        Some(true) => report.close(Some(true), "heard the test message".to_owned()),
        // What MQTT 5 acknowledges is permitted: this user may publish there, and not read.
        Some(false) if session.version == Version::V5 => {
            report.close(None, "the broker took it, but does not let this user read the topic".to_owned());
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
        None => report
            .close(None, "the broker does not let this user subscribe, so it could not be heard".to_owned()),
    }
    session.leave().await;
    Ok(())
}

fn peer(stream: &TcpStream) -> String {
    stream.peer_addr().map_or_else(|_| "connected".to_owned(), |address| format!("connected to {address}"))
}

/// The next event; after the end there is none.
fn happened(event: Option<Result<Event, Ended>>) -> Result<Event, Failure> {
    let over = || Failure::new(FailureKind::Closed, "The connection was closed.");
    event.ok_or_else(over)?.map_err(|ended| ended.failure)
}

fn login_detail(Accepted { version, refused, limits, .. }: &Accepted) -> String {
    let before = refused.map(|refusal| {
        let other = version.other();
        format!(", because MQTT {other} {refusal}")
    });
    let before = before.unwrap_or_default();
    match version {
        Version::V5 => format!(
            "MQTT {version}{before}; the broker takes QoS {} and {} unacknowledged messages at most, {} retained messages",
            limits.maximum_qos.level(),
            limits.receive_maximum,
            if limits.retain_available { "keeps" } else { "does not keep" },
        ),
        Version::V311 => format!("MQTT {version}{before}; with it a broker does not tell its limits"),
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
    async fn open(settings: &Arc<MqttSettings>) -> Result<(Self, String), Failure> {
        let options = SessionOptions {
            client_id: format!("{}-test-{:04x}", settings.client_id, rand::random::<u16>()),
            will: None,
            capacity: 4,
        };
        let mut events = client::open(settings, options, Approach::to(settings.protocol));
        loop {
            let Event::Accepted(accepted) = happened(events.next().await)? else { continue };
            let detail = login_detail(&accepted);
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

    async fn publish(&mut self) -> Result<((), String), Failure> {
        self.publish_test().await.map_err(|failure| match (self.version, failure.kind) {
            // MQTT 3.1.1 has no other way to say no.
            (Version::V311, FailureKind::Closed) => Failure::new(
                FailureKind::Closed,
                format!("{} Or does it not permit this user to publish to {}?", failure.message, self.topic),
            ),
            _ => failure,
        })
    }

    async fn publish_test(&mut self) -> Result<((), String), Failure> {
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
                    return Ok(((), format!("{broker} took the test message on {}", self.topic)));
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
