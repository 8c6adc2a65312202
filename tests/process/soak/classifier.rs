//! A classifier that embeds the service: the test binary, started a second time.
//!
//! It reads commands from standard input (`rate 300`, `settings {…}`) and stops at the end of the input. It
//! writes a line for each receipt to standard output: the event's number and its seq.

use std::{
    fs::{self, File},
    io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use actix::prelude::*;
use liveobject_actors::{
    EventInput, PublishError, PublishEvent, Receipt, Service, ServiceOptions,
    messages::config::ReplaceSettings,
};
use liveobject_test_support::FakeClock;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::ledgers::Origin;

/// Number of cameras. Event `a17` comes from `embedded-2`.
pub const EMBEDDED_CAMERAS: u64 = 5;
const DIRECTORY: &str = "SOAK_CLASSIFIER_DIR";
const FIRST_NUMBER: &str = "SOAK_FIRST_NUMBER";
/// Range of event numbers that each run of the process may use.
const NUMBERS_PER_RUN: u64 = 100_000_000;
const POLL: Duration = Duration::from_millis(10);
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Maximum number of events that wait for a receipt.
const MAX_AWAITING: usize = 400;

struct Classifier {
    publish: Recipient<PublishEvent>,
    next: u64,
    per_second: u32,
    /// Number of events that are due, in thousandths.
    due: u32,
    awaiting_receipt: usize,
}

impl Actor for Classifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(POLL, Self::send_due);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Rate(u32);

impl Handler<Rate> for Classifier {
    type Result = ();

    fn handle(&mut self, Rate(per_second): Rate, _: &mut Self::Context) {
        self.per_second = per_second;
    }
}

impl Classifier {
    fn send_due(&mut self, ctx: &mut Context<Self>) {
        self.due = (self.due + self.per_second * 10).min(self.per_second.max(1) * 1000);
        while self.due >= 1000 && self.awaiting_receipt < MAX_AWAITING {
            self.due -= 1000;
            self.awaiting_receipt += 1;
            self.next += 1;
            self.send(self.next, ctx);
        }
    }

    fn send(&mut self, number: u64, ctx: &mut Context<Self>) {
        let sent = self.publish.send(PublishEvent::new(event(number))).into_actor(self);
        ctx.spawn(sent.map(move |result, actor, ctx| actor.on_result(number, result, ctx)));
    }

    fn on_result(
        &mut self,
        number: u64,
        result: Result<Result<Receipt, PublishError>, MailboxError>,
        ctx: &mut Context<Self>,
    ) {
        if let Ok(Ok(receipt)) = result {
            self.awaiting_receipt -= 1;
            println!("{number} {}", receipt.seq.0);
        } else {
            ctx.run_later(RETRY_DELAY, move |actor, ctx| actor.send(number, ctx));
        }
    }
}

fn event(number: u64) -> liveobject_actors::DetectionEvent {
    let input = EventInput {
        event_id: Some(Origin::Actors.event_id(number)),
        camera_id: format!("embedded-{}", number % EMBEDDED_CAMERAS),
        description: "Person at the door with a package".to_owned(),
        objects_detected: vec!["person".to_owned(), "package".to_owned()],
        confidence: Some(91),
        ..EventInput::default()
    };
    input.validate().expect("the event is valid")
}

#[actix_rt::test(system = "liveobject_actors::System")]
#[ignore = "the soak test runs it in its own process"]
async fn classifier_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let first = std::env::var(FIRST_NUMBER).ok().and_then(|number| number.parse().ok());
    let first = first.expect("the parent process passes the first number");
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    let mut service = Service::start(ServiceOptions::in_dir(directory)).await.expect("the service starts");
    let handle = service.handle();
    let publish = handle.publish.clone();
    let classifier = Classifier { publish, next: first, per_second: 0, due: 0, awaiting_receipt: 0 }.start();
    let mut commands = read_commands();
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            actor = service.crashed() => panic!("{actor} crashed"),
        };
        let Some(command) = command else { break };
        if let Some(settings) = command.strip_prefix("settings ") {
            let settings: Value = serde_json::from_str(settings).expect("settings are JSON");
            while handle
                .replace_settings
                .send(ReplaceSettings::new(settings.clone()))
                .await
                .is_ok_and(|done| done.is_err())
            {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        } else if let Some(rate) = command.strip_prefix("rate ") {
            classifier.send(Rate(rate.parse().expect("a number"))).await.expect("the classifier runs");
        }
    }
    service.stop().await;
}

