//! One search at a time for all clients of the API.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{BrokerAddress, Found, find};

/// How long a client waits for a search that is in progress, in addition to its own.
const WAIT: Duration = Duration::from_secs(8);

/// A result that is not older than this is returned again, because each search sends packets to all machines of the
/// local networks.
const FRESH: Duration = Duration::from_secs(3);

/// A function that searches for brokers, including at these addresses.
pub type Search = fn(Arc<[BrokerAddress]>) -> LocalBoxFuture<'static, Found>;

/// Searches for brokers, one search at a time. Clones share the limit.
#[derive(Clone)]
pub struct Finder {
    configured: Arc<[BrokerAddress]>,
    search: Search,
    last: Arc<Mutex<Option<(Instant, Found)>>>,
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder").field("configured", &self.configured).finish_non_exhaustive()
    }
}

impl Finder {
    /// Creates a finder that also tries these addresses.
    pub fn new(configured: &[BrokerAddress]) -> Self {
        Self::with(configured, |configured| Box::pin(async move { find(&configured).await }))
    }

    /// Creates a finder with another search, for tests.
    pub fn with(configured: &[BrokerAddress], search: Search) -> Self {
        Self { configured: configured.into(), search, last: Arc::default() }
    }

    /// Returns the brokers. If a search is in progress or has just ended, returns its result. Returns `None` if others
    /// search for too long.
    pub async fn find(&self) -> Option<Found> {
        let mut last = timeout(WAIT, self.last.lock()).await.ok()?;
        if let Some((ended, found)) = last.as_ref()
            && ended.elapsed() < FRESH
        {
            return Some(found.clone());
        }
        let found = (self.search)(Arc::clone(&self.configured)).await;
        tracing::info!(
            candidates = found.candidates.len(),
            left_out = found.left_out,
            "searched for brokers"
        );
        *last = Some((Instant::now(), found.clone()));
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;

    static SEARCHES: AtomicUsize = AtomicUsize::new(0);

    #[tokio::test(start_paused = true)]
    async fn simultaneous_requests_share_one_search_and_a_new_one_begins_later() {
        let finder = Finder::with(&[], |_| {
            Box::pin(async {
                sleep(Duration::from_secs(2)).await;
                Found { left_out: SEARCHES.fetch_add(1, Ordering::Relaxed), ..Found::default() }
            })
        });
        let (one, other) = tokio::join!(finder.find(), finder.find());
        assert_eq!((one.unwrap().left_out, other.unwrap().left_out), (0, 0));
        advance(FRESH).await;
        assert_eq!(finder.find().await.unwrap().left_out, 1);
    }
}
