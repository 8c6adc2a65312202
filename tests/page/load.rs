//! How the page loads on a slow network: what is shown when, what is loaded, and how often.

use liveobject_test_support::{Browser, Mosquitto, Service};
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
/// On a busy machine. On an idle one, the first paint takes half a second and the events less than two seconds.
const MAX_PAINT_MS: f64 = 2500.0;
const MAX_EVENTS_MS: f64 = 5000.0;

/// Notes when the first event is drawn.
const WATCH: &str = "
    new MutationObserver((_, observer) => {
        if (!document.querySelector('.events li')) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => { window.firstEventAt = performance.now(); }));
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

/// Starts a service with events, and a browser that is signed in and then gets a slow network.
async fn slow_browser() -> (Service, Mosquitto, Browser) {
    let (service, broker) = connected().await;
    for number in 0..40 {
        let _ = service.post_event(&event(&format!("e{number}"), "Person at the door")).await.expect(202);
    }
    for id in ["e39", "e11"] {
        put_picture(&service, id).await;
    }
    let browser = signed_in(&service).await;
    browser.wait_for_text("Person at the door").await;
    browser.run_in_new_pages(WATCH).await;
    browser.use_slow_network(LATENCY_MS, BYTES_PER_SECOND).await;
    (service, broker, browser)
}

#[tokio::test]
async fn on_a_slow_network_the_frame_and_the_events_are_shown_before_the_rest_has_arrived() {
    let (service, _broker, browser) = slow_browser().await;
    let first = Load::of(&browser, &page(&service)).await;
    first.print("first load");
    let is_before = |one: &Value, other: &Value| one["start"].as_f64() < other["end"].as_f64();
    let find = |name: &str| {
        let requests = first.requests("/page/");
        let found = requests.into_iter().find(|request| request["path"].as_str().unwrap().ends_with(name));
        found.unwrap_or_else(|| panic!("{name} is not loaded: {}", first.0))
    };
    let (start, rest) = (find("/start.js"), find("/main.js"));
    let (session, events) = (first.request("/session"), first.request("/api/v1/events?limit=30"));
    assert!(first.at("paint") < start["end"].as_f64().unwrap(), "the page is blank until the scripts arrive");
    assert!(first.at("paint") < find("/style.css")["end"].as_f64().unwrap(), "blank until the styles arrive");
    assert!(is_before(session, start) && is_before(events, start), "the requests for data wait for scripts");
    assert!(first.at("events") < rest["end"].as_f64().unwrap(), "the events wait for all scripts");
    assert!(first.at("paint") < MAX_PAINT_MS && first.at("events") < MAX_EVENTS_MS, "{}", first.0);

    let (files, calls) = (first.files(), first.requests("/api/"));
    assert!(files.len() <= MAX_FILES && bytes(&files) < MAX_BYTES, "{files:?}");
    assert!(calls.len() <= MAX_CALLS, "{calls:?}");
    assert_eq!(first.requests("/session").len(), 1);
    assert_eq!(first.requests("/api/v1/history?range=24h").len(), 1, "the charts are loaded once");
    assert!(events["bytes"].as_u64().unwrap() * 4 < events["size"].as_u64().unwrap(), "{events}");
    // Browsers decide how far below the view pictures are loaded.
    let are_small_and_lazy = "return [...document.querySelectorAll('.events img')].map(({loading, src}) =>
        loading === 'lazy' && src.includes('width=192'))";
    assert_eq!(browser.run(are_small_and_lazy, json!([])).await, json!([true, true]));

    let again = Load::of(&browser, &page(&service)).await;
    again.print("again");
    let files = again.files();
    assert!(files.len() <= 1 && bytes(&files) < MAX_BYTES_AGAIN, "{files:?}");
    assert!(again.at("events") < first.at("events"), "{}", again.0);
}

#[tokio::test]
async fn an_event_that_arrives_between_the_list_and_the_stream_is_shown() {
    let (service, _broker, browser) = slow_browser().await;
    browser.open("about:blank").await;
    browser.start_opening(&page(&service)).await;
    browser.wait_until("return document.querySelectorAll('.events li').length > 0").await;
    let is_first_view = "return document.querySelector('.keys-help') === null";
    assert_eq!(browser.run(is_first_view, json!([])).await, json!(true), "the stream is not open yet");
    let _ = service.post_event(&event("between", "A fox in the garden")).await.expect(202);
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