fn read_commands() -> UnboundedReceiver<String> {
    let (sender, commands) = unbounded_channel();
    std::thread::spawn(move || {
        // Sending fails when the process is stopping and the receiver is gone.
        std::io::stdin().lock().lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
    });
    commands
}

/// The parent's handle to the classifier process.
#[derive(Debug)]
pub struct Embedded {
    data_dir: PathBuf,
    outputs: TempDir,
    environment: Vec<(&'static str, String)>,
    settings: Value,
    per_second: u32,
    runs: u64,
    /// Number of bytes of the output that were read.
    read: u64,
    running: Option<(Child, ChildStdin)>,
}

impl Embedded {
    /// Creates a handle without starting the process. `None` uses a temporary data directory.
    pub fn new(data_dir: Option<PathBuf>, environment: Vec<(&'static str, String)>) -> Self {
        let outputs = TempDir::with_prefix("soak-classifier-").expect("a temporary directory can be created");
        let data_dir = data_dir.unwrap_or_else(|| outputs.path().join("data"));
        let (settings, per_second) = (Value::Null, 0);
        Self { data_dir, outputs, environment, settings, per_second, runs: 0, read: 0, running: None }
    }

    pub fn start(&mut self) {
        assert!(self.running.is_none(), "the classifier is already running");
        let append = |name: &str| {
            let file = File::options().create(true).append(true).open(self.outputs.path().join(name));
            file.expect("the output file can be opened")
        };
        let mut child = Command::new(std::env::current_exe().expect("this binary has a path"))
            .args(["--exact", "soak::classifier::classifier_process", "--ignored", "--nocapture"])
            .env(DIRECTORY, &self.data_dir)
            .env(FIRST_NUMBER, (self.runs * NUMBERS_PER_RUN).to_string())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(append("stdout"))
            .stderr(append("stderr"))
            .spawn()
            .expect("the classifier can be started");
        self.runs += 1;
        let stdin = child.stdin.take().expect("the input is a pipe");
        self.running = Some((child, stdin));
        self.send(&format!("settings {}", self.settings));
        self.send(&format!("rate {}", self.per_second));
    }

    pub fn set_settings(&mut self, settings: Value) {
        self.settings = settings;
        self.send(&format!("settings {}", self.settings));
    }

    /// Sets the rate, unless it is the current one.
    pub fn set_rate(&mut self, per_second: u32) {
        if per_second != self.per_second {
            self.per_second = per_second;
            self.send(&format!("rate {per_second}"));
        }
    }

    /// Sends a command.
    fn send(&mut self, command: &str) {
        if let Some((_, stdin)) = &mut self.running {
            // Writing fails if the process has ended, which `has_ended` reports.
            let _ = writeln!(stdin, "{command}");
        }
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |(child, _)| child.id())
    }

    pub fn kill9(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // Both fail only if the process has already ended.
            let _ = (child.kill(), child.wait());
            FakeClock::remove_shared_memory(child.id());
        }
    }

    /// Stops the process gracefully. Returns whether it exited with success in time.
    pub async fn stop(&mut self) -> bool {
        let Some((mut child, stdin)) = self.running.take() else { return true };
        drop(stdin);
        for _ in 0..1500 {
            if let Some(status) = child.try_wait().expect("a child process can be waited for") {
                return status.success();
            }
            tokio::time::sleep(POLL).await;
        }
        let _ = (child.kill(), child.wait());
        false
    }

    /// Returns whether the process exited although the parent did not stop it.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_some_and(|(child, _)| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// Returns the receipts since the last call: number and seq.
    pub fn new_receipts(&mut self) -> Vec<(u64, u64)> {
        let mut text = String::new();
        let mut file = File::open(self.outputs.path().join("stdout")).expect("the output can be read");
        file.seek(SeekFrom::Start(self.read)).expect("a file can be read from any position");
        file.read_to_string(&mut text).expect("the output is text");
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += u64::try_from(complete).expect("small");
        let receipt = |line: &str| {
            let (number, seq) = line.split_once(' ')?;
            Some((number.parse().ok()?, seq.parse().ok()?))
        };
        text[..complete].lines().filter_map(receipt).collect()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.outputs.path().join("stderr")).unwrap_or_default()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.kill9();
    }
}
