//! The connection test: tries a connection stage by stage, and reports the result and the duration of each
//! stage. It publishes a message on each kind of topic that the service uses, so that it finds topics that the
//! broker does not accept, however the broker shows that.

mod session;
mod topics;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc::UnboundedSender, time::timeout};

use self::{session::Session, topics::Planned};
use super::{
    client::{Answer, Message},
    dial::{self, SessionTransport, Stages},
    reason,
};
use crate::domain::{
    delivery::DeadReason,
    mqtt_version::Version,
    probe_report::{LoginReport, Stage, TEST_PAYLOAD, TestProgress, TestReport},
    settings::{MqttSettings, QoS},
    status::{Failure, FailureKind},
    topic_use::{self, Rejection},
};

/// Maximum duration of the whole test.
const MAX_DURATION: Duration = Duration::from_secs(MAX_SECONDS as u64);
const MAX_SECONDS: u16 = 10;

/// How long to wait for the test message to come back once it was acknowledged.
const LOOPBACK_TIMEOUT: Duration = Duration::from_secs(2);

/// The same for the messages of a later stage. Shorter, because the loopback stage has already shown whether
/// messages come back.
const RETURN_TIMEOUT: Duration = Duration::from_millis(750);

/// How long the broker may take to answer a message of a later stage.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How many connections must end over the same topic before its stage fails. A single one may have ended for
/// another reason.
const ENDS: u32 = 2;

/// Tries to connect, log in, publish a message and receive it back, and to publish on the service's topics. The
/// service's connection is not disturbed: the test uses a different client id.
pub async fn run(settings: Arc<MqttSettings>, watcher: Option<UnboundedSender<TestProgress>>) -> TestReport {
    let mut test = Test {
        session: None,
        may_subscribe: true,
        report: Report {
            protocol: None,
            stages: Stages::reporting_to(watcher),
            failures: Vec::new(),
            unknown: 0,
        },
        payload: format!("{TEST_PAYLOAD}{:016x}", rand::random::<u64>()).into(),
        settings,
    };
    let ended = timeout(MAX_DURATION, test.run_stages()).await.unwrap_or_else(|_| {
        let stage = test.report.stages.current();
        Err(reason::timed_out(&test.settings.broker(), MAX_SECONDS, stage))
    });
    if let Err(failure) = ended {
        test.report.fail(failure);
    }
    test.report.finish(&test.settings)
}

/// Tries to connect and to log in, and disconnects. Publishes nothing, subscribes to nothing and leaves no last will,
/// because the broker may belong to somebody else. Takes at most `limit`.
pub async fn log_in(settings: Arc<MqttSettings>, limit: Duration) -> LoginReport {
    let mut stages = Stages::default();
    let attempt = async {
        let transport = SessionTransport::default();
        transport.keep(dial::open(&settings, &transport, &mut stages).await?);
        stages.begin(Stage::Login);
        let (session, detail) = Session::open(&settings, transport, None).await?;
        stages.pass(detail);
        Ok(session)
    };
    let attempt = timeout(limit, attempt).await;
    let seconds = u16::try_from(limit.as_secs()).unwrap_or(u16::MAX);
    let attempt =
        attempt.unwrap_or_else(|_| Err(reason::timed_out(&settings.broker(), seconds, stages.current())));
    match attempt {
        Ok(session) => {
            let protocol = Some(session.version.as_str());
            session.disconnect().await;
            LoginReport { protocol, stages: stages.finish(), failure: None }
        }
        Err(failure) => {
            stages.fail(&failure);
            LoginReport { protocol: None, stages: stages.finish(), failure: Some(failure) }
        }
    }
}

#[derive(Debug)]
struct Report {
    protocol: Option<&'static str>,
    stages: Stages,
    /// The failures of the stages that failed.
    failures: Vec<Failure>,
    /// How many stages have no result.
    unknown: usize,
}

impl Report {
    fn fail(&mut self, failure: Failure) {
        self.stages.fail(&failure);
        self.failures.push(failure);
    }

    fn unknown(&mut self, detail: impl Into<String>) {
        self.unknown += 1;
        self.stages.end(None, detail);
    }

    fn record(&mut self, finding: Finding) {
        match finding {
            Finding::Passed(detail) => self.stages.pass(detail),
            Finding::Unknown(detail) => self.unknown(detail),
            Finding::Failed(failure) => self.fail(failure),
        }
    }

    fn finish(self, settings: &MqttSettings) -> TestReport {
        let Self { protocol, stages, failures, unknown } = self;
        let broker = settings.broker();
        let message = match (failures.as_slice(), unknown) {
            ([], 0) => format!("{broker} accepted the login and all test messages."),
            ([], _) => format!(
                "{broker} accepted the login and the test messages, as far as this can be known (see the stages)."
            ),
            ([only], _) => only.message.clone(),
            ([first, others @ ..], _) => {
                let (count, stages) = (others.len(), if others.len() == 1 { "stage" } else { "stages" });
                format!("{} ({count} more {stages} failed.)", first.message)
            }
        };
        TestReport { success: failures.is_empty(), message, protocol, stages: stages.finish() }
    }
}

