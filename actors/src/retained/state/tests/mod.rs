//! The state machine with times that the tests set, and a broker that answers at once.

mod clearing;
mod hand_over;
mod migration;
mod publishing;

use std::collections::BTreeMap;

use super::*;

pub(super) fn bytes(text: &str) -> Content {
    Content::Bytes(text.to_owned().into())
}

fn wanted(topics: &[(&str, &str)]) -> Vec<Wanted> {
    topics.iter().map(|(topic, text)| Wanted { topic: (*topic).to_owned(), content: bytes(text) }).collect()
}

fn group(kind: Kind, name: &str, topics: &[(&str, &str)]) -> Group {
    Group { kind, name: name.into(), wanted: wanted(topics), previous: Vec::new() }
}

fn state(name: &str, topics: &[(&str, &str)]) -> Group {
    group(Kind::State, name, topics)
}

fn device(name: &str, topics: &[(&str, &str)]) -> Group {
    group(Kind::Discovery, name, topics)
}

/// A device that may have been announced at `previous` before, and migrates from there.
fn migrating(name: &str, topics: &[(&str, &str)], previous: &[&str]) -> Group {
    let previous = previous.iter().map(|topic| PreviousTopic {
        topic: (*topic).to_owned(),
        migrates: true,
        foreign: topic.starts_with("legacy"),
    });
    Group { previous: previous.collect(), ..device(name, topics) }
}

fn external(topic: &str, kept_on_leave: bool) -> Wanted {
    Wanted { topic: topic.to_owned(), content: Content::External { kept_on_leave } }
}

/// Returns the text that stands for a target in these tests.
fn word(target: &Target) -> String {
    match target {
        Target::Content(Content::Bytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        Target::Content(Content::Thumbnail { seq, .. }) => format!("picture {}", seq.0),
        Target::Content(Content::External { .. }) => panic!("external content is never sent"),
        Target::MigrationNotice => "migration notice".to_owned(),
        Target::Nothing => "nothing".to_owned(),
    }
}

/// The state machine with its table, and a broker that answers at once.
struct Bench {
    state: RetainedState,
    now: Instant,
    started: Instant,
    table: BTreeMap<String, Kind>,
    broker: BTreeMap<String, String>,
    refuses: fn(&Job) -> bool,
    /// The sent messages, each with its time in milliseconds.
    sent: Vec<(u128, String)>,
}

impl Bench {
    /// Connected to a broker that retains nothing. Every owner has reported that it wants nothing.
    fn new() -> Self {
        let mut bench = Self::disconnected();
        for owner in [Owner::Cameras, Owner::Discovery] {
            bench.state.put_all(owner, Vec::new(), bench.now);
        }
        bench.link_up();
        bench
    }

    fn disconnected() -> Self {
        let now = Instant::now();
        Self {
            state: RetainedState::default(),
            now,
            started: now,
            table: BTreeMap::new(),
            broker: BTreeMap::new(),
            refuses: |_| false,
            sent: Vec::new(),
        }
    }

    fn link_up(&mut self) {
        self.state.link_up(self.table.clone().into_iter().collect(), self.now);
    }

    fn put(&mut self, group: Group) {
        let owner = if group.kind == Kind::State { Owner::Cameras } else { Owner::Discovery };
        self.state.put(owner, group, self.now);
    }

    fn put_all(&mut self, owner: Owner, groups: &[Group]) {
        self.state.put_all(owner, groups.to_vec(), self.now);
    }

    fn write_rows(&mut self) {
        for topic in self.state.take_cleared() {
            self.table.remove(&topic);
        }
        let unrecorded = self.state.take_unrecorded();
        self.table.extend(unrecorded.clone());
        self.state.rows_written(&unrecorded, self.now);
    }

    fn answer(&mut self, job: &Job, accepted: bool) {
        if accepted {
            match &job.target {
                Target::Nothing => self.broker.remove(&job.topic),
                target => self.broker.insert(job.topic.clone(), word(target)),
            };
        }
        self.state.answered(job, Some(accepted), self.now);
    }

    /// Lets time pass, and performs every job when it is due.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.write_rows();
            if let Some(job) = self.state.next_job(self.now) {
                assert!(self.table.contains_key(&job.topic), "{} has no row", job.topic);
                self.sent.push(((self.now - self.started).as_millis(), describe(&job)));
                self.answer(&job, !(self.refuses)(&job));
            } else if let Some(due) = self.state.next_due().filter(|due| *due <= end) {
                assert!(due > self.now, "a job is due but was not returned");
                self.now = due;
            } else {
                break;
            }
        }
        self.now = end;
    }

    /// Does the same, and returns what was sent.
    fn run_and_take_sent(&mut self, time: Duration) -> Vec<String> {
        self.sent.clear();
        self.run(time);
        self.sent.iter().map(|(_, line)| line.clone()).collect()
    }

    fn retained(&self) -> Vec<String> {
        self.broker.iter().map(|(topic, word)| format!("{topic}: {word}")).collect()
    }
}

fn describe(job: &Job) -> String {
    format!("{}: {}", job.topic, word(&job.target))
}

const NOW: Duration = Duration::ZERO;
const A_WHILE: Duration = Duration::from_secs(20);
