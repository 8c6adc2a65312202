//! Waits for a named condition with a timeout, instead of sleeping for a guessed time.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

/// The interval between two checks of a condition.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` returns true, checking every 10 ms.
///
/// # Panics
///
/// Panics with "… did not happen within …" if `timeout` passes, even while the condition itself hangs.
pub async fn wait_until(what: &str, timeout: Duration, condition: impl AsyncFnMut() -> bool) {
    assert!(happens(timeout, condition).await, "did not happen within {timeout:?}: {what}");
}

/// Waits until `condition` returns true, checking every 10 ms. Returns false if `timeout` passes, even while the
/// condition itself hangs.
pub async fn happens(timeout: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        match timeout_at(deadline, condition()).await {
            Ok(true) => return true,
            Ok(false) if Instant::now() < deadline => sleep(POLL).await,
            Ok(false) | Err(_) => return false,
        }
    }
}

/// Waits until a page shows the given text; `shown` returns all its text.
///
/// # Panics
///
/// Panics with the text that the page shows instead if `timeout` passes.
pub(crate) async fn wait_for_text(text: &str, timeout: Duration, shown: impl AsyncFn() -> String) {
    let deadline = Instant::now() + timeout;
    loop {
        let shown = shown().await;
        if shown.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "the page does not show {text:?} but: {shown}");
        sleep(POLL).await;
    }
}

/// Waits until a script returns true in a page; `run` runs it there. Until then it may fail: the page may not have the
/// element yet that the script looks at.
///
/// # Panics
///
/// Panics with what the script returned last, or with its error, if `timeout` passes.
pub(crate) async fn wait_for_script(script: &str, timeout: Duration, run: impl AsyncFn(&str) -> Value) {
    let caught = format!("try {{ {script} }} catch (error) {{ return String(error); }}");
    let deadline = Instant::now() + timeout;
    loop {
        let result = run(&caught).await;
        if result == true {
            return;
        }
        assert!(Instant::now() < deadline, "{script} did not return true within {timeout:?}, but: {result}");
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_is_polled_until_it_is_true() {
        let mut checks = 0;
        wait_until("three checks", Duration::from_secs(5), async || {
            checks += 1;
            checks == 3
        })
        .await;
        assert_eq!(checks, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "did not happen within 30ms: pigs fly")]
    async fn a_failed_wait_names_its_condition() {
        wait_until("pigs fly", Duration::from_millis(30), || async { false }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "an answer")]
    async fn a_hanging_condition_times_out() {
        wait_until("an answer", Duration::from_millis(30), std::future::pending).await;
    }
}
