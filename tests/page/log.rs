//! The log in the service view.

use std::time::Duration;

use liveobject_test_support::{Browser, Service, free_port};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    accessible::assert_accessible,
    helpers::{service, signed_in},
};

/// The page reads the log every three seconds while somebody sees it.
const TWO_READS: Duration = Duration::from_secs(7);

/// Signs in, and opens the log.
async fn opened(service: &Service) -> Browser {
    let browser = signed_in(service).await;
    browser.click("nav a[href='#service']").await;
    browser.click(".log summary").await;
    browser.wait_until(&format!("return {LINES}.some((line) => line.includes('listening'))")).await;
    browser
}

/// The lines that are shown.
const LINES: &str =
    "[...document.querySelectorAll('.log-lines li:not([hidden])')].map((line) => line.textContent)";

/// How often the log was requested.
async fn reads(service: &Service) -> u64 {
    let text = service.get("/metrics").await.expect(200);
    let of_log =
        "liveobject_http_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/log\",status=\"200\"}";
    let line = text.as_str().unwrap().lines().find(|line| line.starts_with(of_log));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn the_log_is_shown_searched_and_followed() {
    let service = service().await;
    let browser = opened(&service).await;
    // New lines appear automatically, and the list stays at its end.
    let refusing = json!({"enabled": true, "broker_host": "127.0.0.1", "broker_port": free_port()});
    let _ = service.put_config(&refusing).await.expect(200);
    browser.wait_until(&format!("return {LINES}.some((line) => line.includes('attempt failed'))")).await;
    let warned = "return document.querySelector('.log-lines .of-warn .level').textContent";
    assert_eq!(browser.run(warned, json!([])).await, "Warning");
    browser
        .wait_until(
            "const box = document.querySelector('.log-lines');
             return box.scrollTop + box.clientHeight >= box.scrollHeight - 8",
        )
        .await;
    browser.enter("input[name=log_search]", "LISTENING").await;
    browser.wait_until(&format!("return {LINES}.length === 1 && {LINES}[0].includes('address=')")).await;
    browser.wait_for_text("1 of ").await;
    assert_accessible(&browser, "the log").await;
    browser.enter("input[name=log_search]", " ").await;
    let choose = "
        const select = document.querySelector('select[name=log_level]'); select.value = 'warn';
        select.dispatchEvent(new Event('change'))";
    browser.run(choose, json!([])).await;
    browser
        .wait_until(&format!(
            "return {LINES}.length > 0 && !{LINES}.some((line) => line.includes('listening'))"
        ))
        .await;
}

#[tokio::test]
async fn the_log_is_copied_and_downloaded_as_text() {
    let service = service().await;
    let browser = opened(&service).await;
    let watch = "
        window.saved = '';
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => {
            blob.text().then((text) => { window.saved = text; });
            return create.call(URL, blob);
        };";
    browser.run(watch, json!([])).await;
    browser.enter("input[name=log_search]", "listening").await;
    browser.press("Download").await;
    browser.wait_until(r"return /^\d{4}-\S+Z  INFO app::base: listening [^\n]+\n$/.test(window.saved)").await;
    browser.press("Copy all").await;
    browser.wait_for_text("1 line copied.").await;
}

#[tokio::test]
async fn nobody_reads_the_log_while_it_is_not_seen() {
    let service = service().await;
    let browser = opened(&service).await;
    let seen = reads(&service).await;
    sleep(TWO_READS).await;
    assert!(reads(&service).await > seen, "it is followed");
    browser.click("nav a[href='#events']").await;
    let before = reads(&service).await;
    sleep(TWO_READS).await;
    // One may have been on its way.
    assert!(reads(&service).await <= before + 1);
}
