//! Waiting for a condition, with a bound and a name, instead of sleeping for a guessed time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` answers true, looking again every 10 ms.
///
/// # Panics
///
/// When `timeout` has passed, or the condition itself hangs beyond it: "… did not happen within …".
pub async fn wait_until(what: &str, timeout: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    loop {
        match timeout_at(deadline, condition()).await {
            Ok(true) => return,
            Ok(false) if Instant::now() < deadline => sleep(POLL).await,
            Ok(false) | Err(_) => panic!("did not happen within {timeout:?}: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_is_polled_until_it_holds() {
        let mut looks = 0;
        wait_until("three looks", Duration::from_secs(5), async || {
            looks += 1;
            looks == 3
        })
        .await;
        assert_eq!(looks, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "did not happen within 30ms: pigs fly")]
    async fn a_condition_that_never_holds_is_named() {
        wait_until("pigs fly", Duration::from_millis(30), || async { false }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "an answer")]
    async fn a_condition_that_hangs_is_bounded_too() {
        wait_until("an answer", Duration::from_millis(30), std::future::pending).await;
    }
}
