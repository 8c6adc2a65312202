//! Memory that requests share. A request whose client is stuck gives its share up when others need it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use liveobject_actors::domain::numbers::saturate;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// How long a request waits for its share.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
/// How often a waiting request looks for clients that are stuck.
const RECLAIM_INTERVAL: Duration = Duration::from_millis(250);
/// A client is stuck if it has sent or received less than [`MIN_PROGRESS`] within this time.
const STUCK_AFTER: Duration = Duration::from_secs(1);
const MIN_PROGRESS: usize = 16 * 1024;

/// A number of bytes that all requests of one kind share.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    holders: Mutex<Vec<Weak<Holder>>>,
}

/// What a share does when it is taken away.
type OnRevoke = Box<dyn FnOnce() + Send>;

struct Holder {
    /// When the client last made progress, and how much it has made since then.
    progress: Mutex<(Instant, usize)>,
    /// `None` if the share cannot be taken away.
    on_revoke: Mutex<Option<OnRevoke>>,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("progress", &self.progress).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes)), holders: Mutex::default() }
    }

    /// Waits a few seconds for a share of this many bytes. Takes shares away from clients that are stuck.
    /// Returns `None` if there was no room in time.
    pub(super) async fn share(&self, bytes: usize) -> Option<Share> {
        let acquired = async {
            let mut acquiring = Box::pin(Arc::clone(&self.bytes).acquire_many_owned(saturate(bytes)));
            loop {
                match timeout(RECLAIM_INTERVAL, &mut acquiring).await {
                    Ok(permit) => break permit.ok(),
                    Err(_) => self.reclaim(Instant::now()),
                }
            }
        };
        let permit = timeout(WAIT_LIMIT, acquired).await.ok()??;
        let holder = Holder { progress: Mutex::new((Instant::now(), 0)), on_revoke: Mutex::default() };
        let holder = Arc::new(holder);
        let mut holders = lock(&self.holders);
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(Arc::downgrade(&holder));
        Some(Share { permit, holder })
    }

    /// Takes their shares away from all clients that are stuck.
    fn reclaim(&self, now: Instant) {
        let stuck: Vec<_> = lock(&self.holders)
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|holder| is_stuck(*lock(&holder.progress), now))
            .collect();
        for holder in stuck {
            let on_revoke = lock(&holder.on_revoke).take();
            if let Some(revoke) = on_revoke {
                revoke();
            }
        }
    }
}

fn is_stuck((last, _): (Instant, usize), now: Instant) -> bool {
    now.saturating_duration_since(last) >= STUCK_AFTER
}

fn progressed((last, bytes): (Instant, usize), more: usize, now: Instant) -> (Instant, usize) {
    let bytes = bytes.saturating_add(more);
    if bytes >= MIN_PROGRESS { (now, 0) } else { (last, bytes) }
}

/// A part of a budget. Dropping it returns it.
#[derive(Debug)]
pub(super) struct Share {
    permit: OwnedSemaphorePermit,
    holder: Arc<Holder>,
}

impl Share {
    /// Keeps this many bytes, and returns the rest.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let rest = self.permit.num_permits().saturating_sub(bytes);
        drop(self.permit.split(rest));
    }

    /// Lets others take the share away while the client is stuck; `on_revoke` is called then and must drop the
    /// share soon.
    pub(super) fn allow_revocation(&self, on_revoke: impl FnOnce() + Send + 'static) {
        *lock(&self.holder.progress) = (Instant::now(), 0);
        *lock(&self.holder.on_revoke) = Some(Box::new(on_revoke));
    }

    /// Keeps the share from being taken away: it no longer depends on the client.
    pub(super) fn forbid_revocation(&self) {
        *lock(&self.holder.on_revoke) = None;
    }

    /// Returns a handle to record progress with.
    pub(super) fn progress(&self) -> Progress {
        Progress(Arc::downgrade(&self.holder))
    }
}

/// Records the progress of a client.
#[derive(Debug)]
pub(super) struct Progress(Weak<Holder>);

impl Progress {
    /// Records that the client has sent or received this many bytes.
    pub(super) fn add(&self, bytes: usize, now: Instant) {
        if let Some(holder) = self.0.upgrade() {
            let mut progress = lock(&holder.progress);
            *progress = progressed(*progress, bytes, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// Returns a share that is dropped when it is revoked.
    fn revocable(share: Share) -> oneshot::Receiver<()> {
        let (sender, revoked) = oneshot::channel();
        let slot = Arc::new(Mutex::new(None));
        let other = Arc::clone(&slot);
        share.allow_revocation(move || {
            lock(&other).take();
            let _gone = sender.send(());
        });
        *lock(&slot) = Some(share);
        revoked
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_client_gives_its_share_up_when_another_one_needs_it() {
        let budget = Budget::new(10);
        let mut revoked = revocable(budget.share(10).await.unwrap());
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(revoked.try_recv().is_err(), "nobody needs it");
        assert!(budget.share(1).await.is_some());
        assert!(revoked.try_recv().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_makes_progress_keeps_its_share() {
        let budget = Budget::new(10);
        let share = budget.share(10).await.unwrap();
        let progress = share.progress();
        let mut revoked = revocable(share);
        let active = async {
            for _ in 0..60 {
                progress.add(MIN_PROGRESS / 2, Instant::now());
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        };
        let (waiting, ()) = tokio::join!(budget.share(1), active);
        assert!(waiting.is_none() && revoked.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_no_longer_depends_on_the_client_is_kept() {
        let budget = Budget::new(10);
        let mut share = budget.share(10).await.unwrap();
        share.allow_revocation(|| panic!("revoked"));
        share.forbid_revocation();
        assert!(budget.share(1).await.is_none());
        share.shrink_to(4);
        assert!(budget.share(6).await.is_some());
    }
}
