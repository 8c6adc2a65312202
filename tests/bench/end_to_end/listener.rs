//! Subscribers: one that discards all messages, and one that records when each event arrives.

use std::{
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rumqttc::{
    AsyncClient, Event,
    mqttbytes::{QoS, v5::Packet},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{events, raw};

/// The topics of events from the service and from the bare publisher.
const EVENTS: &str = "+/camera/+/event";

/// Time after which `mosquitto_sub` has subscribed. It does not report this.
const SUBSCRIBED: Duration = Duration::from_millis(300);

/// A `mosquitto_sub` process whose output is discarded. It is killed when dropped.
pub struct Sink(Child);

impl Sink {
    pub async fn subscribe(port: u16, qos: u8) -> Self {
        let child = Command::new("mosquitto_sub")
            .args(["-p", &port.to_string(), "-q", &qos.to_string(), "-t", EVENTS, "-F", "%m"])
            .stdout(Stdio::null())
            .spawn()
            .expect("mosquitto_sub is installed (Debian package mosquitto-clients)");
        sleep(SUBSCRIBED).await;
        Self(child)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Both fail only if the process has already exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Arrivals = Arc<Mutex<Vec<Option<Instant>>>>;

/// A subscriber on its own thread that records the arrival of each event by its number.
pub struct Listener {
    arrivals: Arrivals,
    payload: Arc<Mutex<Vec<u8>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Listener {
    /// Subscribes to events with numbers below `count`.
    pub fn subscribe(port: u16, count: usize) -> Self {
        let arrivals: Arrivals = Arc::new(Mutex::new(vec![None; count]));
        let payload = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let (subscribed, subscribing) = mpsc::channel();
        let (thread_arrivals, thread_payload) = (Arc::clone(&arrivals), Arc::clone(&payload));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = listen(port, &thread_arrivals, &thread_payload, &subscribed) => {}
                    _ = stopped => {}
                }
            });
        });
        subscribing.recv().expect("the broker accepts the subscription");
        Self { arrivals, payload, stop: Some(stop), thread: Some(thread) }
    }

    /// Waits until all of these events have arrived. Returns the time at which each arrived.
    pub async fn wait_for(&self, numbers: std::ops::Range<usize>) -> Vec<Instant> {
        loop {
            let arrived: Option<Vec<_>> = lock(&self.arrivals)[numbers.clone()].iter().copied().collect();
            if let Some(arrived) = arrived {
                return arrived;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the payload that arrived last.
    pub fn last_payload(&self) -> Vec<u8> {
        lock(&self.payload).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has already been printed.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(
    port: u16,
    arrivals: &Mutex<Vec<Option<Instant>>>,
    last: &Mutex<Vec<u8>>,
    subscribed: &mpsc::Sender<()>,
) {
    let (client, mut events) = AsyncClient::builder(raw::options("listener", port)).capacity(8).build();
    client.try_subscribe(EVENTS, QoS::AtLeastOnce).expect("an empty queue has space");
    loop {
        match events.poll().await.expect("the connection is stable") {
            Event::Incoming(Packet::SubAck(_)) => subscribed.send(()).expect("the receiver waits"),
            Event::Incoming(Packet::Publish(publish)) => {
                let now = Instant::now();
                if let Some(number) = events::number_in(&publish.payload) {
                    lock(arrivals)[number].get_or_insert(now);
                }
                *lock(last) = publish.payload.to_vec();
            }
            _ => {}
        }
    }
}
