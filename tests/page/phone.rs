//! The page on a phone, and in high contrast.

use serde_json::{Value, json};

use crate::helpers::{connected, event, page, service, signed_in};

#[tokio::test]
async fn on_a_phone_the_status_is_collapsed_to_one_line_and_the_events_begin_below_it() {
    let (service, _broker) = connected().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.resize(375, 812).await;
    browser.wait_for_text("1 delivered today").await;
    let is_at_top = "return document.querySelector('.events li').getBoundingClientRect().top < 300";
    browser.wait_until(is_at_top).await;
    let is_open = "document.querySelector('.connection .facts').offsetParent !== null";
    browser.wait_until(&format!("return !({is_open})")).await;
    browser.click(".connection .toggle").await;
    browser.wait_until(&format!("return {is_open}")).await;
    // The navigation is at the bottom, where a thumb reaches it.
    let nav = "const box = document.querySelector('nav').getBoundingClientRect();
        return box.bottom === innerHeight && box.left === 0 && box.right === document.documentElement.clientWidth";
    browser.wait_until(nav).await;
}

/// Returns the controls that are smaller than 44 px in height or width. A switch is as large as its label. A row is a
/// link as a whole, so the links that cover it are left out.
const SMALL: &str = "
    const all = document.querySelectorAll('button, select, a, input, summary');
    const isShown = (one) => one.checkVisibility() && !one.matches('[type=file], .open, .cover, .skip, .track a');
    const box = (one) => (one.type === 'checkbox' ? one.closest('label') : one).getBoundingClientRect();
    const small = [...all].filter(isShown).filter((one) => box(one).height < 43.9 || box(one).width < 43.9);
    return small.map((one) => `${box(one).width} x ${box(one).height}: ${one.outerHTML.slice(0, 200)}`)";

#[tokio::test]
async fn on_a_phone_all_controls_are_at_least_44_pixels_high_and_wide() {
    let (service, mut broker) = connected().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.resize(375, 812).await;
    browser.wait_for_text("Person at the door").await;
    broker.stop().await;
    browser.wait_for_text("Waiting to reconnect").await;
    browser.click(".connection .toggle").await;
    let open_all = "for (const one of document.querySelectorAll('details:not(.picker)')) one.open = true";
    for view in
        ["events", "events?q=nothing", "cameras", "camera/front_door", "settings", "service", "event/one"]
    {
        browser.run("location.hash = arguments[0]", json!([view])).await;
        browser.wait_until("return document.querySelector('main > section, main > div') !== null").await;
        browser.run(open_all, json!([])).await;
        let small = browser.run(SMALL, json!([])).await;
        assert_eq!(small, json!([]), "{view}");
    }
}

#[tokio::test]
async fn the_page_can_be_installed() {
    let service = service().await;
    let browser = signed_in(&service).await;
    let load = "fetch(document.querySelector('link[rel=manifest]').href).then(async (response) => {
            const manifest = await response.json();
            const icons = manifest.icons.map(({src}) => new URL(src, response.url).href);
            const loaded = await Promise.all(icons.map(async (src) => (await fetch(src)).status));
            window.manifest = [new URL(manifest.start_url, response.url).href, manifest.display, ...loaded];
        }); return true";
    browser.run(load, json!([])).await;
    browser.wait_until("return window.manifest !== undefined").await;
    let expected = json!([page(&service), "standalone", 200, 200, 200, 200]);
    assert_eq!(browser.run("return window.manifest", json!([])).await, expected);
}

#[tokio::test]
async fn in_high_contrast_a_switch_that_is_on_looks_different() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.open(&format!("{}#settings", page(&service))).await;
    browser.wait_until("return document.querySelector('[name=enabled]')?.checked === true").await;
    browser.set_forced_colors().await;
    let color = |name: &str| {
        format!("return getComputedStyle(document.querySelector('[name={name}]')).backgroundColor")
    };
    let mut colors: Vec<Value> = Vec::new();
    for name in ["enabled", "use_tls"] {
        colors.push(browser.run(&color(name), json!([])).await);
    }
    assert_ne!(colors[0], colors[1]);
}

#[tokio::test]
async fn on_a_phone_the_title_of_an_event_is_on_one_line() {
    let (service, _broker) = connected().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.resize(375, 812).await;
    browser.run("location.hash = 'event/one'", json!([])).await;
    browser.wait_for_text("Make an automation").await;
    let height = "return document.querySelector('dialog h2').getBoundingClientRect().height";
    let height = browser.run(height, json!([])).await.as_f64().unwrap();
    assert!(height < 30.0, "one line: {height}");
}
