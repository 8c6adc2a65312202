//! A recording subscriber: it keeps a persistent session, reconnects automatically, and collects every
//! message.
//!
//! A subscriber [without a session](SubscriberBuilder::without_session) behaves like Home Assistant instead.
//!
//! It implements MQTT itself. A client library that acknowledges a message before its user has seen it loses
//! the message if the connection ends at that moment. This subscriber must not lose messages.
//!
//! Thanks to the session, the broker keeps messages while the subscriber is away. A message that never
//! arrives was therefore not published (or was lost by the broker). A message is delivered with the lower QoS
//! of publisher and subscriber: with QoS 1 the broker may add duplicates, too. Where that matters, publish
//! with QoS 2 or let the broker [upgrade](crate::MosquittoBuilder::upgrade_outgoing_qos).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::mqtt5::{Publish, Version, Will, is_event_topic};

mod link;

const START: Duration = Duration::from_secs(10);
const RECONNECT_DELAY: Duration = Duration::from_millis(50);
/// Minimum interval between two checks of a condition while messages stream in.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Messages are numbered from 0 in the order of their arrival.
    pub order: usize,
    /// When it arrived.
    pub at: Instant,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The delivery QoS: the lower one of publisher and subscriber.
    pub qos: u8,
    /// Whether the broker had retained it, that is, whether it is older than the subscription.
    pub retain: bool,
    /// Whether the *broker* marks it as a possible duplicate for this subscriber.
    pub dup: bool,
    /// The remaining Message Expiry Interval, in seconds.
    pub message_expiry: Option<u32>,
}

impl Message {
    /// Returns the payload as JSON.
    ///
    /// # Panics
    ///
    /// Panics if it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("no JSON on {}: {error}: {:?}", self.topic, self.payload))
    }

    /// Returns the payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Returns whether this is a detection event, live or late.
    #[must_use]
    pub fn is_event(&self) -> bool {
        is_event_topic(&self.topic)
    }
}

/// Settings for starting a [`Subscriber`].
#[derive(Clone, Debug)]
pub struct SubscriberBuilder {
    port: u16,
    filters: Vec<String>,
    qos: u8,
    client_id: String,
    login: Option<(String, String)>,
    version: Version,
    has_session: bool,
    will: Option<Will>,
    reconnect_after: Duration,
}

impl SubscriberBuilder {
    /// Sets how long it waits after a lost connection (default 50 ms).
    #[must_use]
    pub fn reconnect_after(mut self, pause: Duration) -> Self {
        self.reconnect_after = pause;
        self
    }

    /// Adds a filter to subscribe to. The default is `#`.
    #[must_use]
    pub fn filter(mut self, filter: &str) -> Self {
        self.filters.push(filter.to_owned());
        self
    }

    /// Sets the highest QoS to receive with (default 2).
    ///
    /// # Panics
    ///
    /// Panics if it is not 0, 1 or 2.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        assert!(qos <= 2, "QoS {qos}");
        self.qos = qos;
        self
    }

    /// Sets the client id (default `test-subscriber`). Each subscriber of a broker needs its own.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// Sets the user name and the password.
    #[must_use]
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.login = Some((username.to_owned(), password.to_owned()));
        self
    }

    /// Sets the protocol version (default MQTT 5).
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Leaves no session behind: the broker keeps no messages while the subscriber is away.
    #[must_use]
    pub fn without_session(mut self) -> Self {
        self.has_session = false;
        self
    }

    /// Sets a last will, which the broker publishes when the subscriber is dropped.
    #[must_use]
    pub fn will(mut self, topic: &str, payload: &str) -> Self {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.will = Some(Will { topic: topic.to_owned(), payload, ..Will::default() });
        self
    }

    /// Connects and subscribes.
    ///
    /// # Panics
    ///
    /// Panics if the broker has not confirmed the subscription within 10 s.
    pub async fn start(mut self) -> Subscriber {
        if self.filters.is_empty() {
            self.filters.push("#".to_owned());
        }
        let port = self.port;
        let shared = Arc::new(Shared { seen: Mutex::default(), changed: watch::channel(()).0 });
        let mut tasks = JoinSet::new();
        tasks.spawn(link::run(self, Arc::clone(&shared)));
        let subscriber = Subscriber { shared, _task: tasks };
        subscriber
            .until(
                START,
                |seen| seen.subscribed,
                |seen| {
                    format!("no subscription on port {port} within {START:?}; last fault: {:?}", seen.fault)
                },
            )
            .await;
        subscriber
    }
}

