//! A classifier with the service in its own process: the test binary, run once more.
//!
//! It is told what to do on standard input (`rate 300`, `settings {…}`; its end: stop), and writes a line for each receipt
//! to standard output: the event's number and its seq.

use std::{
    fs::{self, File},
    io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use actix::prelude::*;
use liveobject_actors::{
    EventInput, PublishError, PublishEvent, Receipt, Service, ServiceOptions, config::ReplaceSettings,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{ledgers::Origin, clock::Clock};

const DIRECTORY: &str = "SOAK_CLASSIFIER_DIR";
const FIRST: &str = "SOAK_FIRST_NUMBER";
/// Numbers that one life of it may use.
const NUMBERS: u64 = 100_000_000;
const POLL: Duration = Duration::from_millis(10);
const AGAIN: Duration = Duration::from_millis(50);
/// How many events may be without a receipt at once.
const MOST_UNDER_WAY: usize = 400;

struct Classifier {
    publish: Recipient<PublishEvent>,
    next: u64,
    per_second: u32,
    /// How many events are due, in thousandths.
    due: u32,
    under_way: usize,
}

impl Actor for Classifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(POLL, Self::look);
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
    fn look(&mut self, ctx: &mut Context<Self>) {
        self.due = (self.due + self.per_second * 10).min(self.per_second.max(1) * 1000);
        while self.due >= 1000 && self.under_way < MOST_UNDER_WAY {
            self.due -= 1000;
            self.under_way += 1;
            self.next += 1;
            self.send(self.next, ctx);
        }
    }

    fn send(&mut self, number: u64, ctx: &mut Context<Self>) {
        let sent = self.publish.send(PublishEvent::new(event(number))).into_actor(self);
        ctx.spawn(sent.map(move |answer, actor, ctx| actor.answered(number, answer, ctx)));
    }

    fn answered(
        &mut self,
        number: u64,
        answer: Result<Result<Receipt, PublishError>, MailboxError>,
        ctx: &mut Context<Self>,
    ) {
        if let Ok(Ok(receipt)) = answer {
            self.under_way -= 1;
            println!("{number} {}", receipt.seq.0);
        } else {
            ctx.run_later(AGAIN, move |actor, ctx| actor.send(number, ctx));
        }
    }
}

fn event(number: u64) -> liveobject_actors::DetectionEvent {
    let input = EventInput {
        event_id: Some(Origin::Actors.event_id(number)),
        camera_id: format!("embedded-{}", number % 5),
        description: "Person at the door with a package".to_owned(),
        objects_detected: vec!["person".to_owned(), "package".to_owned()],
        confidence: 91,
        ..EventInput::default()
    };
    input.validate().expect("a good event")
}

#[actix::test]
#[ignore = "the siege runs it in a process of its own"]
async fn classifies_until_its_input_ends() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let first = std::env::var(FIRST).ok().and_then(|first| first.parse().ok()).expect("the first number");
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    let mut service = Service::start(ServiceOptions::in_dir(directory)).await.expect("the service starts");
    let handle = service.handle();
    let publish = handle.publish.clone();
    let classifier = Classifier { publish, next: first, per_second: 0, due: 0, under_way: 0 }.start();
    let mut orders = orders();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            actor = service.crashed() => panic!("{actor} crashed"),
        };
        let Some(order) = order else { break };
        if let Some(settings) = order.strip_prefix("settings ") {
            let settings: Value = serde_json::from_str(settings).expect("settings are JSON");
            while handle
                .replace_settings
                .send(ReplaceSettings(settings.clone()))
                .await
                .is_ok_and(|done| done.is_err())
            {
                tokio::time::sleep(AGAIN).await;
            }
        } else if let Some(rate) = order.strip_prefix("rate ") {
            classifier.send(Rate(rate.parse().expect("a number"))).await.expect("the classifier lives");
        }
    }
    service.stop().await;
}

fn orders() -> UnboundedReceiver<String> {
    let (orders, inbox) = unbounded_channel();
    std::thread::spawn(move || {
        // Nobody reads any more when the process ends.
        std::io::stdin().lock().lines().map_while(Result::ok).all(|line| orders.send(line).is_ok())
    });
    inbox
}

/// That process, from outside.
#[derive(Debug)]
pub struct Embedded {
    data_dir: PathBuf,
    outputs: TempDir,
    environment: Vec<(&'static str, String)>,
    settings: Value,
    per_second: u32,
    lives: u64,
    read: u64,
    running: Option<(Child, ChildStdin)>,
}

impl Embedded {
    /// Without a data directory it has one of its own.
    pub fn new(data_dir: Option<PathBuf>, environment: Vec<(&'static str, String)>) -> Self {
        let outputs = TempDir::with_prefix("soak-classifier-").expect("a temporary directory can be made");
        let data_dir = data_dir.unwrap_or_else(|| outputs.path().join("data"));
        let (settings, per_second) = (Value::Null, 0);
        Self { data_dir, outputs, environment, settings, per_second, lives: 0, read: 0, running: None }
    }

    pub fn start(&mut self) {
        assert!(self.running.is_none(), "the classifier runs already");
        let append = |name: &str| {
            let file = File::options().create(true).append(true).open(self.outputs.path().join(name));
            file.expect("a file for the output can be opened")
        };
        let mut child = Command::new(std::env::current_exe().expect("this binary has a path"))
            .args([
                "--exact",
                "soak::classifier::classifies_until_its_input_ends",
                "--ignored",
                "--nocapture",
            ])
            .env(DIRECTORY, &self.data_dir)
            .env(FIRST, (self.lives * NUMBERS).to_string())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(append("stdout"))
            .stderr(append("stderr"))
            .spawn()
            .expect("the classifier can be started");
        self.lives += 1;
        let orders = child.stdin.take().expect("its input is ours");
        self.running = Some((child, orders));
        self.say();
    }

    pub fn set(&mut self, settings: Value) {
        self.settings = settings;
        self.say();
    }

    pub fn rate(&mut self, per_second: u32) {
        self.per_second = per_second;
        self.say();
    }

    /// Repeating what it knows does no harm.
    fn say(&mut self) {
        let text = format!("settings {}\nrate {}\n", self.settings, self.per_second);
        if let Some((_, orders)) = &mut self.running {
            // It fails when the process has ended, which is seen elsewhere.
            let _ = orders.write_all(text.as_bytes());
        }
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |(child, _)| child.id())
    }

    pub fn kill9(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // Both fail only when it has ended already.
            let _ = (child.kill(), child.wait());
            Clock::remove_shared_memory(child.id());
        }
    }

    /// Ends it in good order; whether it did.
    pub async fn stop(&mut self) -> bool {
        let Some((mut child, orders)) = self.running.take() else { return true };
        drop(orders);
        for _ in 0..1500 {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                return status.success();
            }
            tokio::time::sleep(POLL).await;
        }
        let _ = (child.kill(), child.wait());
        false
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_some_and(|(child, _)| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// The receipts since the last time: number and seq.
    pub fn receipts(&mut self) -> Vec<(u64, u64)> {
        let mut text = String::new();
        let mut file = File::open(self.outputs.path().join("stdout")).expect("its output can be read");
        file.seek(SeekFrom::Start(self.read)).expect("it can be read on");
        file.read_to_string(&mut text).expect("it is text");
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += u64::try_from(whole).expect("small");
        let receipt = |line: &str| {
            let (number, seq) = line.split_once(' ')?;
            Some((number.parse().ok()?, seq.parse().ok()?))
        };
        text[..whole].lines().filter_map(receipt).collect()
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
