//! Pictures of every view for the README, of a service that runs: `tests/screenshots` starts one and calls this.

use std::path::PathBuf;

use liveobject_test_support::Browser;
use serde_json::json;

const DESKTOP: (u32, u32) = (1280, 800);
const TELEPHONE: (u32, u32) = (390, 844);

/// What is done to see a view, and what is then there.
const VIEWS: [(&str, &str, &str); 4] = [
    ("events", "location.hash = '#events'", "document.querySelectorAll('.events img').length > 3"),
    (
        "event",
        "document.querySelector('.events li:has(img) .open').click()",
        "document.querySelector('dialog img')?.complete",
    ),
    ("cameras", "location.hash = '#cameras'", "document.querySelectorAll('.camera img').length === 3"),
    ("settings", "location.hash = '#settings'", "document.querySelector('[name=broker_host]').value !== ''"),
];

#[tokio::test]
#[ignore = "tests/screenshots runs it: it needs PAGE_LINK, a link that signs in, and PAGE_PICTURES, a directory"]
async fn every_view_is_taken() {
    let link = std::env::var("PAGE_LINK").unwrap();
    let directory = PathBuf::from(std::env::var_os("PAGE_PICTURES").unwrap());
    let browser = Browser::start().await;
    // Of a telephone one view is enough.
    for (size, of_what, views) in [(DESKTOP, "", &VIEWS[..]), (TELEPHONE, "phone-", &VIEWS[..1])] {
        browser.resize(size.0, size.1).await;
        browser.open("about:blank").await;
        browser.open(&link).await;
        browser.sees("Delivered within").await;
        // No scroll bar in a picture.
        browser.run("document.documentElement.style.overflow = 'hidden'", json!([])).await;
        for (view, doing, there) in views {
            browser.run(doing, json!([])).await;
            browser.holds(&format!("return ({there}) === true")).await;
            for scheme in ["light", "dark"] {
                browser.prefer(scheme).await;
                browser.screenshot(&directory.join(format!("{of_what}{view}-{scheme}.png"))).await;
            }
            browser.run("document.querySelector('dialog')?.close()", json!([])).await;
        }
    }
    browser.resize(DESKTOP.0, DESKTOP.1).await;
    browser.run("document.querySelector('.top .quiet').click()", json!([])).await;
    browser.holds("return document.querySelector('input[name=token]') !== null").await;
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        browser.screenshot(&directory.join(format!("sign-in-{scheme}.png"))).await;
    }
}
