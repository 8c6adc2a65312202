//! Takes screenshots of every view of a running service, for the README.
//!
//! `tests/screenshots` starts the service.

use std::path::PathBuf;

use liveobject_test_support::Browser;
use serde_json::json;

const DESKTOP: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);

/// Each view with the script that opens it and the condition that is true once it is complete.
const VIEWS: [(&str, &str, &str); 4] = [
    (
        "events",
        "location.hash = '#events'",
        "visible('.events img').length > 1 && visible('.events img').every(isDrawn)",
    ),
    (
        "event",
        "document.querySelector('.events li:has(img) .open').click()",
        "visible('dialog img').some(isDrawn)",
    ),
    ("cameras", "location.hash = '#cameras'", "visible('.camera img').filter(isDrawn).length === 3"),
    ("settings", "location.hash = '#settings'", "document.querySelector('[name=broker_host]').value !== ''"),
];

/// Functions for the conditions. A picture below the window is not loaded.
const FUNCTIONS: &str = "
    const isDrawn = (image) => image.complete && image.naturalWidth > 0;
    const visible = (selector) => [...document.querySelectorAll(selector)].filter((element) => {
        const { top, bottom } = element.getBoundingClientRect();
        return bottom > 0 && top < innerHeight;
    });";

#[tokio::test]
#[ignore = "run by tests/screenshots: needs PAGE_LINK, a link that signs in, and PAGE_PICTURES, a directory"]
async fn every_view_is_saved_as_a_screenshot() {
    let link = std::env::var("PAGE_LINK").unwrap();
    let directory = PathBuf::from(std::env::var_os("PAGE_PICTURES").unwrap());
    let browser = Browser::start().await;
    // One view is enough for the phone.
    for (size, name_prefix, views) in [(DESKTOP, "", &VIEWS[..]), (PHONE, "phone-", &VIEWS[..1])] {
        browser.resize(size.0, size.1).await;
        browser.open("about:blank").await;
        browser.open(&link).await;
        browser.wait_for_text("Delivered in").await;
        // Screenshots show no scroll bar.
        browser.run("document.documentElement.style.overflow = 'hidden'", json!([])).await;
        for (view, open, is_complete) in views {
            browser.run(open, json!([])).await;
            browser.wait_until(&format!("{FUNCTIONS} return ({is_complete}) === true")).await;
            for scheme in ["light", "dark"] {
                browser.set_color_scheme(scheme).await;
                browser.screenshot(&directory.join(format!("{name_prefix}{view}-{scheme}.png"))).await;
            }
            browser.run("document.querySelector('dialog')?.close()", json!([])).await;
        }
    }
    browser.resize(DESKTOP.0, DESKTOP.1).await;
    browser.press("Sign out").await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
    for scheme in ["light", "dark"] {
        browser.set_color_scheme(scheme).await;
        browser.screenshot(&directory.join(format!("sign-in-{scheme}.png"))).await;
    }
}
