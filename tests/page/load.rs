//! How the page loads: what is shown before what has arrived, what is loaded, and how often.

use liveobject_test_support::{Browser, Mosquitto, RequestGate, Service};
use serde_json::{Value, json};

use crate::helpers::{connected, event, page, put_picture, signed_in};

/// A slow connection from afar.
const LATENCY_MS: u32 = 400;
const BYTES_PER_SECOND: u32 = 50_000;

/// The limit for all files of the page on the wire.
const MAX_BYTES: u64 = 80 * 1024;
/// The same when the browser has loaded the page before: the HTML is revalidated.
const MAX_BYTES_AGAIN: u64 = 2 * 1024;
/// The HTML, two scripts, the styles, the icon and the manifest.
const MAX_FILES: usize = 6;
/// Requests for data until the page is complete.
const MAX_CALLS: usize = 12;

/// Notes when the first event is drawn.
const WATCH: &str = "
    new MutationObserver((_, observer) => {
        if (!document.querySelector('.events li')) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => { window.firstEventAt = performance.now(); }));
    }).observe(document, {childList: true, subtree: true});";

/// Addresses that do not exist. The page requests them when it is painted for the first time, and when the first event
/// is drawn: a page whose scripts have not arrived cannot be asked.
const PAINTED: &str = "/painted";
const EVENTS_DRAWN: &str = "/events-drawn";
const REPORT: &str = "
    new PerformanceObserver((paints) => {
        if (paints.getEntriesByName('first-contentful-paint').length) fetch('/painted');
    }).observe({type: 'paint', buffered: true});
    new MutationObserver((_, observer) => {
        if (!document.querySelector('.events li')) return;
        observer.disconnect();
        fetch('/events-drawn');
    }).observe(document, {childList: true, subtree: true});";

/// The charts are what is loaded last.
const HAS_CHARTS: &str = "return performance.getEntriesByType('resource').some(({name}) =>
    name.endsWith('/api/v1/history?range=24h'))";

/// Returns the requests of the page in the order of their beginnings (path, bytes on the wire, size, beginning and end
/// in milliseconds), and when what was shown.
const MEASURE: &str = "
    const path = ({name}) => new URL(name).pathname + new URL(name).search;
    const loaded = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .map((entry) => ({path: path(entry), bytes: entry.transferSize, size: entry.decodedBodySize,
            start: entry.startTime, end: entry.responseEnd}));
    const [paint] = performance.getEntriesByName('first-contentful-paint');
    return {loaded, paint: paint?.startTime ?? null, events: window.firstEventAt, complete: performance.now()}";

/// A load of the page that was measured.
struct Load(Value);

impl Load {
    /// Loads the page, until everything has arrived.
    async fn of(browser: &Browser, address: &str) -> Self {
        browser.open("about:blank").await;
        browser.open(address).await;
        browser.wait_for_text("Sign out").await;
        browser.wait_until("return document.querySelector('.events img')?.complete === true").await;
        browser.wait_until("return window.firstEventAt > 0").await;
        browser.wait_until(HAS_CHARTS).await;
        Self(browser.run(MEASURE, json!([])).await)
    }

    fn at(&self, what: &str) -> f64 {
        self.0[what].as_f64().unwrap_or_else(|| panic!("{what}: {}", self.0))
    }

    /// Returns the requests whose path begins with this.
    fn requests(&self, path: &str) -> Vec<&Value> {
        let loaded = self.0["loaded"].as_array().unwrap();
        loaded.iter().filter(|request| request["path"].as_str().unwrap().starts_with(path)).collect()
    }

    fn request(&self, path: &str) -> &Value {
        self.requests(path).first().copied().unwrap_or_else(|| panic!("{path}: {}", self.0))
    }

    /// Returns the requests for the page's own files that went over the network.
    fn files(&self) -> Vec<&Value> {
        let html = self.requests("/").into_iter().filter(|request| request["path"] == "/");
        html.chain(self.requests("/page/")).filter(|request| request["bytes"] != 0).collect()
    }

    fn print(&self, name: &str) {
        #[expect(clippy::print_stdout, reason = "the figures are for people")]
        {
            println!(
                "{name}: painted at {:.0} ms, events at {:.0} ms, complete at {:.0} ms; \
                 {} files with {} bytes, {} calls",
                self.at("paint"),
                self.at("events"),
                self.at("complete"),
                self.files().len(),
                bytes(&self.files()),
                self.requests("/api/").len()
            );
        }
    }
}

