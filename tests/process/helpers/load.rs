//! A source of events that never gives up: what it has begun to send it sends until it has the receipt.

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

/// How many events may be under way at once.
const SENDERS: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(90);

/// Senders at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    senders: JoinSet<Vec<Value>>,
}

impl Load {
    /// Sends so many events a second to the service, over its kills and restarts. A rate that it missed while the
    /// service was away is made up for.
    pub fn start(service: &Service, per_second: u32) -> Self {
        // A handle that looks the token up would have none while the service starts.
        let api = service.api().with_token(&service.token());
        let stop = Arc::<AtomicBool>::default();
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            senders.spawn(send(api.clone(), Arc::clone(&stop), sender, SENDERS * 1000 / per_second));
        }
        Self { stop, senders }
    }

    /// Sends nothing new, and waits for the receipts of what is under way: the account, and how many were accepted.
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
        receipts.push(api.submit(&event, PATIENCE).await);
    }
    receipts
}
