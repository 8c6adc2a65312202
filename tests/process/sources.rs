//! The programs in `packaging/sources/` and the examples of `docs/sources.md`, with real interpreters.
//!
//! A test prints a line and does nothing where its interpreter is missing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command as Blocking, ExitStatus, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liveobject_actors::domain::clock;
use liveobject_test_support::{JPEG, Mosquitto, Service, Subscriber, visitor, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::helpers::{LONG_TIMEOUT, StandIn, TIMEOUT, service};

const TOPIC: &str = "frigate/events";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Returns a Python that has this module.
fn python(module: &str) -> Option<&'static str> {
    let has_module = |python: &&str| {
        let import = format!("import {module}");
        let status = Blocking::new(python).args(["-c", &import]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has_module);
    if found.is_none() {
        println!("SKIPPED: no Python with the module {module}");
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn program(name: &str) -> PathBuf {
    root().join("packaging/sources").join(name)
}

fn testdata(name: &str) -> Value {
    let text = fs::read_to_string(root().join("tests/process/testdata").join(name)).expect("the file exists");
    serde_json::from_str(&text).expect("the file contains JSON")
}

/// Returns the time as Frigate writes it, in seconds.
fn now() -> Value {
    let text = format!("{}.0", clock::now().timestamp());
    serde_json::from_str(&text).expect("a number")
}

/// Returns a message of Frigate about a person, who is seen now in `front_door`.
fn frigate_event(id: &str, kind: &str) -> Value {
    let mut message = testdata("frigate_event.json");
    message["type"] = kind.into();
    for part in ["before", "after"] {
        message[part]["id"] = id.into();
        message[part]["frame_time"] = now();
    }
    message
}

/// A source that runs. It is killed when it is dropped.
struct Source {
    child: Child,
}

impl Source {
    fn start(command: &mut Command) -> Self {
        Self { child: command.kill_on_drop(true).spawn().expect("the program can be started") }
    }

    /// Stops the source with SIGTERM, and asserts that it exits with 0.
    async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).expect("it runs");
        kill_process(pid, Signal::TERM).expect("it can be signaled");
        let status = self.wait().await;
        assert!(status.success(), "{status}");
    }

    async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    async fn wait(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(LONG_TIMEOUT, self.child.wait()).await.expect("it ends in time");
        status.expect("it can be waited for")
    }
}

/// Frigate's broker and API, and a service that is connected to the same broker.
struct Frigate {
    broker: Mosquitto,
    subscriber: Subscriber,
    service: Service,
    api: StandIn,
    dir: TempDir,
    python: &'static str,
}

impl Frigate {
    /// Starts everything but the bridge. `list` is what Frigate's API returns as its events.
    async fn start(list: Vec<Value>) -> Option<Self> {
        let python = python("paho.mqtt")?;
        let broker = Mosquitto::start().await;
        let subscriber = Subscriber::start(broker.port()).await;
        let service = service().start().await;
        service.connect_to(broker.port()).await;
        service.wait_connected(TIMEOUT).await;
        let list = Value::from(list).to_string().into_bytes();
        let api = StandIn::start(0, move |path| match path {
            path if path.starts_with("/api/events?") => ("200 OK", list.clone()),
            // This object has no snapshot.
            path if path.contains("car") && path.ends_with("snapshot.jpg") => ("404 Not Found", Vec::new()),
            path if path.contains("car-") => ("404 Not Found", Vec::new()),
            _ => ("200 OK", JPEG.to_vec()),
        })
        .await;
        let dir = TempDir::new().expect("a temporary directory can be created");
        Some(Self { broker, subscriber, service, api, dir, python })
    }

    fn bridge(&self, options: &[&str]) -> Source {
        Source::start(
            Command::new(self.python)
                .arg(program("frigate.py"))
                .args(options)
                .env("LIVEOBJECT_TOKEN", self.service.token())
                .env("LIVEOBJECT_URL", format!("http://127.0.0.1:{}", self.service.port()))
                .env("FRIGATE_URL", self.api.url())
                .env("MQTT_PORT", self.broker.port().to_string())
                .env("SPOOL", self.spool())
                .env("NO_PROXY", "127.0.0.1")
                .env("PYTHONDONTWRITEBYTECODE", "1"),
        )
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Returns the number of events on disk.
    fn spooled(&self) -> usize {
        let files = fs::read_dir(self.spool()).expect("the directory exists").flatten();
        files.filter(|file| file.path().extension().is_some_and(|end| end == "json")).count()
    }

    /// Starts the bridge and waits until it has subscribed.
    async fn subscribed_bridge(&self, options: &[&str]) -> Source {
        let bridge = self.bridge(options);
        let probe = frigate_event("probe", "end");
        wait_until("the bridge receives messages", TIMEOUT, async || {
            self.publish(&probe).await;
            !self.accepted().await.is_empty()
        })
        .await;
        bridge
    }

    async fn publish(&self, message: &Value) {
        visitor::publish(self.broker.port(), TOPIC, &message.to_string(), false).await;
    }

    /// Returns the ids of the accepted events, in order.
    async fn accepted(&self) -> Vec<String> {
        accepted(&self.service).await
    }

    async fn wait_accepted(&self, ids: &[&str]) {
        let ids: Vec<String> = ids.iter().map(|id| format!("frigate:{id}")).collect();
        wait_until("the events are accepted", LONG_TIMEOUT, async || {
            self.accepted().await.len() >= ids.len()
        })
        .await;
        assert_eq!(self.accepted().await, ids);
    }
}

/// Returns the ids of the events that the service has accepted, in order.
async fn accepted(service: &Service) -> Vec<String> {
    let list = service.get("/api/v1/events").await.expect(200);
    let id = |event: &Value| event["event_id"].as_str().expect("an id").to_owned();
    list["events"].as_array().expect("a list").iter().rev().map(id).collect()
}

#[tokio::test]
async fn each_object_of_frigate_becomes_one_event_with_its_picture() {
    let Some(frigate) = Frigate::start(Vec::new()).await else { return };
    let bridge = frigate.subscribed_bridge(&[]).await;
    for kind in ["new", "update", "update", "end"] {
        let mut message = frigate_event("1764399600.123456-person", kind);
        message["after"]["sub_label"] = json!(["John Smith", 0.79]);
        frigate.publish(&message).await;
    }
    let mut unconfirmed = frigate_event("1764399600.123456-ghost", "new");
    unconfirmed["after"]["false_positive"] = true.into();
    frigate.publish(&unconfirmed).await;
    visitor::publish(frigate.broker.port(), TOPIC, "not JSON", false).await;
    let mut car = frigate_event("1764399600.123456-car", "new");
    car["after"]["label"] = "car".into();
    car["after"]["sub_label"] = "fedex".into();
    car["after"]["entered_zones"] = json!(["yard", "drive_way"]);
    frigate.publish(&car).await;
    frigate.wait_accepted(&["probe", "1764399600.123456-person", "1764399600.123456-car"]).await;

    let events = frigate.subscriber.wait_for_events(3, TIMEOUT).await;
    assert_eq!(events[1]["camera_id"], "front_door");
    assert_eq!(events[1]["description"], "Person (John Smith) detected in yard");
    assert_eq!(events[1]["objects_detected"], json!(["person"]));
    assert_eq!(events[1]["confidence"], 88);
    assert_eq!(events[2]["description"], "Car (FedEx) detected in yard and drive way");
    assert_eq!(events[2]["objects_detected"], json!(["vehicle", "car"]));
    assert_eq!(events[2]["delivery_carrier"], "fedex");
    for event in &events[1..] {
        let id = event["event_id"].as_str().expect("an id");
        let request =
            frigate.service.request(reqwest::Method::GET, &format!("/api/v1/events/{id}/thumbnail"));
        let response = request.send().await.expect("a response");
        assert_eq!(response.bytes().await.expect("a body"), JPEG, "{id}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn old_objects_of_frigate_do_not_wait_for_pictures_that_are_missing() {
    const OLD: u32 = 20;
    let old = |number: u32| {
        let mut item = testdata("frigate_list_item.json");
        item["id"] = format!("car-{number:02}").into();
        item["start_time"] = (clock::now().timestamp() - 3000 + i64::from(number)).into();
        item
    };
    let Some(frigate) = Frigate::start((0..OLD).map(old).collect()).await else { return };
    // The bridge requests the objects since this time.
    fs::create_dir(frigate.spool()).expect("the directory can be created");
    let position = (clock::now().timestamp() - 3600).to_string();
    fs::write(frigate.spool().join("position"), position).expect("the file can be written");
    let bridge = frigate.bridge(&[]);
    let ids: Vec<String> = (0..OLD).map(|number| format!("car-{number:02}")).collect();
    frigate.wait_accepted(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let requests = frigate.api.paths().iter().filter(|path| path.contains("/car-")).count();
    assert_eq!(requests, 2 * ids.len(), "each picture is requested once");
    bridge.stop().await;
}

#[tokio::test]
async fn an_object_of_frigate_is_sent_when_it_first_passes_the_filters() {
    let Some(frigate) = Frigate::start(Vec::new()).await else { return };
    let options =
        ["--zones", "yard,porch", "--labels", "person", "--cameras", "front_door", "--min-score", "0.8"];
    let bridge = frigate.subscribed_bridge(&options).await;
    let changed = |id: &str, name: &str, value: Value| {
        let mut message = frigate_event(id, "new");
        message["after"][name] = value;
        message
    };
    for message in [
        changed("other-label", "label", "dog".into()),
        changed("other-camera", "camera", "garden".into()),
        changed("late-zone", "entered_zones", json!(["street"])),
        changed("low-score", "top_score", 0.5.into()),
    ] {
        let mut message = message;
        message["after"]["score"] = 0.5.into();
        frigate.publish(&message).await;
    }
    frigate.publish(&changed("late-zone", "entered_zones", json!(["street", "porch"]))).await;
    frigate.wait_accepted(&["probe", "late-zone"]).await;
    let event = frigate.service.get("/api/v1/events/frigate:late-zone").await.expect(200);
    assert_eq!(event["description"], "Person detected in street and porch");
    bridge.stop().await;
}

#[tokio::test]
async fn no_object_of_frigate_is_lost_or_repeated_when_the_bridge_or_the_service_restarts() {
    let mut missed = testdata("frigate_list_item.json");
    missed["id"] = "missed".into();
    missed["start_time"] = now();
    let Some(mut frigate) = Frigate::start(vec![missed]).await else { return };
    let bridge = frigate.subscribed_bridge(&[]).await;

    // The service is down, and the bridge is killed before it can send the events. When the second is on disk,
    // the broker has the acknowledgement of the first.
    frigate.service.kill9().await;
    for (count, id) in [(1, "while-service-is-down"), (2, "second")] {
        frigate.publish(&frigate_event(id, "new")).await;
        wait_until("the event is on disk", TIMEOUT, async || frigate.spooled() >= count).await;
    }
    bridge.kill().await;
    // The broker keeps this message for the session of the bridge.
    frigate.publish(&frigate_event("while-bridge-is-down", "new")).await;
    frigate.service.start().await;

    // Frigate's list contains one more, whose message the broker did not keep.
    let bridge = frigate.bridge(&[]);
    wait_until("the events are accepted", TIMEOUT, async || frigate.accepted().await.len() >= 5).await;
    for kind in ["update", "end"] {
        frigate.publish(&frigate_event("while-service-is-down", kind)).await;
    }
    frigate.publish(&frigate_event("last", "new")).await;
    wait_until("the last event is accepted", TIMEOUT, async || frigate.accepted().await.len() >= 6).await;
    let mut ids = frigate.accepted().await;
    assert_eq!(ids.first().expect("an event"), "frigate:probe");
    assert_eq!(ids.last().expect("an event"), "frigate:last");
    ids.sort();
    let expected = ["last", "missed", "probe", "second", "while-bridge-is-down", "while-service-is-down"];
    assert_eq!(ids, expected.map(|id| format!("frigate:{id}")));
    bridge.stop().await;
}

#[tokio::test]
async fn a_webhook_of_unifi_protect_becomes_one_event_per_trigger() {
    let Some(python) = python("http.server") else { return };
    let service = service().start().await;
    let dir = TempDir::new().expect("a temporary directory can be created");
    // Neither a damaged file nor an event that the service refuses stops those behind it.
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).expect("a directory can be created");
    fs::write(spool.join("1.json"), "damaged").expect("the file can be written");
    let invalid = json!({ "event": { "camera_id": "not valid" }, "picture_url": null });
    fs::write(spool.join("2.json"), invalid.to_string()).expect("the file can be written");
    let port = liveobject_test_support::free_port();
    let receiver = Source::start(
        Command::new(python)
            .arg(program("unifi_protect.py"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--camera", "68:d7:9a:e5:ab:e9=drive:The drive"])
            .env("LIVEOBJECT_TOKEN", service.token())
            .env("LIVEOBJECT_URL", format!("http://127.0.0.1:{}", service.port()))
            .env("WEBHOOK_SECRET", SECRET)
            .env("SPOOL", &spool)
            .env("NO_PROXY", "127.0.0.1")
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
    let client = reqwest::Client::new();
    let call = async |path: &str, body: String| {
        let response = client.post(format!("http://127.0.0.1:{port}/{path}")).body(body).send().await;
        response.map(|response| response.status().as_u16()).ok()
    };
    let mut alarm = testdata("protect_alarm.json");
    alarm["alarm"]["thumbnail"] = format!("data:image/jpeg;base64,{}", STANDARD.encode(JPEG)).into();
    wait_until("the receiver listens", TIMEOUT, async || call("guess", String::new()).await == Some(404))
        .await;
    assert_eq!(call(SECRET, "{}".to_owned()).await, Some(400));
    // Two alarms for the same detection.
    for _ in 0..2 {
        assert_eq!(call(SECRET, alarm.to_string()).await, Some(200));
    }
    alarm["alarm"]["triggers"] = json!([{ "key": "line_crossed", "device": "E063DA01A4CE" }]);
    assert_eq!(call(SECRET, alarm.to_string()).await, Some(200));
    wait_until("the events are accepted", LONG_TIMEOUT, async || accepted(&service).await.len() >= 3).await;
    receiver.stop().await;
    assert_eq!(crate::helpers::names(&spool.join("refused")), ["1.json", "2.json"]);

    let list = service.get("/api/v1/events").await.expect(200);
    let events = list["events"].as_array().expect("a list");
    assert_eq!(events.len(), 3, "{events:?}");
    let [line, ring, vehicle] = [&events[0], &events[1], &events[2]];
    assert_eq!(vehicle["event_id"], "protect:6825b65401986503e417318f:vehicle");
    assert_eq!((&vehicle["camera_id"], &vehicle["camera_name"]), (&json!("drive"), &json!("The drive")));
    assert_eq!(vehicle["timestamp"], "2025-11-29T07:00:00.123Z");
    assert_eq!((&vehicle["has_thumbnail"], &ring["has_thumbnail"]), (&json!(true), &json!(false)));
    assert_eq!(
        (&ring["camera_id"], &ring["is_doorbell_ring"]),
        (&json!("protect_e063da01a4ce"), &json!(true))
    );
    assert_eq!(line["description"], "Line crossed detected");
}

/// Returns the code blocks of `docs/sources.md` in this language that use the environment of a source.
fn examples(language: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/sources.md")).expect("the page exists");
    let blocks = page.split("```").skip(1).step_by(2);
    let code = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    code.filter(|code| code.contains("LIVEOBJECT_TOKEN") && !code.contains("WEBHOOK_SECRET"))
        .map(str::to_owned)
        .collect()
}

/// Starts each example in a directory of its own, with a picture and two events to send.
fn start_examples(dir: &Path, service: &Service) -> Vec<Source> {
    let python = python("json").map(|python| (python, "python", "example.py"));
    let node = Blocking::new("node").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !node {
        println!("SKIPPED: no Node.js");
    }
    let node = node.then_some(("node", "js", "example.mjs"));
    let shell = Some(("sh", "sh", "example.sh"));
    let mut sources = Vec::new();
    for (interpreter, language, file) in [python, node, shell].into_iter().flatten() {
        let found = examples(language);
        assert!(!found.is_empty(), "docs/sources.md has no example in {language}");
        for (number, code) in found.into_iter().enumerate() {
            let dir = dir.join(format!("{language}{number}"));
            fs::create_dir(&dir).expect("a directory can be created");
            fs::write(dir.join(file), code).expect("the example can be written");
            fs::write(dir.join("snapshot.jpg"), JPEG).expect("the picture can be written");
            let line = |number: u8| {
                let id = format!("line-{number}");
                format!("{}\n", json!({ "event_id": id, "camera_id": "yard", "description": "A fox" }))
            };
            let lines = line(1) + &line(2);
            fs::write(dir.join("events.jsonl"), lines).expect("the events can be written");
            sources.push(Source::start(
                Command::new(interpreter)
                    .arg(file)
                    .current_dir(&dir)
                    .stdout(Stdio::null())
                    .env("LIVEOBJECT_TOKEN", service.token())
                    .env("LIVEOBJECT_URL", format!("http://127.0.0.1:{}", service.port()))
                    .env("PYTHONPATH", root().join("packaging/sources"))
                    .env("NO_PROXY", "127.0.0.1")
                    .env("PYTHONDONTWRITEBYTECODE", "1"),
            ));
        }
    }
    sources
}

#[tokio::test]
async fn the_examples_of_the_documentation_repeat_events_until_they_are_accepted() {
    let mut service = service().start().await;
    crate::helpers::stop(&mut service).await;
    let busy = "503 Service Unavailable\r\nRetry-After: 1";
    let refusing = StandIn::start(service.port(), move |_| (busy, Vec::new())).await;
    let dir = TempDir::new().expect("a temporary directory can be created");
    let sources = start_examples(dir.path(), &service);
    let count = sources.len();
    wait_until("each example has sent its events", TIMEOUT, async || refusing.paths().len() >= count).await;
    drop(refusing);
    service.start().await;
    for mut source in sources {
        let status = source.wait().await;
        assert!(status.success(), "{status}");
    }
    // The batch has two events.
    assert_eq!(accepted(&service).await.len(), count + 1);
    for name in ["sh1/events.jsonl", "sh1/sending.jsonl"] {
        assert!(!dir.path().join(name).exists(), "{name} is left");
    }
}

#[test]
fn the_import_links_lead_to_the_blueprints() {
    let page = fs::read_to_string(root().join("docs/home-assistant.md")).expect("the page exists");
    let directory = "packaging/homeassistant/blueprints/automation/liveobject";
    let names = crate::helpers::names(&root().join(directory));
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        let address = format!("{}/blob/main/{directory}/{name}", env!("CARGO_PKG_REPOSITORY"));
        let text = fs::read_to_string(root().join(directory).join(&name)).expect("the file exists");
        assert!(text.contains(&format!("source_url: {address}\n")), "{name}");
        let encoded = address.replace(':', "%3A").replace('/', "%2F");
        assert!(page.contains(&format!("blueprint_url={encoded}\n")), "{name} has no import link");
    }
}
