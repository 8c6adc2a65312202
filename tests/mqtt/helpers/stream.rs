//! A camera that sends events continuously while the test disturbs the service and its broker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use liveobject_test_support::{Api, Ledger, Service, wait_until};
use tokio::{task::JoinSet, time::interval};

use super::{TIMEOUT, event};

const PERIOD: Duration = Duration::from_millis(5);

/// A source that sends up to 200 events per second, one after the other.
pub struct Stream {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    source: JoinSet<Ledger>,
}

impl Stream {
    pub fn start(service: &Service) -> Self {
        let (stop, accepted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut source = JoinSet::new();
        source.spawn(send(service.api(), Arc::clone(&stop), Arc::clone(&accepted)));
        Self { stop, accepted, source }
    }

    /// Waits until this many more events are accepted.
    pub async fn wait_for_more(&self, events: usize) {
        let goal = self.accepted.load(Ordering::SeqCst) + events;
        let reached = async || self.accepted.load(Ordering::SeqCst) >= goal;
        wait_until("the service accepts events regardless of the connection", TIMEOUT, reached).await;
    }

    /// Stops sending, and returns the ledger.
    pub async fn stop(mut self) -> Ledger {
        self.stop.store(true, Ordering::SeqCst);
        self.source.join_next().await.expect("one source").expect("the source did not panic")
    }
}

async fn send(api: Api, stop: Arc<AtomicBool>, accepted: Arc<AtomicUsize>) -> Ledger {
    let mut ledger = Ledger::new();
    let mut ticks = interval(PERIOD);
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let count = accepted.load(Ordering::SeqCst);
        ledger.accepted_receipt(&api.post_event(&event(&format!("stream-{count}"))).await.expect(202));
        accepted.store(count + 1, Ordering::SeqCst);
    }
    ledger
}
