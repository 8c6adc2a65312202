//! A real browser: Debian's chromium, driven through chromedriver by the W3C's WebDriver protocol, which is JSON over HTTP
//! and needs no more than the HTTP client that is here anyway.
//!
//! Everything ends when the [`Browser`] is dropped. It loads what a test tells it to, from loopback, and nothing else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::child::ChildProcess;
use crate::ports::free_port;
use crate::wait::{POLL, wait_until};

const START: Duration = Duration::from_secs(30);
/// How long a thing may take to appear on the page, on a machine that is busy.
const SOON: Duration = Duration::from_secs(15);
const COMMAND: Duration = Duration::from_mins(1);

/// No sandbox: tests may run as root. The rest keeps it from calling home.
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

/// A browser with one page, and nothing remembered.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    port: u16,
    session: String,
    _profile: TempDir,
    _driver: ChildProcess,
}

impl Browser {
    /// A browser, started.
    ///
    /// # Panics
    ///
    /// When it does not start within 30 s.
    pub async fn start() -> Self {
        let profile = TempDir::with_prefix("chromium-").expect("a temporary directory can be made");
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = ChildProcess::spawn("chromedriver", &mut command);
        let client = Client::builder().no_proxy().timeout(COMMAND).build().expect("a client can be built");
        let status = format!("http://127.0.0.1:{port}/status");
        wait_until("chromedriver answers", START, async || client.get(&status).send().await.is_ok()).await;
        let profile_flag = format!("--user-data-dir={}", profile.path().display());
        let flags: Vec<_> = FLAGS.into_iter().chain([profile_flag.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": flags}}}});
        let mut browser = Self { client, port, session: String::new(), _profile: profile, _driver: driver };
        let started = browser.send(Method::POST, "/session", &wanted).await;
        browser.session = started["sessionId"].as_str().map(str::to_owned).expect("a session");
        browser
    }

    /// Loads an address.
    pub async fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url })).await;
    }

    /// What a script returns.
    pub async fn run(&self, script: &str, arguments: Value) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": arguments})).await
    }

    /// A window of this size, as a telephone or a desktop has it.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size).await;
    }

    /// Light or dark; at once, without motion.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]});
        self.devtools("Emulation.setEmulatedMedia", &features).await;
    }

    /// The text that the page shows now.
    pub async fn text(&self) -> String {
        let text = self.run("return document.body.innerText", json!([])).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows a text.
    ///
    /// # Panics
    ///
    /// When it does not within 15 s, with what it shows instead.
    pub async fn sees(&self, text: &str) {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let shown = self.text().await;
            if shown.contains(text) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "the page does not show {text:?}, but: {shown}");
            sleep(POLL).await;
        }
    }

    /// Waits until a script returns true.
    ///
    /// # Panics
    ///
    /// When it does not within 15 s.
    pub async fn holds(&self, script: &str) {
        wait_until(script, SOON, async || self.run(script, json!([])).await == json!(true)).await;
    }

    /// Clicks what this selector finds, as a person would: it must be there, and nothing in front of it.
    pub async fn click(&self, selector: &str) {
        self.click_by("css selector", selector).await;
    }

    /// Clicks the button with this text.
    pub async fn press(&self, button: &str) {
        self.click_by("xpath", &format!("//button[normalize-space()='{button}']")).await;
    }

    /// In the middle of the window, where nothing that sticks to its edges is in front of it. What the page drew anew
    /// meanwhile is looked for again.
    async fn click_by(&self, using: &str, what: &str) {
        let centre = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
        for _ in 0..5 {
            let element = self.find_by(using, what).await;
            let scroll = json!({"script": centre, "args": [element]});
            let click = self.path(&format!("/element/{}/click", id_of(&element)));
            let clicked = match self.try_send(Method::POST, &self.path("/execute/sync"), &scroll).await {
                Ok(_) => self.try_send(Method::POST, &click, &json!({})).await,
                Err(error) => Err(error),
            };
            match clicked {
                Ok(_) => return,
                Err(error) => assert!(error.contains("stale element"), "{what}: {error}"),
            }
        }
        panic!("{what} does not stay on the page");
    }

    /// Types into a field, in the place of what was there.
    pub async fn enter(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        let element = id_of(&element);
        self.command(&format!("/element/{element}/clear"), &json!({})).await;
        self.command(&format!("/element/{element}/value"), &json!({ "text": text })).await;
    }

    /// Writes what is seen to a PNG file.
    pub async fn screenshot(&self, file: &Path) {
        let picture = self.send(Method::GET, &self.path("/screenshot"), &Value::Null).await;
        fs::write(file, decoded(picture.as_str().expect("a picture"))).expect("the picture can be written");
    }

    async fn find(&self, selector: &str) -> Value {
        self.find_by("css selector", selector).await
    }

    /// Waits until it is there.
    async fn find_by(&self, using: &str, what: &str) -> Value {
        let query = json!({"using": using, "value": what});
        let mut found = Value::Null;
        wait_until(what, SOON, async || {
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

    /// What the driver answers, or why it did not do it.
    async fn try_send(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let mut request = self.client.request(method, format!("http://127.0.0.1:{}{path}", self.port));
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.expect("chromedriver answers");
        let status = response.status();
        let mut answer: Value = response.json().await.expect("chromedriver answers with JSON");
        if status.is_success() {
            Ok(answer["value"].take())
        } else {
            Err(answer["value"]["message"].to_string())
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser when the session ends, but not when it is killed. What fails here fails with it.
        let ask = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(
                stream,
                "DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                self.path("")
            )?;
            stream.read(&mut [0; 64]).map(drop)
        };
        let _ = ask();
    }
}

/// An element is an object with its id as the only value.
fn id_of(element: &Value) -> &str {
    let id = element.as_object().and_then(|one| one.values().next());
    id.and_then(Value::as_str).expect("an element has an id")
}

/// The bytes of a text in base64.
fn decoded(text: &str) -> Vec<u8> {
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
    fn pictures_are_decoded() {
        assert_eq!(decoded("bGl2ZW9iamVjdA=="), b"liveobject");
        assert_eq!(decoded("/+8="), [0xff, 0xef]);
    }
}
