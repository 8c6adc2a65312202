//! The page on a phone, a tablet and a desktop, light and dark mode.
//!
//! If `PAGE_SCREENSHOTS` is set, screenshots are saved in that directory.

use std::path::PathBuf;

use serde_json::json;

use crate::helpers::{connected, event, signed_in};

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
        for view in ["events", "cameras", "settings"] {
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
