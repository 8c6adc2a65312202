//! An MQTT broker that follows a test's script: it withholds, reorders and refuses acknowledgements,
//! disconnects clients, and stops responding. It routes nothing to subscribers; it records what publishers
//! send, in order.
//!
//! The script may change at any time and applies to everything received from then on. The broker records
//! every violation of the protocol (see [`ScriptedBroker::violations`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::mqtt5::{ConnAck, Connect, Publish, Version};
use crate::proxy::listen_anywhere;

mod connection;
mod script;
mod state;

pub use script::{Acks, Refusal, Reply, Rule};
pub use state::Received;
use state::State;

/// A running scripted broker. The broker and its connections end when it is dropped.
#[derive(Debug)]
pub struct ScriptedBroker {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// The state shared by the connections and the test. Every change notifies the watchers.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn read(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere fails its own test; the recorded state stays valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.read());
        self.changed.send_replace(());
        value
    }
}

impl ScriptedBroker {
    /// Starts a broker on a free port that accepts every client and acknowledges every message.
    pub async fn start() -> Self {
        let (port, listener) = listen_anywhere().await;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: watch::channel(()).0 });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, _tasks: tasks }
    }

    /// Returns the port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the response to future CONNECTs.
    pub fn set_connack(&self, answer: ConnAck) {
        self.shared.change(|state| state.script.connack = answer);
    }

    /// Refuses future CONNECTs of this version. By default the broker speaks both versions.
    pub fn refuse(&self, version: Version, refusal: Refusal) {
        self.shared.change(|state| state.script.refused.push((version, refusal)));
    }

    /// Accepts both versions from now on.
    pub fn accept_both_versions(&self) {
        self.shared.change(|state| state.script.refused.clear());
    }

    /// Sets whether to grant future subscriptions.
    pub fn grant_subscriptions(&self, grant: bool) {
        self.shared.change(|state| state.script.grant_subscriptions = grant);
    }

    /// Sets whether to respond to future CONNECTs at all.
    pub fn answer_connect(&self, answer: bool) {
        self.shared.change(|state| state.script.answer_connect = answer);
    }

    /// Sets whether to respond to pings.
    pub fn answer_pings(&self, answer: bool) {
        self.shared.change(|state| state.script.answer_pings = answer);
    }

    /// Sets whether to respond to PUBREL, the third step of QoS 2.
    pub fn answer_pubrel(&self, answer: bool) {
        self.shared.change(|state| state.script.answer_pubrel = answer);
    }

    /// Sets how to acknowledge messages that no rule matches. [`Acks::All`] also releases the
    /// acknowledgements that were withheld so far.
    pub fn set_acks(&self, acks: Acks) {
        self.shared.change(|state| {
            state.script.acks = acks;
            if acks == Acks::All {
                state.release(false);
            }
        });
    }

    /// Adds a rule. The first matching rule determines the reply to a PUBLISH.
    pub fn rule(&self, rule: Rule) {
        self.shared.change(|state| state.script.rules.push(rule));
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.shared.change(|state| state.script.rules.clear());
    }

    /// Sends the withheld acknowledgements of connections that are still open, in the order of receipt.
    pub fn release(&self) {
        self.shared.change(|state| state.release(false));
    }

    /// Sends the oldest withheld acknowledgement.
    pub fn release_one(&self) {
        self.shared.change(State::release_one);
    }

    /// Sends the withheld acknowledgements of connections that are still open, newest first.
    pub fn release_reversed(&self) {
        self.shared.change(|state| state.release(true));
    }

    /// Disconnects all clients with a DISCONNECT of this reason, such as 0x8E (session taken over). MQTT
    /// 3.1.1 clients get no DISCONNECT.
    pub fn disconnect(&self, reason: u8) {
        self.shared.change(|state| state.end_all(Some(reason)));
    }

    /// Closes all connections without a DISCONNECT.
    pub fn close(&self) {
        self.shared.change(|state| state.end_all(None));
    }

    /// Sends these bytes to all clients, well-formed or not.
    pub fn send_raw(&self, bytes: &[u8]) {
        self.shared.change(|state| state.send_all(|_| Bytes::copy_from_slice(bytes)));
    }

    /// Sends a message to all clients, whether they have subscribed or not.
    pub fn send(&self, message: &Publish) {
        self.shared.change(|state| state.send_all(|mqtt| mqtt.publish(message)));
    }

    /// Returns every PUBLISH received, in order, over all connections.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.read().received.clone()
    }

    /// Returns every CONNECT received, in order.
    #[must_use]
    pub fn connects(&self) -> Vec<Connect> {
        self.shared.read().connects.clone()
    }

    /// Returns the reason code of every DISCONNECT received, in order.
    #[must_use]
    pub fn disconnects(&self) -> Vec<u8> {
        self.shared.read().disconnects.clone()
    }

    /// Returns every subscribed filter with the requested QoS.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<(String, u8)> {
        self.shared.read().subscriptions.clone()
    }

    /// Returns how many pings were received.
    #[must_use]
    pub fn pings(&self) -> usize {
        self.shared.read().pings
    }

    /// Returns how many acknowledgements are withheld now.
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.shared.read().held.len()
    }

    /// Returns how many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.read().connections.len()
    }

    /// Returns descriptions of everything that clients did in violation of the protocol or of the CONNACK:
    /// malformed packets, more messages in flight than the Receive Maximum, a packet id reused before it was
    /// free, or a QoS, size or retain flag that was not allowed.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.read().violations.clone()
    }

    /// Waits until `count` PUBLISH packets were received, and returns all of them.
    pub async fn wait_for_publishes(&self, count: usize, timeout: Duration) -> Vec<Received> {
        self.wait_for(&format!("{count} PUBLISH packets"), timeout, |broker| {
            broker.received().len() >= count
        })
        .await;
        self.received()
    }

    /// Waits until `condition` is true, checking after each change.
    ///
    /// # Panics
    ///
    /// Panics with a summary of what was seen if this takes longer than `timeout`.
    pub async fn wait_for(&self, what: &str, timeout: Duration, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + timeout;
        let mut changed = self.shared.changed.subscribe();
        while !condition(self) {
            let in_time = timeout_at(deadline, changed.changed()).await.is_ok();
            assert!(
                in_time,
                "the scripted broker did not see {what} within {timeout:?}: {}",
                self.shared.read().summary()
            );
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that failed before it was accepted does not count.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection::serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
