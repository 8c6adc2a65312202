//! How the page loads on a slow network: what is shown first, what is loaded, and how often.

use serde_json::{Value, json};

use crate::helpers::{connected, event, page, put_picture, signed_in};

/// The bytes that all scripts and styles together may have on the wire.
const MAX_BYTES: u64 = 150 * 1024;

/// Returns the requests of the page: path, bytes on the wire and the time of the end, in milliseconds; and the time of
/// the first paint.
const MEASURE: &str = "
    const path = ({name}) => new URL(name).pathname + new URL(name).search;
    const loaded = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .map((entry) => ({path: path(entry), bytes: entry.transferSize, end: entry.responseEnd}));
    const [paint] = performance.getEntriesByName('first-contentful-paint');
    return {loaded, paint: paint?.startTime ?? null, now: performance.now()}";

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures are for people")]
async fn on_a_slow_network_the_frame_is_painted_before_the_scripts_have_arrived() {
    let (service, _broker) = connected().await;
    for number in 0..40 {
        let _ = service.post_event(&event(&format!("e{number}"), "Person at the door")).await.expect(202);
    }
    for id in ["e39", "e11"] {
        put_picture(&service, id).await;
    }
    let browser = signed_in(&service).await;
    browser.wait_for_text("Person at the door").await;
    browser.open("about:blank").await;
    browser.use_slow_network(400, 50_000).await;
    browser.open(&page(&service)).await;
    browser.wait_for_text("Person at the door").await;
    browser.wait_until("return document.querySelector('.events img')?.complete === true").await;
    let measured = browser.run(MEASURE, json!([])).await;
    let loaded = measured["loaded"].as_array().unwrap();
    let of = |part: &str| -> Vec<&Value> {
        loaded.iter().filter(|entry| entry["path"].as_str().unwrap().contains(part)).collect()
    };
    let bytes =
        |entries: &[&Value]| entries.iter().map(|entry| entry["bytes"].as_u64().unwrap()).sum::<u64>();
    let end = |entries: &[&Value]| entries.iter().filter_map(|e| e["end"].as_f64()).fold(0.0, f64::max);
    let (scripts, files) = (of(".js"), of("/page/"));
    let (paint, complete) = (measured["paint"].as_f64().expect("a paint"), end(&scripts));
    println!(
        "painted at {paint:.0} ms, scripts at {complete:.0} ms, events at {:.0} ms; {} files, {} bytes, {} requests",
        measured["now"].as_f64().unwrap(),
        files.len(),
        bytes(&files),
        loaded.len()
    );
    assert!(paint < complete, "the page is blank until {paint} ms; the scripts arrived at {complete} ms");
    assert!(scripts.len() > 20 && bytes(&files) < MAX_BYTES, "{} bytes", bytes(&files));
    assert_eq!(of("/api/v1/history?range=1h").len(), 1, "the charts are loaded once");
    // Browsers decide how far below the view pictures are loaded.
    let are_small_and_lazy = "return [...document.querySelectorAll('.events img')].map(({loading, src}) =>
        loading === 'lazy' && src.includes('width=192'))";
    assert_eq!(browser.run(are_small_and_lazy, json!([])).await, json!([true, true]));
}
