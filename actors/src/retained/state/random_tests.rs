//! Random sequences of steps: the guarantees of the state machine are checked after each step. In the end,
//! each broker must retain exactly the wanted messages, with a matching table.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    action::{ANNOUNCE_AGAIN_AFTER, PACE_INTERVAL, QUIET_PERIOD},
    hand_over::MAX_HANDED_OVER,
    tests::bytes,
    *,
};
use crate::domain::{ids::Seq, retained::OWNERS};

const CAMERAS: usize = 3;
const BROKERS: usize = 2;

/// A topic of an unrelated program, which must never be touched.
const FOREIGN: &str = "foreign/config";

/// The wanted state of one camera, or of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Absent,
    /// On the first or second set of topics, with this text as the content.
    Present {
        second: bool,
        text: u8,
    },
}

#[derive(Debug, Clone)]
enum Step {
    Put(Kind, usize, Form),
    PutAll(Owner, [Form; CAMERAS]),
    /// The topic that only one camera can have moves to this camera.
    MoveShared(usize),
    LinkUp(usize),
    /// Messages and rows in flight arrive, or are lost.
    LinkDown {
        arrives: bool,
    },
    /// One message in flight is answered. `None`: the answer is lost, and perhaps the message too.
    Answer {
        which: usize,
        accepted: Option<bool>,
        arrives: bool,
    },
    AnswerAll,
    /// The picture of an event of this camera must be published before the event.
    HandOver(usize, i64),
    /// The pending write of rows succeeds, or fails.
    FinishRows(bool),
    Wait(u64),
    Leave,
    Republish(Kind),
    /// The service restarts. Both owners report before the connection, or only the cameras do.
    Restart {
        both_report: bool,
    },
}

fn form() -> impl Strategy<Value = Form> {
    let present = (any::<bool>(), 0..3u8).prop_map(|(second, text)| Form::Present { second, text });
    prop_oneof![1 => Just(Form::Absent), 3 => present]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Discovery), Just(Kind::State)]
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![Just(Owner::Cameras), Just(Owner::Discovery)]
}