fn bytes(requests: &[&Value]) -> u64 {
    requests.iter().map(|request| request["bytes"].as_u64().unwrap()).sum()
}

/// Starts a service with events, and a browser that is signed in.
async fn browser_with_events() -> (Service, Mosquitto, Browser) {
    let (service, broker) = connected().await;
    for number in 0..40 {
        let _ = service.post_event(&event(&format!("e{number}"), "Person at the door")).await.expect(202);
    }
    for id in ["e39", "e11"] {
        put_picture(&service, id).await;
    }
    let browser = signed_in(&service).await;
    browser.wait_for_text("Person at the door").await;
    (service, broker, browser)
}

#[tokio::test]
async fn a_load_needs_few_requests_and_few_bytes() {
    let (service, _broker, browser) = browser_with_events().await;
    browser.run_in_new_pages(WATCH).await;
    browser.use_slow_network(LATENCY_MS, BYTES_PER_SECOND).await;
    let first = Load::of(&browser, &page(&service)).await;
    first.print("first load");
    let (files, calls) = (first.files(), first.requests("/api/"));
    assert!(files.len() <= MAX_FILES && bytes(&files) < MAX_BYTES, "{files:?}");
    assert!(calls.len() <= MAX_CALLS, "{calls:?}");
    assert_eq!(first.requests("/session").len(), 1);
    assert_eq!(first.requests("/api/v1/history?range=24h").len(), 1, "the charts are loaded once");
    let events = first.request("/api/v1/events?limit=30");
    assert!(events["bytes"].as_u64().unwrap() * 4 < events["size"].as_u64().unwrap(), "{events}");
    // Browsers decide how far below the view pictures are loaded.
    let are_small_and_lazy = "return [...document.querySelectorAll('.events img')].map(({loading, src}) =>
        loading === 'lazy' && src.includes('width=192'))";
    assert_eq!(browser.run(are_small_and_lazy, json!([])).await, json!([true, true]));

    let again = Load::of(&browser, &page(&service)).await;
    again.print("again");
    let files = again.files();
    assert!(files.len() <= 1 && bytes(&files) < MAX_BYTES_AGAIN, "{files:?}");
}

#[tokio::test]
async fn the_frame_and_the_events_are_shown_before_the_rest_has_arrived() {
    let (service, _broker, browser) = browser_with_events().await;
    let gate = RequestGate::start(service.port()).await;
    browser.run_in_new_pages(REPORT).await;
    browser.open("about:blank").await;

    gate.withhold(&["/start.js", "/style.css"]);
    let address = format!("http://127.0.0.1:{}/", gate.port());
    // The browser waits for both files before it replies.
    let opened = browser.open(&address);
    let shown = async {
        for request in ["/session", "/api/v1/events?limit=30", PAINTED] {
            gate.passed(request).await;
        }
        gate.withhold(&["/main.js"]);
        gate.passed(EVENTS_DRAWN).await;
    };
    tokio::join!(opened, shown);

    // The stream is opened by the rest: what arrives before must not be missed.
    let _ = service.post_event(&event("between", "A fox in the garden")).await.expect(202);
    gate.withhold(&[]);
    browser.wait_for_text("A fox in the garden").await;
    let first = "return document.querySelector('.events li .text').textContent";
    assert_eq!(browser.run(first, json!([])).await, json!("A fox in the garden"));
    let rows = "return document.querySelectorAll('.events li').length";
    assert_eq!(browser.run(rows, json!([])).await, json!(31));
}

#[tokio::test]
async fn a_page_whose_service_has_been_updated_offers_to_load_again() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.block_requests(&["*/main.js"]).await;
    browser.open("about:blank").await;
    browser.open(&page(&service)).await;
    browser.wait_for_text("The server is not responding.").await;
    browser.block_requests(&[]).await;
    browser.press("Try again").await;
    browser.wait_for_text("Sign out").await;
}

#[tokio::test]
async fn the_modules_work_as_they_were_written_too() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    browser.open(&format!("{}?modules", page(&service))).await;
    browser.wait_for_text("Person at the door").await;
    browser.wait_for_text("Sign out").await;
    let loaded = "return performance.getEntriesByType('resource').map(({name}) => new URL(name).pathname)
        .filter((path) => path.startsWith('/page/modules/') && path.endsWith('.js')).length";
    let modules = browser.run(loaded, json!([])).await;
    assert!(modules.as_u64().unwrap() > 20, "{modules}");
    browser.click("nav a[href='#service']").await;
    browser.wait_for_text("Version").await;
}
