//! The last hour, drawn.

use serde_json::json;

use crate::helpers::{connected, event, signed_in};

#[tokio::test]
async fn the_charts_tell_what_the_metrics_say_to_eyes_ears_and_keyboards() {
    let (service, _broker) = connected().await;
    for i in 0..3 {
        let _ = service.post_event(&event(&format!("e{i}"), "Person at the door")).await.expect(202);
    }
    let browser = signed_in(&service).await;
    browser.resize(1440, 900).await;
    browser.run("document.querySelector('.hour').open = true", json!([])).await;
    let label = "document.querySelector('.of-events svg').getAttribute('aria-label')";
    browser
        .holds(&format!(
            "return {label}?.startsWith('Events per minute, last hour. Now 3, at most 3.') === true"
        ))
        .await;
    browser.sees("Delivery, median").await;
    assert_eq!(
        browser.run("return document.querySelectorAll('.chart .line[d^=M]').length", json!([])).await,
        4
    );
    // A point that is chosen says its time.
    let press = "const svg = document.querySelector('.of-events svg'); svg.focus(); \
                 svg.dispatchEvent(new KeyboardEvent('keydown', {key: 'Home', bubbles: true})); \
                 return document.activeElement === svg && document.querySelector('.of-events .value time') !== null";
    assert_eq!(browser.run(press, json!([])).await, true);
}