/// The result of a stage.
enum Finding {
    Passed(String),
    Unknown(String),
    Failed(Failure),
}

struct Test {
    settings: Arc<MqttSettings>,
    /// The current session, unless it has ended.
    session: Option<Session>,
    /// Whether the broker keeps the connection when the test subscribes.
    may_subscribe: bool,
    /// Identifies the test's messages.
    payload: Bytes,
    report: Report,
}

impl Test {
    /// Runs all stages. Fails if the remaining ones cannot be tested.
    async fn run_stages(&mut self) -> Result<(), Failure> {
        let transport = SessionTransport::default();
        transport.keep(dial::open(&self.settings, &transport, &mut self.report.stages).await?);
        self.report.stages.begin(Stage::Login);
        let (session, detail) = Session::open(&self.settings, transport, None).await?;
        self.report.stages.pass(detail);
        self.report.protocol = Some(session.version.as_str());
        let retain = session.limits.retain_available;
        self.session = Some(session);
        self.test_message().await?;
        for planned in topics::plan(&self.settings, &self.payload, retain) {
            self.report.stages.begin(planned.stage);
            let finding = self.topics(&planned).await?;
            self.report.record(finding);
        }
        if let Some(session) = self.session.take() {
            session.disconnect().await;
        }
        Ok(())
    }