/// A running subscriber. When dropped it closes the connection without a DISCONNECT; the broker keeps its
/// session.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    messages: Vec<Message>,
    connections: usize,
    subscribed: bool,
    fault: Option<String>,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn read(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.read());
        self.changed.send_replace(());
    }
}

impl Subscriber {
    /// Returns a builder for a subscriber to everything at QoS 2, of the broker on this loopback port.
    #[must_use]
    pub fn builder(port: u16) -> SubscriberBuilder {
        SubscriberBuilder {
            port,
            filters: Vec::new(),
            qos: 2,
            client_id: "test-subscriber".to_owned(),
            login: None,
            version: Version::V5,
            has_session: true,
            will: None,
            reconnect_after: RECONNECT_DELAY,
        }
    }

    /// Starts a subscriber with the builder's defaults.
    pub async fn start(port: u16) -> Self {
        Self::builder(port).start().await
    }

    /// Returns all messages so far, in the order of their arrival.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.shared.read().messages.clone()
    }

    /// Returns how many messages have arrived.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.read().messages.len()
    }

    /// Returns the messages to exactly this topic.
    #[must_use]
    pub fn on(&self, topic: &str) -> Vec<Message> {
        self.messages().into_iter().filter(|message| message.topic == topic).collect()
    }

    /// Returns the detection events, live and late, as JSON in the order of their arrival.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.messages().iter().filter(|message| message.is_event()).map(Message::json).collect()
    }

    /// Returns how often the subscriber has connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.read().connections
    }

    /// Removes and returns all messages so far, for tests with very many messages.
    #[must_use]
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.shared.read().messages)
    }

    /// Returns whether the broker has confirmed the subscription in the current session.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.shared.read().subscribed
    }

    /// Removes all messages so far.
    pub fn clear(&self) {
        self.shared.change(|seen| seen.messages.clear());
    }

    /// Waits until `condition` is true for the messages so far, and returns them.
    ///
    /// # Panics
    ///
    /// Panics with the newest messages if this takes longer than `timeout`.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&[Message]) -> bool,
        what: &str,
        timeout: Duration,
    ) -> Vec<Message> {
        let describe = |seen: &Seen| {
            let newest = seen.messages.iter().rev().take(5);
            let newest: Vec<_> = newest.map(|message| (&message.topic, message.text())).collect();
            let (count, fault) = (seen.messages.len(), &seen.fault);
            format!(
                "no {what} within {timeout:?}; {count} messages, the newest {newest:?}; \
                 last fault: {fault:?}"
            )
        };
        self.until(timeout, |seen| condition(&seen.messages), describe).await;
        self.messages()
    }

    /// Waits until this many detection events have arrived, duplicates included, and returns them as JSON.
    pub async fn wait_for_events(&self, count: usize, timeout: Duration) -> Vec<Value> {
        let enough =
            |messages: &[Message]| messages.iter().filter(|message| message.is_event()).count() >= count;
        self.wait_for(enough, &format!("{count} events"), timeout).await;
        self.events()
    }

    async fn until(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&Seen) -> bool,
        describe: impl FnOnce(&Seen) -> String,
    ) {
        let deadline = Instant::now() + timeout;
        let mut changed = self.shared.changed.subscribe();
        loop {
            if condition(&self.shared.read()) {
                return;
            }
            let in_time = timeout_at(deadline, changed.changed()).await.is_ok();
            assert!(in_time, "{}", describe(&self.shared.read()));
            sleep(CHECK_INTERVAL).await;
            changed.mark_unchanged();
        }
    }
}

impl Seen {
    fn keep(&mut self, publish: Publish) {
        self.messages.push(Message {
            order: self.messages.len(),
            at: Instant::now(),
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            message_expiry: publish.message_expiry,
        });
    }
}
