//! The service embedded in the process of a classifier, which is an actor on another thread.

use std::{sync::mpsc, thread, time::Duration};

use actix::prelude::*;
use futures_util::{StreamExt as _, stream};
use liveobject_actors::{
    Handle, PublishBatch, PublishEvent, Service, ServiceOptions, System,
    domain::status::ConnectionState,
    messages::{outbox::GetOutbox, supervisor::GetStatus},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    database::Storage,
    events::{self, Sources},
    service::settings,
    tls::Links,
};

/// Maximum number of events that wait for their receipt.
const MAX_UNCONFIRMED: usize = 1000;

const POLL: Duration = Duration::from_millis(2);

/// A classifier that sends events as fast as they are accepted, or at a steady pace.
struct Classifier {
    publish: Recipient<PublishEvent>,
}

impl Actor for Classifier {
    type Context = Context<Self>;
}

/// Publishes these events, one per `every`, or as fast as possible if that is zero. Returns the time at which
/// each paced event was sent.
#[derive(Message)]
#[rtype(result = "Vec<Instant>")]
struct Classify {
    numbers: std::ops::Range<usize>,
    every: Duration,
}

impl Handler<Classify> for Classifier {
    type Result = ResponseFuture<Vec<Instant>>;

    fn handle(&mut self, Classify { numbers, every }: Classify, _: &mut Self::Context) -> Self::Result {
        let publish = self.publish.clone();
        let publish = move |number| {
            let event = events::input(number).validate().expect("the event is valid");
            publish.send(PublishEvent::new(event))
        };
        Box::pin(async move {
            if every.is_zero() {
                let sent = stream::iter(numbers).map(publish).buffer_unordered(MAX_UNCONFIRMED);
                sent.for_each(async |receipt| {
                    receipt.expect("the service runs").expect("the event is accepted");
                })
                .await;
                return Vec::new();
            }
            let mut sent_at = Vec::new();
            let mut clock = tokio::time::interval(every);
            for number in numbers {
                clock.tick().await;
                sent_at.push(Instant::now());
                let sent = publish(number);
                #[expect(
                    clippy::disallowed_methods,
                    reason = "an event that is not accepted never arrives, and the listener waits for it"
                )]
                actix::spawn(async move {
                    sent.await.expect("the service runs").expect("the event is accepted");
                });
            }
            sent_at
        })
    }
}

/// A service and a classifier, each on its own thread of this process.
pub struct Embedded<'a> {
    handle: Handle,
    classifier: Addr<Classifier>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    _storage: Storage<'a>,
}

impl<'a> Embedded<'a> {
    /// Starts both with an empty log, and connects the service to the broker.
    pub async fn connected(links: Links<'a>, qos: u8) -> Self {
        let settings = settings(links, qos);
        let storage = Storage::new(links.engine);
        let options = ServiceOptions {
            initial_mqtt: Some(settings),
            database_url: storage.url().map(Into::into),
            ..ServiceOptions::in_dir(storage.data_dir())
        };
        let (started, starting) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            System::new().block_on(async move {
                let service = Service::start(options).await.expect("the service starts");
                let publish = service.handle().publish;
                let classifier =
                    Classifier::start_in_arbiter(&Arbiter::new().handle(), |_| Classifier { publish });
                started.send((service.handle(), classifier)).expect("the receiver waits");
                // An error means that the `Embedded` was dropped.
                let _dropped = stopped.await;
                service.stop().await;
            });
        });
        let (handle, classifier) = starting.recv().expect("the service starts");
        let embedded = Self { handle, classifier, stop: Some(stop), thread: Some(thread), _storage: storage };
        while !embedded.is_connected().await {
            sleep(POLL).await;
        }
        embedded
    }

    async fn is_connected(&self) -> bool {
        let status = self.handle.status.send(GetStatus).await.expect("the service runs");
        matches!(status.state, ConnectionState::Connected)
    }

    /// Publishes this many events. Returns the time until the broker had acknowledged them all.
    pub async fn publish_all(&self, count: usize) -> Duration {
        let started = Instant::now();
        self.classify(0..count, Duration::ZERO).await;
        self.wait_acknowledged(count).await;
        started.elapsed()
    }

    /// Publishes this many events from several sources at once, of which each waits for the receipt of what it has
    /// sent: one event, or a batch. Returns the time until all were accepted, and until the broker had acknowledged
    /// them all.
    pub async fn publish_from(&self, sources: Sources, count: usize) -> (Duration, Duration) {
        let Sources { number: sources, at_once } = sources;
        let started = Instant::now();
        let each = count / sources;
        let source = async |number: usize| {
            for first in (number * each..(number + 1) * each).step_by(at_once) {
                let event =
                    |number| PublishEvent::new(events::input(number).validate().expect("it is valid"));
                if at_once == 1 {
                    let receipt = self.handle.publish.send(event(first)).await;
                    receipt.expect("the service runs").expect("the event is accepted");
                } else {
                    let batch = PublishBatch((first..first + at_once).map(event).collect());
                    let receipts = self.handle.publish_batch.send(batch).await;
                    receipts.expect("the service runs").expect("the events are accepted");
                }
            }
        };
        futures_util::future::join_all((0..sources).map(source)).await;
        let accepted = started.elapsed();
        self.wait_acknowledged(count).await;
        (accepted, started.elapsed())
    }

    /// Publishes these events at a steady pace. Returns the time at which each was sent.
    pub async fn publish_paced(&self, numbers: std::ops::Range<usize>, every: Duration) -> Vec<Instant> {
        self.classify(numbers, every).await
    }

    async fn classify(&self, numbers: std::ops::Range<usize>, every: Duration) -> Vec<Instant> {
        self.classifier.send(Classify { numbers, every }).await.expect("the classifier runs")
    }

    async fn wait_acknowledged(&self, count: usize) {
        loop {
            let outbox = self.handle.outbox.send(GetOutbox).await.expect("the service runs");
            if outbox.pending == 0 && outbox.published >= count as u64 {
                return;
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for Embedded<'_> {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has already been printed.
            let _ = thread.join();
        }
    }
}
