//! A subscriber that remembers: it keeps a persistent session, reconnects by itself, and collects every message.
//!
//! It speaks MQTT by itself: a client library that acknowledges before its user has seen a message loses it when
//! the link ends at that moment, and a witness must not.
//!
//! With the session the broker keeps messages for it while it is away, so what it has not received in the end was
//! not published (or was lost by the broker). A message is delivered with the lower QoS of publisher and subscriber:
//! with QoS 1 the broker, too, may repeat. Where that matters, publish with QoS 2 or let the broker
//! [upgrade](crate::MosquittoBuilder::upgrade_outgoing_qos).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::mqtt5::{Publish, Version, is_event_topic};

mod link;

const START: Duration = Duration::from_secs(10);
/// A predicate over all messages is asked at most this often while messages stream in.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Message {
    /// Counts messages from 0 in the order of their arrival.
    pub order: usize,
    /// When it arrived.
    pub at: Instant,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The QoS it was delivered with: the lower one of publisher and subscriber.
    pub qos: u8,
    /// Whether the broker had retained it, that is, whether it is older than the subscription.
    pub retain: bool,
    /// Whether the *broker* says that it may have sent it to this subscriber before.
    pub dup: bool,
    /// What was left of its Message Expiry Interval, in seconds.
    pub message_expiry: Option<u32>,
}

impl Message {
    /// The payload as JSON.
    ///
    /// # Panics
    ///
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("no JSON on {}: {error}: {:?}", self.topic, self.payload))
    }

    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Whether it is a detection event, live or late.
    #[must_use]
    pub fn is_event(&self) -> bool {
        is_event_topic(&self.topic)
    }
}

/// Settings of a [`Subscriber`] to be started.
#[derive(Clone, Debug)]
pub struct SubscriberBuilder {
    port: u16,
    filters: Vec<String>,
    qos: u8,
    client_id: String,
    login: Option<(String, String)>,
    version: Version,
}

impl SubscriberBuilder {
    /// Subscribes to this filter; without any, to `#`.
    #[must_use]
    pub fn filter(mut self, filter: &str) -> Self {
        self.filters.push(filter.to_owned());
        self
    }

    /// The highest QoS to receive with (default 2).
    ///
    /// # Panics
    ///
    /// When it is not 0, 1 or 2.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        assert!(qos <= 2, "QoS {qos}");
        self.qos = qos;
        self
    }

    /// The client id (default `test-subscriber`). Each subscriber of a broker needs its own.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// The user name and the password.
    #[must_use]
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.login = Some((username.to_owned(), password.to_owned()));
        self
    }

    /// What to speak (default MQTT 5).
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Connects and subscribes.
    ///
    /// # Panics
    ///
    /// When the broker has not confirmed the subscription within 10 s.
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

/// A running subscriber. It disconnects, without a word, when dropped; its session stays at the broker.
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
    /// A subscriber to everything at QoS 2, of the broker on this loopback port; the builder changes that.
    #[must_use]
    pub fn builder(port: u16) -> SubscriberBuilder {
        SubscriberBuilder {
            port,
            filters: Vec::new(),
            qos: 2,
            client_id: "test-subscriber".to_owned(),
            login: None,
            version: Version::V5,
        }
    }

    /// A subscriber with the builder's defaults, started.
    pub async fn start(port: u16) -> Self {
        Self::builder(port).start().await
    }

    /// All messages so far, in the order of their arrival.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.shared.read().messages.clone()
    }

    /// How many messages have arrived.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.read().messages.len()
    }

    /// The messages to exactly this topic.
    #[must_use]
    pub fn on(&self, topic: &str) -> Vec<Message> {
        self.messages().into_iter().filter(|message| message.topic == topic).collect()
    }

    /// The detection events, live and late, in the order of their arrival, as JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.messages().iter().filter(|message| message.is_event()).map(Message::json).collect()
    }

    /// How often it has connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.read().connections
    }

    /// All messages since the last time, and forgets them: for a witness of very many.
    #[must_use]
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.shared.read().messages)
    }

    /// Whether the broker has confirmed the subscription in the session that there is now.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.shared.read().subscribed
    }

    /// Forgets all messages so far.
    pub fn clear(&self) {
        self.shared.change(|seen| seen.messages.clear());
    }

    /// Waits until `condition` holds for the messages so far, and returns them.
    ///
    /// # Panics
    ///
    /// When it does not hold within `timeout`, with the newest messages.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&[Message]) -> bool,
        what: &str,
        timeout: Duration,
    ) -> Vec<Message> {
        self.until(timeout, |seen| condition(&seen.messages), |seen| {
            let newest: Vec<_> = seen.messages.iter().rev().take(5).map(|message| (&message.topic, message.text())).collect();
            let (count, fault) = (seen.messages.len(), &seen.fault);
            format!("no {what} within {timeout:?}; {count} messages, the newest {newest:?}; last fault: {fault:?}")
        })
        .await;
        self.messages()
    }

    /// Waits until so many detection events have arrived, repeats included, and returns them as JSON.
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
        complaint: impl FnOnce(&Seen) -> String,
    ) {
        let deadline = Instant::now() + timeout;
        let mut changed = self.shared.changed.subscribe();
        loop {
            if condition(&self.shared.read()) {
                return;
            }
            let in_time = timeout_at(deadline, changed.changed()).await.is_ok();
            assert!(in_time, "{}", complaint(&self.shared.read()));
            sleep(LOOK_AGAIN).await;
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