fn step() -> impl Strategy<Value = Step> {
    let accepted = prop_oneof![4 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    let answer = (any::<usize>(), accepted, any::<bool>());
    prop_oneof![
        6 => (kind(), 0..CAMERAS, form()).prop_map(|(kind, i, form)| Step::Put(kind, i, form)),
        2 => (owner(), [form(), form(), form()]).prop_map(|(owner, forms)| Step::PutAll(owner, forms)),
        1 => (0..CAMERAS).prop_map(Step::MoveShared),
        3 => (0..BROKERS).prop_map(Step::LinkUp),
        1 => any::<bool>().prop_map(|arrives| Step::LinkDown { arrives }),
        8 => answer.prop_map(|(which, accepted, arrives)| Step::Answer { which, accepted, arrives }),
        3 => Just(Step::AnswerAll),
        4 => (0..CAMERAS, 1..9i64).prop_map(|(i, seq)| Step::HandOver(i, seq)),
        8 => prop::bool::weighted(0.8).prop_map(Step::FinishRows),
        6 => prop_oneof![0..100u64, 0..2000u64, 0..7000u64].prop_map(Step::Wait),
        1 => Just(Step::Leave),
        1 => kind().prop_map(Step::Republish),
        1 => any::<bool>().prop_map(|both_report| Step::Restart { both_report }),
    ]
}

/// A broker, and its rows in the database.
#[derive(Debug, Default)]
struct Broker {
    retained: BTreeMap<String, Target>,
    /// Retained topics that this service has published.
    ours: BTreeSet<String>,
    rows: BTreeMap<String, Kind>,
}

/// A pending write: rows to remove, and rows to add.
type Batch = (Vec<String>, Vec<(String, Kind)>);

struct Simulation {
    state: RetainedState,
    now: Instant,
    forms: BTreeMap<(Kind, usize), Form>,
    /// The camera that has the shared topic.
    shared: usize,
    brokers: [Broker; BROKERS],
    link: Option<usize>,
    leaving: bool,
    refused: bool,
    in_flight: Vec<Job>,
    batch: Option<Batch>,
    /// When the states of each camera were sent.
    states: BTreeMap<String, Vec<Instant>>,
    /// When each device topic that has not been cleared since was announced.
    announced: BTreeMap<String, Instant>,
    discovery_answered: Option<Instant>,
}

impl Simulation {
    fn new() -> Self {
        let mut brokers: [Broker; BROKERS] = Default::default();
        for broker in &mut brokers {
            let legacy = (0..CAMERAS).map(legacy);
            let foreign =
                legacy.chain([FOREIGN.to_owned()]).map(|topic| (topic, Target::Content(bytes("other"))));
            broker.retained.extend(foreign);
        }
        let forms = [Kind::Discovery, Kind::State].into_iter();
        let forms = forms.flat_map(|kind| (0..CAMERAS).map(move |i| ((kind, i), Form::Absent))).collect();
        Self {
            state: RetainedState::default(),
            now: Instant::now(),
            forms,
            shared: 0,
            brokers,
            link: None,
            leaving: false,
            refused: false,
            in_flight: Vec::new(),
            batch: None,
            states: BTreeMap::new(),
            announced: BTreeMap::new(),
            discovery_answered: None,
        }
    }

    fn group(&self, kind: Kind, i: usize) -> Group {
        let form = self.forms[&(kind, i)];
        let mut group = Group { kind, name: format!("{i}").into(), wanted: Vec::new(), previous: Vec::new() };
        let Form::Present { second, text } = form else { return group };
        let wanted = |topic, content| Wanted { topic, content };
        let text = bytes(&text.to_string());
        if kind == Kind::State {
            let name = if second { "b" } else { "a" };
            group.wanted.push(wanted(format!("s{i}/{name}"), text.clone()));
            group.wanted.push(wanted(format!("s{i}/both"), text));
            let content = Content::Thumbnail { seq: Seq(7), version: u64::from(second) };
            group.wanted.push(wanted(format!("s{i}/picture"), content));
            group.wanted.push(wanted(format!("e{i}/{name}"), Content::External { kept_on_leave: false }));
            if self.shared == i {
                group.wanted.push(wanted("shared".to_owned(), bytes(&i.to_string())));
            }
        } else {
            let forms = [vec![format!("d{i}/device")], vec![format!("d{i}/x"), format!("d{i}/y")]];
            let [ours, other] = if second { [&forms[1], &forms[0]] } else { [&forms[0], &forms[1]] };
            group.wanted = ours.iter().map(|topic| wanted(topic.clone(), text.clone())).collect();
            let previous = |topic, foreign| PreviousTopic { topic, migrates: true, foreign };
            group.previous = other.iter().map(|topic| previous(topic.clone(), false)).collect();
            group.previous.push(previous(legacy(i), true));
        }
        group
    }

    fn availability() -> Group {
        let content = Content::External { kept_on_leave: true };
        let wanted = vec![Wanted { topic: "status".to_owned(), content }];
        Group { kind: Kind::State, name: "/availability".into(), wanted, previous: Vec::new() }
    }

    fn put(&mut self, kind: Kind, i: usize) {
        let group = self.group(kind, i);
        self.state.put(owner_of(kind), group, self.now);
    }

    fn put_all(&mut self, owner: Owner) {
        let kind = if owner == Owner::Cameras { Kind::State } else { Kind::Discovery };
        let mut groups: Vec<_> = (0..CAMERAS).map(|i| self.group(kind, i)).collect();
        if owner == Owner::Cameras {
            groups.push(Self::availability());
        }
        self.state.put_all(owner, groups, self.now);
    }

    /// A camera that is removed and added again counts as a new one, and its rate limit starts again.
    fn set_form(&mut self, kind: Kind, i: usize, form: Form) {
        self.forms.insert((kind, i), form);
        if kind == Kind::State && form == Form::Absent {
            self.states.remove(&i.to_string());
        }
    }

    fn perform(&mut self, step: &Step) {
        match *step {
            Step::Put(kind, i, form) => {
                self.set_form(kind, i, form);
                self.put(kind, i);
            }
            Step::PutAll(owner, forms) => {
                let kind = if owner == Owner::Cameras { Kind::State } else { Kind::Discovery };
                for (i, form) in forms.into_iter().enumerate() {
                    self.set_form(kind, i, form);
                }
                self.put_all(owner);
            }
            Step::MoveShared(to) => {
                let from = std::mem::replace(&mut self.shared, to);
                self.put(Kind::State, from);
                self.put(Kind::State, to);
            }
            Step::LinkUp(broker) => self.link_up(broker),
            Step::LinkDown { arrives } => self.link_down(arrives),
            Step::Answer { which, accepted, arrives } if !self.in_flight.is_empty() => {
                // The messages on a topic arrive in order.
                let topic = &self.in_flight[which % self.in_flight.len()].topic;
                let first = self.in_flight.iter().position(|job| job.topic == *topic).unwrap();
                let job = self.in_flight.remove(first);
                self.answer(&job, accepted, arrives);
            }
            Step::AnswerAll => {
                for job in std::mem::take(&mut self.in_flight) {
                    self.answer(&job, Some(true), true);
                }
            }
            Step::HandOver(i, seq) => self.hand_over(i, seq),
            Step::FinishRows(succeeds) => self.finish_rows(succeeds),
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Leave if self.link.is_some() => {
                self.leaving = true;
                self.state.leave(self.now);
            }
            Step::Republish(kind) => {
                self.state.republish(kind, self.now);
            }
            Step::Restart { both_report } => {
                self.link_down(true);
                self.state = RetainedState::default();
                self.states.clear();
                self.put_all(Owner::Cameras);
                if both_report {
                    self.put_all(Owner::Discovery);
                }
            }
            Step::Answer { .. } | Step::Leave => {}
        }
        self.pump();
    }

    fn hand_over(&mut self, i: usize, seq: i64) {
        let topic = format!("s{i}/picture");
        let handed_over = self.state.hand_over(&i.to_string().into(), &topic, Seq(seq), self.now);
        let HandOver::Send(job) = handed_over else { return };
        assert!(
            !self.leaving && self.group(Kind::State, i).wanted.iter().any(|wanted| wanted.topic == topic)
        );
        let removed = self.batch.as_ref().is_some_and(|(cleared, _)| cleared.contains(&topic));
        assert!(self.broker().rows.contains_key(&topic) && !removed, "{topic} has no row");
        let Target::Content(Content::Thumbnail { seq: sent, .. }) = job.target else { panic!("{job:?}") };
        assert_eq!((sent, &job.topic), (Seq(seq), &topic));
        self.in_flight.push(job);
        self.state.submitted(&topic);
    }

    fn link_up(&mut self, broker: usize) {
        self.link_down(true);
        (self.link, self.refused) = (Some(broker), false);
        let rows = self.brokers[broker].rows.clone().into_iter().collect();
        self.state.link_up(rows, self.now);
    }

    fn link_down(&mut self, arrives: bool) {
        let Some(broker) = self.link else { return };
        for job in std::mem::take(&mut self.in_flight) {
            if arrives {
                self.arrive(&job);
            }
        }
        if let Some(batch) = self.batch.take()
            && arrives
        {
            self.brokers[broker].change(&batch);
        }
        self.state.link_down();
        (self.link, self.leaving, self.discovery_answered) = (None, false, None);
        self.announced.clear();
    }

    fn broker(&mut self) -> &mut Broker {
        &mut self.brokers[self.link.unwrap()]
    }

    fn arrive(&mut self, Job { topic, target, .. }: &Job) {
        let broker = self.broker();
        if *target == Target::Nothing {
            broker.retained.remove(topic);
            broker.ours.remove(topic);
        } else {
            broker.retained.insert(topic.clone(), target.clone());
            broker.ours.insert(topic.clone());
        }
    }

    fn answer(&mut self, job: &Job, accepted: Option<bool>, arrives: bool) {
        if accepted == Some(true) || (accepted.is_none() && arrives) {
            self.arrive(job);
        }
        self.refused |= accepted == Some(false);
        if job.target == Target::Nothing {
            self.announced.remove(&job.topic);
        }
        if job.topic.starts_with('d') || job.topic.starts_with("legacy") {
            self.discovery_answered = Some(self.now);
        }
        self.state.answered(job, accepted, self.now);
    }

    fn finish_rows(&mut self, succeeds: bool) {
        if let Some((cleared, unrecorded)) = self.batch.take() {
            if succeeds {
                self.broker().change(&(cleared, unrecorded.clone()));
                self.state.rows_written(&unrecorded, self.now);
            } else {
                self.state.rows_failed(cleared, unrecorded);
            }
        }
    }

    fn pump(&mut self) {
        if self.link.is_some() && self.batch.is_none() {
            let batch = (self.state.take_cleared(), self.state.take_unrecorded());
            if batch != Batch::default() {
                self.batch = Some(batch);
            }
        }
        while let Some(job) = self.state.next_job(self.now) {
            self.check(&job);
            self.in_flight.push(job);
        }
        assert!(self.in_flight.len() <= MAX_IN_FLIGHT);
        assert!(self.pictures_in_flight() <= MAX_PICTURES.max(MAX_HANDED_OVER));
        assert_eq!(self.state.in_flight, self.in_flight.len());
        assert_eq!(self.state.pictures_in_flight, self.pictures_in_flight());
        assert!(self.state.next_due().is_none_or(|due| due > self.now), "a job is due but was not returned");
        for broker in &self.brokers {
            for topic in &broker.ours {
                assert!(broker.rows.contains_key(topic), "{topic} is retained but has no row");
            }
            assert!(broker.retained.contains_key(FOREIGN));
        }
    }

    fn pictures_in_flight(&self) -> usize {
        self.in_flight.iter().filter(|job| job.target.is_picture()).count()
    }

    /// Asserts that this message may be sent now.
    fn check(&mut self, Job { topic, target, .. }: &Job) {
        let now = self.now;
        assert!(self.in_flight.iter().all(|job| job.topic != *topic), "{topic} has two messages in flight");
        assert_ne!(topic, FOREIGN);
        assert!(!target.is_picture() || self.pictures_in_flight() < MAX_PICTURES);
        let removed = self.batch.as_ref().is_some_and(|(cleared, _)| cleared.contains(topic));
        assert!(self.broker().rows.contains_key(topic) && !removed, "{topic} has no row");
        let content = match target {
            Target::Content(Content::External { .. }) => panic!("external content is sent to {topic}"),
            Target::Content(_) => true,
            Target::MigrationNotice | Target::Nothing => false,
        };
        assert!(!(content && self.leaving), "{topic} is published on a broker that is left");
        let (first, rest) = topic.split_at(1);
        let is_state = matches!(first, "s" | "e");
        if is_state && content && topic != "shared" {
            let camera = rest.split('/').next().unwrap().to_owned();
            let times = self.states.entry(camera).or_default();
            times.push(now);
            let recent = times.iter().filter(|at| **at + PACE_INTERVAL > now).count();
            assert!(recent <= STATES_PER_INTERVAL, "{recent} states of a camera in one interval");
        }
        if is_state && *target == Target::Nothing {
            let is_discovery = |job: &Job| job.topic.starts_with('d') || job.topic.starts_with("legacy");
            assert!(
                !self.in_flight.iter().any(is_discovery),
                "a state is cleared while discovery is in flight"
            );
            assert!(
                self.discovery_answered.is_none_or(|at| at + QUIET_PERIOD <= now),
                "a state is cleared too soon after discovery"
            );
        }
        if !is_state && content {
            let before = self.announced.insert(topic.clone(), now);
            assert!(
                before.is_none_or(|at| at + ANNOUNCE_AGAIN_AFTER <= now),
                "{topic} is announced again too soon"
            );
            self.check_migration(topic);
        }
    }

    /// Asserts that the previous topics of an announced device hold a migration notice or nothing, unless the
    /// broker refused a message.
    fn check_migration(&mut self, topic: &str) {
        let i = topic[1..2].parse().unwrap();
        let previous = self.group(Kind::Discovery, i).previous;
        let refused = self.refused;
        let broker = self.broker();
        for PreviousTopic { topic: old, .. } in previous {
            let found = broker.retained.get(&old);
            let is_notified = matches!(found, None | Some(Target::MigrationNotice));
            assert!(is_notified || refused, "{topic} is announced before the notice on {old}: {found:?}");
        }
    }

    /// Performs all remaining work, without any failure.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.pump();
            if self.batch.is_some() {
                self.finish_rows(true);
            } else if !self.in_flight.is_empty() {
                let job = self.in_flight.remove(0);
                self.answer(&job, Some(true), true);
            } else if let Some(due) = self.state.next_due() {
                self.now = due;
            } else {
                return;
            }
        }
        panic!("work remains after 10,000 steps: {:#?}", self.state);
    }

    /// Asserts that this broker finally retains exactly the wanted messages, with a matching table.
    fn assert_converges(&mut self, broker: usize) {
        // Refused messages are sent again on the next connection.
        if self.link != Some(broker) || self.refused || self.leaving {
            self.link_up(broker);
        }
        for owner in [Owner::Cameras, Owner::Discovery] {
            if self.state.reported.len() < OWNERS {
                self.put_all(owner);
            }
        }
        self.settle();
        let kinds = [Kind::Discovery, Kind::State].into_iter();
        let groups = kinds.flat_map(|kind| (0..CAMERAS).map(move |i| (kind, i)));
        let groups = groups.map(|(kind, i)| self.group(kind, i)).chain([Self::availability()]);
        let wanted: Vec<Wanted> = groups.flat_map(|group| group.wanted).collect();
        let rows: BTreeSet<_> = wanted.iter().map(|wanted| wanted.topic.clone()).collect();
        let content = |wanted: Wanted| match wanted.content {
            Content::External { .. } => None,
            content => Some((wanted.topic, Target::Content(content))),
        };
        let expected: BTreeMap<_, _> = wanted.into_iter().filter_map(content).collect();
        let broker = &self.brokers[broker];
        let ours = |topic: &String| !topic.starts_with("legacy") && topic != FOREIGN;
        let retained: BTreeMap<_, _> = broker
            .retained
            .iter()
            .filter(|(topic, _)| ours(topic))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect();
        assert_eq!(retained, expected);
        assert_eq!(broker.rows.keys().cloned().collect::<BTreeSet<_>>(), rows);
        for i in 0..CAMERAS {
            let is_retained = broker.retained.contains_key(&legacy(i));
            let is_announced = self.forms[&(Kind::Discovery, i)] != Form::Absent;
            assert!(!(is_retained && is_announced), "the topic of another program is not replaced");
        }
        assert!(self.state.active.is_empty());
    }

    /// Asserts that a broker that is left retains no message of this service.
    fn assert_leaves_cleanly(&mut self) {
        self.leaving = true;
        self.state.leave(self.now);
        self.settle();
        assert!(self.state.has_left());
        assert!(self.broker().ours.is_empty());
        let external = |topic: &String| topic.starts_with('e') || topic == "status";
        assert!(self.broker().rows.keys().all(external), "{:?}", self.broker().rows);
    }
}

impl Broker {
    fn change(&mut self, (cleared, unrecorded): &Batch) {
        for topic in cleared {
            self.rows.remove(topic);
        }
        self.rows.extend(unrecorded.iter().cloned());
    }
}

fn owner_of(kind: Kind) -> Owner {
    if kind == Kind::State { Owner::Cameras } else { Owner::Discovery }
}

fn legacy(i: usize) -> String {
    format!("legacy{i}")
}

proptest! {
    // Set `PROPTEST_CASES=20000` for a thorough run.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_of_steps_ends_with_exactly_the_wanted_messages_retained(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut simulation = Simulation::new();
        for step in &steps {
            simulation.perform(step);
        }
        for broker in [1, 0] {
            simulation.assert_converges(broker);
        }
        simulation.assert_leaves_cleanly();
    }
}
