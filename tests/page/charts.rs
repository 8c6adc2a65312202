//! The charts of the last hour.

use serde_json::json;

use crate::helpers::{connected, event, signed_in};

#[tokio::test]
async fn the_charts_show_the_metrics_on_screen_to_screen_readers_and_by_keyboard() {
    let (service, _broker) = connected().await;
    for i in 0..3 {
        let _ = service.post_event(&event(&format!("e{i}"), "Person at the door")).await.expect(202);
    }
    let browser = signed_in(&service).await;
    browser.resize(1440, 900).await;
    browser.run("document.querySelector('.hour').open = true", json!([])).await;
    let label = "document.querySelector('.of-events svg').getAttribute('aria-label')";
    browser
        .wait_until(&format!(
            "return {label}?.startsWith('Events per minute, last hour. Now 3, maximum 3.') === true"
        ))
        .await;
    browser.wait_for_text("Delivery time (median, 95th percentile)").await;
    assert_eq!(
        browser.run("return document.querySelectorAll('.chart .line[d^=M]').length", json!([])).await,
        4
    );
    // A selected point shows its time.
    let press_home = "
        const svg = document.querySelector('.of-events svg');
        svg.focus();
        svg.dispatchEvent(new KeyboardEvent('keydown', {key: 'Home', bubbles: true}));
        const time = document.querySelector('.of-events .value time');
        return document.activeElement === svg && time !== null";
    assert_eq!(browser.run(press_home, json!([])).await, true);
}
