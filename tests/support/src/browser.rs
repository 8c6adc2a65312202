//! A real browser: Debian's chromium, controlled through chromedriver.
//!
//! The W3C WebDriver protocol is JSON over HTTP, so it needs no dependency besides the HTTP client. Dropping
//! the [`Browser`] ends both processes. The browser loads only the pages that a test opens.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::ChildProcess;
use crate::ports::free_port;
use crate::wait::{wait_for_script, wait_for_text, wait_until};

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for a change to the page, on a busy machine.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// The sandbox is off because tests may run as root. The other flags prevent requests to the vendor.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one page and an empty profile.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    port: u16,
    session: String,
    _profile: TempDir,
    _driver: ChildProcess,
}

impl Browser {
    /// Starts a browser in English.
    ///
    /// # Panics
    ///
    /// Panics if it does not start within 30 s.
    pub async fn start() -> Self {
        Self::start_in("en-US,en").await
    }

    /// Starts a browser that prefers these languages, such as `de-DE,de`.
    ///
    /// # Panics
    ///
    /// Panics if it does not start within 30 s.
    pub async fn start_in(languages: &str) -> Self {
        let profile = TempDir::with_prefix("chromium-").expect("a temporary directory can be created");
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = ChildProcess::spawn("chromedriver", &mut command);
        let client =
            Client::builder().no_proxy().timeout(COMMAND_TIMEOUT).build().expect("a client can be built");
        let status = format!("http://127.0.0.1:{port}/status");
        wait_until("chromedriver responds", START_TIMEOUT, async || client.get(&status).send().await.is_ok())
            .await;
        let profile_flag = format!("--user-data-dir={}", profile.path().display());
        let language_flag = format!("--accept-lang={languages}");
        let flags: Vec<_> =
            FLAGS.into_iter().chain([profile_flag.as_str(), language_flag.as_str()]).collect();
        let capabilities = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": flags}}}});
        let mut browser = Self { client, port, session: String::new(), _profile: profile, _driver: driver };
        let started = browser.send(Method::POST, "/session", &capabilities).await;
        browser.session = started["sessionId"].as_str().map(str::to_owned).expect("a session");
        browser
    }

