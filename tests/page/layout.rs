//! The page on a phone, a tablet and a desktop, light and dark mode.
//!
//! If `PAGE_SCREENSHOTS` is set, screenshots are saved in that directory.

use std::path::PathBuf;

use serde_json::json;

use crate::helpers::{connected, event, service, signed_in};

#[tokio::test]
async fn nothing_is_wider_than_the_window() {
    let (service, _broker) = connected().await;
    for i in 0..3 {
        let _ = service
            .post_event(&event(&format!("e{i}"), "Person at the door with a package"))
            .await
            .expect(202);
    }
    let browser = signed_in(&service).await;
    browser.wait_for_text("Delivered in").await;
    browser
        .run("for (const details of document.querySelectorAll('details')) details.open = true", json!([]))
        .await;
    let screenshots = std::env::var_os("PAGE_SCREENSHOTS").map(PathBuf::from);
    for (width, height) in [(375, 800), (768, 1000), (1440, 900)] {
        browser.resize(width, height).await;
        for view in ["events", "cameras", "settings", "service"] {
            browser.click(&format!("nav a[href='#{view}']")).await;
            browser.wait_until(&format!("return location.hash === '#{view}'")).await;
            let widest = browser.run("return document.documentElement.scrollWidth", json!([])).await;
            assert!(
                widest.as_u64().is_some_and(|widest| widest <= u64::from(width)),
                "{view} at {width}: {widest}"
            );
            for scheme in ["light", "dark"] {
                let Some(directory) = &screenshots else { continue };
                browser.set_color_scheme(scheme).await;
                browser.screenshot(&directory.join(format!("{view}-{width}-{scheme}.png"))).await;
            }
        }
    }
}

#[tokio::test]
async fn wide_windows_are_used_and_all_of_the_left_column_can_be_reached_in_low_ones() {
    let (service, _broker) = connected().await;
    for number in 0..30 {
        let _ = service.post_event(&event(&format!("e{number}"), "Person at the door")).await.expect(202);
    }
    let browser = signed_in(&service).await;
    browser.resize(2560, 1300).await;
    browser.wait_for_text("Delivered in").await;
    let width = "return document.querySelector('.events').clientWidth";
    assert!(browser.run(width, json!([])).await.as_u64().unwrap() > 1600);
    // Nothing is known of the time before the first start.
    browser.wait_for_text("No interruption since ").await;
    browser.resize(1440, 600).await;
    let aside = "const {scrollHeight, clientHeight} = document.querySelector('aside');
        return scrollHeight === clientHeight && clientHeight > innerHeight";
    browser.wait_until(aside).await;
    browser.run("scrollTo(0, 1500)", json!([])).await;
    let is_end_seen = "const {bottom} = document.querySelector('.connection .test').getBoundingClientRect();
        return bottom > 0 && bottom <= innerHeight";
    browser.wait_until(is_end_seen).await;
}

/// The limit for everything that the first view loads, as the browser counts it.
const FIRST_LOAD_BYTES: u64 = 150 * 1024;

#[tokio::test]
async fn the_first_load_is_small() {
    let service = service().await;
    let browser = signed_in(&service).await;
    browser.run("location.reload()", json!([])).await;
    browser.wait_for_text("Sign out").await;
    let loaded = "
        const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
        const files = all.filter(({name}) => !name.includes('/api/') && !name.endsWith('/session'));
        return files.reduce((sum, {encodedBodySize}) => sum + encodedBodySize, 0)";
    let bytes = browser.run(loaded, json!([])).await.as_u64().unwrap();
    assert!((1..=FIRST_LOAD_BYTES).contains(&bytes), "{bytes}");
}
