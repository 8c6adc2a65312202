//! A source of events that repeats each event until it has the receipt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liveobject_test_support::{Api, Ledger, Service};
use serde_json::Value;
use tokio::{task::JoinSet, time::interval};

use super::event;

/// Maximum number of concurrent requests.
const SENDERS: u32 = 40;
/// Maximum time until an event is accepted.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(90);

/// Running senders.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    senders: JoinSet<Vec<Value>>,
}

impl Load {
    /// Sends this many events per second to the service, across kills and restarts. The events that are due
    /// while the service is down are sent afterwards.
    pub fn start(service: &Service, per_second: u32) -> Self {
        // Without a fixed token, the handle would send none while the service starts.
        let api = service.api().with_token(&service.token());
        let stop = Arc::<AtomicBool>::default();
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            senders.spawn(send(api.clone(), Arc::clone(&stop), sender, SENDERS * 1000 / per_second));
        }
        Self { stop, senders }
    }

    /// Stops sending new events and waits for the receipts of those already sent. Returns the ledger and the
    /// number of accepted events.
    pub async fn stop(self) -> (Ledger, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let receipts = self.senders.join_all().await.concat();
        let mut ledger = Ledger::new();
        for receipt in &receipts {
            ledger.accepted_receipt(receipt);
        }
        (ledger, receipts.len())
    }
}

async fn send(api: Api, stop: Arc<AtomicBool>, sender: u32, every_ms: u32) -> Vec<Value> {
    let mut receipts = Vec::new();
    let mut ticks = interval(Duration::from_millis(every_ms.into()));
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let event = event(&format!("e{sender}-{}", receipts.len()));
        receipts.push(api.submit(&event, SUBMIT_TIMEOUT).await);
    }
    receipts
}
