//! Debian's firefox-esr, controlled through WebDriver BiDi.
//!
//! Firefox itself serves this protocol, which is JSON over a WebSocket, so no driver is needed (Debian 12 has none).
//! Dropping the [`Firefox`] ends its process. The browser loads only the pages that a test opens.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::child::ChildProcess;
use crate::ports::free_port;
use crate::wait::{wait_for_script, wait_for_text, wait_until};

const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Time limit for a change to the page, on a busy machine.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// Prevents requests to the vendor, and pages that no test opens.
const PREFERENCES: &str = r#"
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.contentblocking.introCount", 99);
user_pref("browser.newtabpage.enabled", false);
user_pref("browser.safebrowsing.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("browser.startup.page", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("dom.security.https_first", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,#remote-settings-dummy/v1");
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
"#;

/// A browser with one page and an empty profile.
#[derive(Debug)]
pub struct Firefox {
    socket: Mutex<Socket>,
    /// The tab.
    context: String,
    _process: ChildProcess,
    _profile: TempDir,
}

#[derive(Debug)]
struct Socket {
    stream: WebSocketStream<TcpStream>,
    last_id: u64,
}

impl Firefox {
    /// Starts a browser whose user prefers these languages, such as `de, en`.
    ///
    /// # Panics
    ///
    /// Panics if it does not start within a minute.
    pub async fn start(languages: &str) -> Self {
        let profile = TempDir::with_prefix("firefox-").expect("a temporary directory can be created");
        let preferences = format!("{PREFERENCES}user_pref(\"intl.accept_languages\", \"{languages}\");\n");
        fs::write(profile.path().join("user.js"), preferences).expect("the profile can be written");
        let port = free_port();
        let mut command = Command::new("firefox-esr");
        command
            .args(["--headless", "--new-instance", "--remote-debugging-port", &port.to_string(), "--profile"])
            .arg(profile.path())
            .arg("about:blank")
            // Firefox refuses to run as root in the home directory of somebody else.
            .env("HOME", profile.path())
            .env("MOZ_CRASHREPORTER_DISABLE", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = ChildProcess::spawn("firefox-esr", &mut command);
        let mut stream = None;
        wait_until("Firefox accepts connections", START_TIMEOUT, async || {
            stream = connect(port).await;
            stream.is_some()
        })
        .await;
        let socket = Socket { stream: stream.expect("it is connected"), last_id: 0 };
        let mut browser =
            Self { socket: Mutex::new(socket), context: String::new(), _process: process, _profile: profile };
        let _ = browser.send("session.new", json!({"capabilities": {}})).await;
        let tree = browser.send("browsingContext.getTree", json!({})).await;
        browser.context = tree["contexts"][0]["context"].as_str().map(str::to_owned).expect("a tab");
        browser
    }

    /// Loads an address.
    pub async fn open(&self, url: &str) {
        let parameters = json!({"context": self.context, "url": url, "wait": "complete"});
        let _ = self.send("browsingContext.navigate", parameters).await;
    }

    /// Sets the size of the page, for example to that of a phone.
    pub async fn resize(&self, width: u32, height: u32) {
        let parameters = json!({"context": self.context, "viewport": {"width": width, "height": height}});
        let _ = self.send("browsingContext.setViewport", parameters).await;
    }

    /// Runs a script and returns its result.
    pub async fn run(&self, script: &str, arguments: Value) -> Value {
        // The result is passed as a text, which needs no further protocol.
        let function = format!(
            "async (texts) => JSON.stringify(await (function () {{ {script} }}).apply(null, JSON.parse(texts)) ?? null)"
        );
        let parameters = json!({"functionDeclaration": function, "awaitPromise": true,
            "target": {"context": self.context}, "userActivation": true,
            "arguments": [{"type": "string", "value": arguments.to_string()}]});
        let result = self.send("script.callFunction", parameters).await;
        let text = result["result"]["value"].as_str().unwrap_or_else(|| panic!("{script}: {result}"));
        serde_json::from_str(text).expect("it is JSON")
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
    /// Panics with the text that the page shows instead if this takes longer than 20 s.
    pub async fn wait_for_text(&self, text: &str) {
        wait_for_text(text, PAGE_TIMEOUT, async || self.text().await).await;
    }

    /// Waits until a script returns true. Until then it may fail.
    ///
    /// # Panics
    ///
    /// Panics if it does not return true within 20 s.
    pub async fn wait_until(&self, script: &str) {
        wait_for_script(script, PAGE_TIMEOUT, async |script: &str| self.run(script, json!([])).await).await;
    }

    /// Clicks the element that matches the selector, like a person: it must be visible and not covered.
    pub async fn click(&self, selector: &str) {
        self.click_on(selector, "return document.querySelector(arguments[0])").await;
    }

    /// Clicks the button with this text.
    pub async fn press(&self, button: &str) {
        let find = "return [...document.querySelectorAll('button')].find((button) =>
            button.checkVisibility() && button.textContent.trim() === arguments[0])";
        self.click_on(button, find).await;
    }

    /// Scrolls an element to the middle of the window, where the sticky bars do not cover it, and clicks it.
    async fn click_on(&self, what: &str, find: &str) {
        let place = format!(
            "const element = (function () {{ {find} }}).apply(null, arguments);
            if (!element) return null;
            element.scrollIntoView({{block: 'center', behavior: 'instant'}});
            const {{left, top, width, height}} = element.getBoundingClientRect();
            const [x, y] = [left + width / 2, top + height / 2];
            const on = document.elementFromPoint(x, y);
            return on && (element.contains(on) || on.contains(element)) ? [Math.floor(x), Math.floor(y)] : null"
        );
        let mut found = Value::Null;
        wait_until(what, PAGE_TIMEOUT, async || {
            found = self.run(&place, json!([what])).await;
            found.is_array()
        })
        .await;
        let actions = json!([{"type": "pointerMove", "x": found[0], "y": found[1]},
            {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]);
        self.perform(json!({"type": "pointer", "id": "mouse", "actions": actions})).await;
    }

    /// Replaces a field's content by typing.
    pub async fn enter(&self, selector: &str, text: &str) {
        self.click(selector).await;
        self.run("document.querySelector(arguments[0]).select()", json!([selector])).await;
        self.type_keys(text).await;
    }

    /// Presses keys, one for each character.
    pub async fn type_keys(&self, keys: &str) {
        let press =
            |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<_> = keys.chars().flat_map(press).collect();
        self.perform(json!({"type": "key", "id": "keyboard", "actions": actions})).await;
    }

    async fn perform(&self, source: Value) {
        let parameters = json!({"context": self.context, "actions": [source]});
        let _ = self.send("input.performActions", parameters).await;
    }

    /// Sends a command and returns its result.
    async fn send(&self, method: &str, parameters: Value) -> Value {
        let mut socket = self.socket.lock().await;
        let answer = timeout(COMMAND_TIMEOUT, socket.send(method, &parameters)).await;
        let answer = answer.unwrap_or_else(|_| panic!("Firefox does not respond to {method}"));
        assert!(answer["type"] == "success", "{method} {parameters}: {answer}");
        answer["result"].clone()
    }
}

impl Socket {
    async fn send(&mut self, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let command = json!({"id": self.last_id, "method": method, "params": parameters});
        self.stream.send(Message::text(command.to_string())).await.expect("Firefox is connected");
        loop {
            let message = self.stream.next().await.expect("Firefox is connected").expect("a message");
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).expect("Firefox sends JSON");
            if answer["id"] == json!(self.last_id) {
                return answer;
            }
        }
    }
}

async fn connect(port: u16) -> Option<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let (stream, _response) = client_async(format!("ws://127.0.0.1:{port}/session"), stream).await.ok()?;
    Some(stream)
}