    async fn session(&mut self) -> Result<&mut Session, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::reopen(&self.settings, None).await?,
        };
        Ok(self.session.insert(session))
    }

    /// Publishes the test message and receives it back.
    async fn test_message(&mut self) -> Result<(), Failure> {
        let message = Message {
            topic: self.settings.topic_prefix.test(),
            payload: self.payload.clone(),
            qos: QoS::AtLeastOnce,
            retain: false,
            expiry_seconds: None,
        };
        self.report.stages.begin(Stage::Publish);
        let may_read = match self.publish(&message).await {
            Ok((may_read, detail)) => {
                self.report.stages.pass(detail);
                may_read
            }
            // The other topics may be accepted.
            Err(failure) => {
                self.session = None;
                self.report.fail(failure);
                return Ok(());
            }
        };
        self.report.stages.begin(Stage::Loopback);
        if !may_read {
            let detail = "the broker does not allow this user to subscribe, so this could not be tested";
            self.report.unknown(detail);
            return Ok(());
        }
        let session = self.session().await?;
        let is_missing = session.missing(std::slice::from_ref(&message), LOOPBACK_TIMEOUT).await?.is_some();
        if !is_missing {
            self.report.stages.pass("received the test message back");
        } else if session.is_acknowledgement_proof() {
            // Publishing is allowed, so only reading is forbidden.
            self.report.unknown(
                "the broker accepted the test message but does not allow this user to read the topic",
            );
        } else {
            let acknowledges = session.acknowledges();
            self.report.fail(dropped(&self.settings, &message.topic, acknowledges));
        }
        Ok(())
    }

    /// Subscribes to the topic of the test message and publishes it. Returns whether the subscription was granted,
    /// and the detail of the stage.
    async fn publish(&mut self, message: &Message) -> Result<(bool, String), Failure> {
        let (broker, topic) = (self.settings.broker(), &message.topic);
        let session = self.session().await?;
        let closed = |failure: Failure| match failure.kind {
            FailureKind::Closed => Failure::new(
                FailureKind::Closed,
                format!(
                    "{broker} closed the connection when the test message was published. Is this user not allowed \
                     to publish to {topic}?"
                ),
            ),
            _ => failure,
        };
        let may_read = session.subscribe(message).await.map_err(closed)?;
        match session.publish(message).await.map_err(closed)? {
            Answer::Accepted { .. } if session.acknowledges() => {
                Ok((may_read, format!("{broker} acknowledged the test message on {topic}")))
            }
            Answer::Accepted { .. } => Ok((
                may_read,
                format!(
                    "sent the test message on {topic} to {broker}, which acknowledges nothing because it supports \
                     only QoS 0"
                ),
            )),
            Answer::Refused(DeadReason::NotAuthorized) => Err(Failure::new(
                FailureKind::NotAuthorized,
                format!(
                    "{broker} does not allow this user to publish to {topic}. Add {}/# to its access rules.",
                    self.settings.topic_prefix
                ),
            )),
            Answer::Refused(reason) => Err(refused(&broker, reason.as_str())),
            Answer::Deferred { reason, .. } => Err(refused(&broker, reason)),
        }
    }

    /// Tests the topics of a stage, up to the first that the broker does not accept.
    async fn topics(&mut self, planned: &Planned) -> Result<Finding, Failure> {
        for _ in 1..ENDS {
            if let Some(finding) = self.try_topics(planned, false).await? {
                return Ok(finding);
            }
        }
        let finding = self.try_topics(planned, true).await?;
        Ok(finding.unwrap_or_else(|| Finding::Unknown("the broker closed the connection".to_owned())))
    }

    /// Publishes the messages of a stage. If the connection ends, returns a failure if `counts` is set, and
    /// otherwise `None`, so that the stage is tried again.
    async fn try_topics(&mut self, planned: &Planned, counts: bool) -> Result<Option<Finding>, Failure> {
        for message in &planned.messages {
            let may_subscribe = self.may_subscribe;
            let session = self.session().await?;
            if may_subscribe && !session.is_acknowledgement_proof() {
                let subscribed = timeout(ANSWER_TIMEOUT, session.subscribe(message)).await;
                if !matches!(subscribed, Ok(Ok(_))) {
                    (self.session, self.may_subscribe) = (None, false);
                    return Ok(None);
                }
            }
            let session = self.session().await?;
            let rejection = match timeout(ANSWER_TIMEOUT, session.publish(message)).await {
                Ok(Ok(Answer::Accepted { .. })) => continue,
                Ok(Ok(Answer::Refused(reason))) => Rejection::Refuses(reason),
                Ok(Ok(Answer::Deferred { reason, .. })) => {
                    let detail = format!("the broker accepts no messages at the moment ({reason})");
                    return Ok(Some(Finding::Unknown(detail)));
                }
                Ok(Err(_)) => Rejection::Closes,
                Err(_) => Rejection::Ignores,
            };
            // The broker may also close the connection after a refusal.
            self.session = None;
            if rejection == Rejection::Closes && !counts {
                return Ok(None);
            }
            return Ok(Some(Finding::Failed(rejected(rejection, &message.topic, &self.settings))));
        }
        if planned.stage == Stage::Availability
            && let Some(failure) = self.will(&planned.messages).await?
        {
            return Ok(Some(Finding::Failed(failure)));
        }
        self.returned(&planned.messages).await.map(Some)
    }

    /// Logs in with a last will on the availability topic, as the service does. Some brokers refuse that. The
    /// will is not retained, and it is the test's message, so it does no harm if it is published.
    async fn will(&self, messages: &[Message]) -> Result<Option<Failure>, Failure> {
        let [will] = messages else { return Ok(None) };
        match Session::reopen(&self.settings, Some(will.clone())).await {
            Ok(session) => {
                session.disconnect().await;
                Ok(None)
            }
            Err(failure) if matches!(failure.kind, FailureKind::NotAuthorized | FailureKind::Closed) => {
                let text = format!(
                    "The broker refuses the login with a last will on {}. {}",
                    will.topic,
                    topic_use::how_to_allow(&will.topic, &self.settings)
                );
                Ok(Some(Failure::new(failure.kind, text)))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns what the acknowledgements of these messages show. If they prove nothing, waits for the messages to
    /// come back.
    async fn returned(&mut self, messages: &[Message]) -> Result<Finding, Failure> {
        let settings = Arc::clone(&self.settings);
        let session = self.session().await?;
        let accepted = format!("the broker accepts messages on {}", list(messages));
        if session.is_acknowledgement_proof() {
            return Ok(Finding::Passed(accepted));
        }
        let with = match session.version {
            Version::V5 => "QoS 0".to_owned(),
            version @ Version::V311 => format!("MQTT {version}"),
        };
        Ok(match session.missing(messages, RETURN_TIMEOUT).await? {
            None => Finding::Passed(accepted),
            Some(missing) => {
                let family = topic_use::family(&missing.topic, &settings);
                Finding::Unknown(topic_use::describe_unknown(&family, &with, &settings))
            }
        })
    }
}

/// Lists the topics of messages, briefly.
fn list(messages: &[Message]) -> String {
    match messages {
        [] => String::new(),
        [only] => only.topic.clone(),
        [first, second] => format!("{} and {}", first.topic, second.topic),
        [first, others @ ..] => format!("{} and {} similar topics", first.topic, others.len()),
    }
}

/// Explains that the broker does not accept messages on a topic, as the status does.
fn rejected(rejection: Rejection, topic: &str, settings: &MqttSettings) -> Failure {
    let kind = match rejection {
        Rejection::Refuses(DeadReason::NotAuthorized) => FailureKind::NotAuthorized,
        Rejection::Closes => FailureKind::Closed,
        Rejection::Ignores => FailureKind::Stalled,
        _ => FailureKind::Refused,
    };
    Failure::new(kind, topic_use::describe(rejection, &topic_use::family(topic, settings), settings))
}

/// Explains that the broker did not deliver the test message, and that its acknowledgement, if there was one, does not
/// prove that publishing is allowed.
fn dropped(settings: &MqttSettings, topic: &str, acknowledged: bool) -> Failure {
    let (received, version) =
        if acknowledged { ("acknowledged", "With MQTT 3.1.1") } else { ("was sent", "With QoS 0") };
    Failure::new(
        FailureKind::NotAuthorized,
        format!(
            "{} {received} the test message on {topic} but did not deliver it. Its access rules probably \
             drop the message: allow this user to publish and to read the topic. ({version}, only \
             reading the message back proves that publishing is allowed.)",
            settings.broker(),
        ),
    )
}

fn refused(broker: &str, reason: &str) -> Failure {
    Failure::new(FailureKind::Refused, format!("{broker} refused the test message ({reason})."))
}