    /// Loads an address.
    pub async fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url })).await;
    }

    /// Opens another tab, which hides the others, and loads an address in it. Returns the tab's handle.
    pub async fn open_tab(&self, url: &str) -> String {
        let opened = self.command("/window/new", &json!({"type": "tab"})).await;
        let handle = opened["handle"].as_str().expect("a tab has a handle").to_owned();
        self.show_tab(&handle).await;
        self.open(url).await;
        handle
    }

    /// Shows a tab. Later commands concern this one.
    pub async fn show_tab(&self, handle: &str) {
        self.command("/window", &json!({ "handle": handle })).await;
        self.devtools("Page.bringToFront", &json!({})).await;
    }

    /// Runs a script and returns its result.
    pub async fn run(&self, script: &str, arguments: Value) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": arguments})).await
    }

    /// Sets the window size, for example to that of a phone.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size).await;
    }

    /// Empties the browser's cache, and slows its network down: each request takes `latency_ms` longer, and all
    /// responses together have `bytes_per_second`.
    pub async fn use_slow_network(&self, latency_ms: u32, bytes_per_second: u32) {
        self.devtools("Network.enable", &json!({})).await;
        self.devtools("Network.clearBrowserCache", &json!({})).await;
        let conditions = json!({"offline": false, "latency": latency_ms,
            "downloadThroughput": bytes_per_second, "uploadThroughput": bytes_per_second});
        self.devtools("Network.emulateNetworkConditions", &conditions).await;
    }

    /// Runs a script in each page that is opened from now on, before the page's own scripts.
    pub async fn run_in_new_pages(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script })).await;
    }

    /// Lets requests for these addresses fail; `*` stands for anything. Replaces earlier patterns.
    pub async fn block_requests(&self, patterns: &[&str]) {
        self.devtools("Network.enable", &json!({})).await;
        self.devtools("Network.setBlockedURLs", &json!({ "urls": patterns })).await;
        // A cached file is not requested.
        self.devtools("Network.clearBrowserCache", &json!({})).await;
    }

    /// Uses the colors of high contrast, and turns animations off.
    pub async fn set_forced_colors(&self) {
        let features = json!({"features": [{"name": "forced-colors", "value": "active"},
            {"name": "prefers-reduced-motion", "value": "reduce"}]});
        self.devtools("Emulation.setEmulatedMedia", &features).await;
    }

    /// Sets the preferred color scheme, `light` or `dark`, and turns animations off.
    pub async fn set_color_scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]});
        self.devtools("Emulation.setEmulatedMedia", &features).await;
    }

    /// Returns the text that the page currently shows.
    pub async fn text(&self) -> String {
        let text = self.run("return document.body?.innerText ?? ''", json!([])).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows the given text.
    ///
    /// # Panics
    ///
    /// Panics with the text that the page shows instead if this takes longer than 15 s.
    pub async fn wait_for_text(&self, text: &str) {
        wait_for_text(text, PAGE_TIMEOUT, async || self.text().await).await;
    }

    /// Waits until a script returns true. Until then it may fail.
    ///
    /// # Panics
    ///
    /// Panics if it does not return true within 15 s.
    pub async fn wait_until(&self, script: &str) {
        wait_for_script(script, PAGE_TIMEOUT, async |script: &str| self.run(script, json!([])).await).await;
    }

    /// Clicks the element that matches the selector, like a person: it must be visible and not covered.
    pub async fn click(&self, selector: &str) {
        self.click_by("css selector", selector).await;
    }

    /// Clicks the button with this text.
    pub async fn press(&self, button: &str) {
        self.click_by("xpath", &format!("//button[normalize-space()='{button}']")).await;
    }

    /// Scrolls the element to the middle of the window, where the sticky bars do not cover it, and clicks it.
    /// Looks for the element again if the page has replaced it in the meantime.
    async fn click_by(&self, using: &str, selector: &str) {
        let scroll_script = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
        for _ in 0..5 {
            let element = self.find_by(using, selector).await;
            let scroll = json!({"script": scroll_script, "args": [element]});
            let click = self.path(&format!("/element/{}/click", id_of(&element)));
            let clicked = match self.try_send(Method::POST, &self.path("/execute/sync"), &scroll).await {
                Ok(_) => self.try_send(Method::POST, &click, &json!({})).await,
                Err(error) => Err(error),
            };
            match clicked {
                Ok(_) => return,
                Err(error) => assert!(error.contains("stale element"), "{selector}: {error}"),
            }
        }
        panic!("the page keeps replacing {selector}");
    }

    /// Replaces a field's content by typing. Waits until the field is visible and can be changed.
    pub async fn enter(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        let element = id_of(&element);
        let [displayed, enabled] =
            ["displayed", "enabled"].map(|state| self.path(&format!("/element/{element}/{state}")));
        let is = async |state: &str| self.send(Method::GET, state, &Value::Null).await == json!(true);
        wait_until(selector, PAGE_TIMEOUT, async || is(&displayed).await && is(&enabled).await).await;
        self.command(&format!("/element/{element}/clear"), &json!({})).await;
        self.command(&format!("/element/{element}/value"), &json!({ "text": text })).await;
    }

    /// Writes a screenshot to a PNG file.
    pub async fn screenshot(&self, file: &Path) {
        let picture = self.send(Method::GET, &self.path("/screenshot"), &Value::Null).await;
        fs::write(file, decode_base64(picture.as_str().expect("a picture")))
            .expect("the picture can be written");
    }

    async fn find(&self, selector: &str) -> Value {
        self.find_by("css selector", selector).await
    }

    /// Waits until the element exists.
    async fn find_by(&self, using: &str, selector: &str) -> Value {
        let query = json!({"using": using, "value": selector});
        let mut found = Value::Null;
        wait_until(selector, PAGE_TIMEOUT, async || {
            found = self.command("/elements", &query).await;
            found[0].is_object()
        })
        .await;
        found[0].take()
    }

    async fn devtools(&self, command: &str, parameters: &Value) {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await;
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        self.send(Method::POST, &self.path(path), body).await
    }

    fn path(&self, path: &str) -> String {
        format!("/session/{}{path}", self.session)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Value {
        self.try_send(method, path, body).await.unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// Returns the driver's response, or its error message.
    async fn try_send(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let mut request = self.client.request(method, format!("http://127.0.0.1:{}{path}", self.port));
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.expect("chromedriver responds");
        let status = response.status();
        let mut body: Value = response.json().await.expect("chromedriver responds with JSON");
        if status.is_success() { Ok(body["value"].take()) } else { Err(body["value"]["message"].to_string()) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver stops the browser at the end of the session, but not when the driver itself is killed.
        // Errors do not matter: they mean that the driver has already stopped.
        let end_session = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(
                stream,
                "DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                self.path("")
            )?;
            stream.read(&mut [0; 64]).map(drop)
        };
        let _ = end_session();
    }
}

/// Returns an element's id, which is the object's only value.
fn id_of(element: &Value) -> &str {
    let id = element.as_object().and_then(|object| object.values().next());
    id.and_then(Value::as_str).expect("an element has an id")
}

/// Decodes base64.
fn decode_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for letter in text.bytes() {
        let Some(value) = LETTERS.iter().position(|known| *known == letter) else { continue };
        bits = bits << 6 | u32::try_from(value).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("a byte"));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decode_base64("bGl2ZW9iamVjdA=="), b"liveobject");
        assert_eq!(decode_base64("/+8="), [0xff, 0xef]);
    }
}
