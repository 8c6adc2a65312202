//! Whatever happens, in whatever order: the shelf's promises hold after each step, and in the end there stands what is to
//! stand, and the table has it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    action::{ANNOUNCE_AGAIN_AFTER, QUIET, SPAN},
    tests::bytes,
    *,
};
use crate::domain::{ids::Seq, retained::OWNERS};

const CAMERAS: usize = 3;
const BROKERS: usize = 2;

/// What others have at each broker, and what of it is nobody's business.
const FOREIGN: &str = "foreign/config";

/// What is wanted of one camera, or of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Absent,
    /// In the first form, or in the second one, with one content or another.
    Present {
        second: bool,
        text: u8,
    },
}

#[derive(Debug, Clone)]
enum Op {
    Put(Kind, usize, Look),
    PutAll(Owner, [Look; CAMERAS]),
    /// The topic that one camera has at a time goes to another one.
    Pass(usize),
    LinkUp(usize),
    /// What is on its way arrives, or does not.
    LinkDown {
        arrives: bool,
    },
    /// One of the messages on their way is answered; `None`: the answer is lost, and perhaps the message.
    Answer {
        which: usize,
        taken: Option<bool>,
        arrives: bool,
    },
    AnswerAll,
    /// The rows that are on their way are written, or not.
    Rows(bool),
    Time(u64),
    Leave,
    Again(Kind),
    /// The service starts anew, and both owners speak before the link comes up, or one does not.
    Restart {
        heard: bool,
    },
}

fn look() -> impl Strategy<Value = Look> {
    let present = (any::<bool>(), 0..3u8).prop_map(|(second, text)| Look::Present { second, text });
    prop_oneof![1 => Just(Look::Absent), 3 => present]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Discovery), Just(Kind::State)]
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![Just(Owner::Cameras), Just(Owner::Discovery)]
}

fn op() -> impl Strategy<Value = Op> {
    let taken = prop_oneof![4 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    let answer = (any::<usize>(), taken, any::<bool>());
    prop_oneof![
        6 => (kind(), 0..CAMERAS, look()).prop_map(|(kind, i, look)| Op::Put(kind, i, look)),
        2 => (owner(), [look(), look(), look()]).prop_map(|(owner, looks)| Op::PutAll(owner, looks)),
        1 => (0..CAMERAS).prop_map(Op::Pass),
        3 => (0..BROKERS).prop_map(Op::LinkUp),
        1 => any::<bool>().prop_map(|arrives| Op::LinkDown { arrives }),
        8 => answer.prop_map(|(which, taken, arrives)| Op::Answer { which, taken, arrives }),
        3 => Just(Op::AnswerAll),
        8 => prop::bool::weighted(0.8).prop_map(Op::Rows),
        6 => prop_oneof![0..100u64, 0..2000u64, 0..7000u64].prop_map(Op::Time),
        1 => Just(Op::Leave),
        1 => kind().prop_map(Op::Again),
        1 => any::<bool>().prop_map(|heard| Op::Restart { heard }),
    ]
}

/// One broker, and what the database says of it.
#[derive(Debug, Default)]
struct Broker {
    stands: BTreeMap<String, Target>,
    /// Topics on which we have put something that stands.
    ours: BTreeSet<String>,
    rows: BTreeMap<String, Kind>,
}

/// Rows that are being removed and written.
type Batch = (Vec<String>, Vec<(String, Kind)>);

struct World {
    shelf: RetainedState,
    now: Instant,
    looks: BTreeMap<(Kind, usize), Look>,
    /// Which camera has the topic that one of them has.
    shared: usize,
    brokers: [Broker; BROKERS],
    link: Option<usize>,
    leaving: bool,
    refused: bool,
    flying: Vec<Job>,
    batch: Option<Batch>,
    /// When states of a camera left.
    states: BTreeMap<String, Vec<Instant>>,
    /// When a device was announced, and not cleared since.
    announced: BTreeMap<String, Instant>,
    discovery_answered: Option<Instant>,
}

impl World {
    fn new() -> Self {
        let mut brokers: [Broker; BROKERS] = Default::default();
        for broker in &mut brokers {
            let legacy = (0..CAMERAS).map(legacy);
            let others =
                legacy.chain([FOREIGN.to_owned()]).map(|topic| (topic, Target::Content(bytes("other"))));
            broker.stands.extend(others);
        }
        let looks = [Kind::Discovery, Kind::State].into_iter();
        let looks = looks.flat_map(|kind| (0..CAMERAS).map(move |i| ((kind, i), Look::Absent))).collect();
        Self {
            shelf: RetainedState::default(),
            now: Instant::now(),
            looks,
            shared: 0,
            brokers,
            link: None,
            leaving: false,
            refused: false,
            flying: Vec::new(),
            batch: None,
            states: BTreeMap::new(),
            announced: BTreeMap::new(),
            discovery_answered: None,
        }
    }

    fn group(&self, kind: Kind, i: usize) -> Group {
        let look = self.looks[&(kind, i)];
        let mut group = Group { kind, name: format!("{i}").into(), wanted: Vec::new(), former: Vec::new() };
        let Look::Present { second, text } = look else { return group };
        let wanted = |topic, content| Wanted { topic, content };
        let text = bytes(&text.to_string());
        if kind == Kind::State {
            let name = if second { "b" } else { "a" };
            group.wanted.push(wanted(format!("s{i}/{name}"), text.clone()));
            group.wanted.push(wanted(format!("s{i}/both"), text));
            let content = Content::Thumbnail { seq: Seq(7), version: u64::from(second) };
            group.wanted.push(wanted(format!("s{i}/picture"), content));
            group.wanted.push(wanted(format!("e{i}/{name}"), Content::External { stays: false }));
            if self.shared == i {
                group.wanted.push(wanted("shared".to_owned(), bytes(&i.to_string())));
            }
        } else {
            let forms = [vec![format!("d{i}/device")], vec![format!("d{i}/x"), format!("d{i}/y")]];
            let [ours, other] = if second { [&forms[1], &forms[0]] } else { [&forms[0], &forms[1]] };
            group.wanted = ours.iter().map(|topic| wanted(topic.clone(), text.clone())).collect();
            let former = |topic, foreign| PreviousTopic { topic, migrates: true, foreign };
            group.former = other.iter().map(|topic| former(topic.clone(), false)).collect();
            group.former.push(former(legacy(i), true));
        }
        group
    }

    fn availability() -> Group {
        let content = Content::External { stays: true };
        let wanted = vec![Wanted { topic: "status".to_owned(), content }];
        Group { kind: Kind::State, name: "/availability".into(), wanted, former: Vec::new() }
    }

    fn put(&mut self, kind: Kind, i: usize) {
        let group = self.group(kind, i);
        self.shelf.put(owner_of(kind), group, self.now);
    }

    fn put_all(&mut self, owner: Owner) {
        let kind = if owner == Owner::Cameras { Kind::State } else { Kind::Discovery };
        let mut groups: Vec<_> = (0..CAMERAS).map(|i| self.group(kind, i)).collect();
        if owner == Owner::Cameras {
            groups.push(Self::availability());
        }
        self.shelf.put_all(owner, groups, self.now);
    }

    /// A camera that is removed and comes back is another one: it has a pace of its own.
    fn looks(&mut self, kind: Kind, i: usize, look: Look) {
        self.looks.insert((kind, i), look);
        if kind == Kind::State && look == Look::Absent {
            self.states.remove(&i.to_string());
        }
    }

    fn happens(&mut self, op: &Op) {
        match *op {
            Op::Put(kind, i, look) => {
                self.looks(kind, i, look);
                self.put(kind, i);
            }
            Op::PutAll(owner, looks) => {
                let kind = if owner == Owner::Cameras { Kind::State } else { Kind::Discovery };
                for (i, look) in looks.into_iter().enumerate() {
                    self.looks(kind, i, look);
                }
                self.put_all(owner);
            }
            Op::Pass(to) => {
                let from = std::mem::replace(&mut self.shared, to);
                self.put(Kind::State, from);
                self.put(Kind::State, to);
            }
            Op::LinkUp(broker) => self.link_up(broker),
            Op::LinkDown { arrives } => self.link_down(arrives),
            Op::Answer { which, taken, arrives } if !self.flying.is_empty() => {
                let job = self.flying.remove(which % self.flying.len());
                self.answer(&job, taken, arrives);
            }
            Op::AnswerAll => {
                for job in std::mem::take(&mut self.flying) {
                    self.answer(&job, Some(true), true);
                }
            }
            Op::Rows(well) => self.rows(well),
            Op::Time(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Op::Leave if self.link.is_some() => {
                self.leaving = true;
                self.shelf.leave(self.now);
            }
            Op::Again(kind) => {
                self.shelf.again(kind, self.now);
            }
            Op::Restart { heard } => {
                self.link_down(true);
                self.shelf = RetainedState::default();
                self.states.clear();
                self.put_all(Owner::Cameras);
                if heard {
                    self.put_all(Owner::Discovery);
                }
            }
            Op::Answer { .. } | Op::Leave => {}
        }
        self.pump();
    }

    fn link_up(&mut self, broker: usize) {
        self.link_down(true);
        (self.link, self.refused) = (Some(broker), false);
        let rows = self.brokers[broker].rows.clone().into_iter().collect();
        self.shelf.link_up(rows, self.now);
    }

    fn link_down(&mut self, arrives: bool) {
        let Some(broker) = self.link else { return };
        for job in std::mem::take(&mut self.flying) {
            if arrives {
                self.stands(&job);
            }
        }
        if let Some(batch) = self.batch.take()
            && arrives
        {
            self.brokers[broker].change(&batch);
        }
        self.shelf.link_down();
        (self.link, self.leaving, self.discovery_answered) = (None, false, None);
        self.announced.clear();
    }

    fn broker(&mut self) -> &mut Broker {
        &mut self.brokers[self.link.unwrap()]
    }

    fn stands(&mut self, Job { topic, mark, .. }: &Job) {
        let broker = self.broker();
        if *mark == Target::Nothing {
            broker.stands.remove(topic);
            broker.ours.remove(topic);
        } else {
            broker.stands.insert(topic.clone(), mark.clone());
            broker.ours.insert(topic.clone());
        }
    }

    fn answer(&mut self, job: &Job, taken: Option<bool>, arrives: bool) {
        if taken == Some(true) || (taken.is_none() && arrives) {
            self.stands(job);
        }
        self.refused |= taken == Some(false);
        if job.mark == Target::Nothing {
            self.announced.remove(&job.topic);
        }
        if job.topic.starts_with('d') || job.topic.starts_with("legacy") {
            self.discovery_answered = Some(self.now);
        }
        self.shelf.answered(job, taken, self.now);
    }

    fn rows(&mut self, well: bool) {
        if let Some((cleared, unrecorded)) = self.batch.take() {
            if well {
                self.broker().change(&(cleared, unrecorded.clone()));
                self.shelf.rows_written(&unrecorded, self.now);
            } else {
                self.shelf.rows_failed(cleared, unrecorded);
            }
        }
    }

    fn pump(&mut self) {
        if self.link.is_some() && self.batch.is_none() {
            let batch = (self.shelf.take_cleared(), self.shelf.take_rowless());
            if batch != Batch::default() {
                self.batch = Some(batch);
            }
        }
        while let Some(job) = self.shelf.next(self.now) {
            self.check(&job);
            self.flying.push(job);
        }
        assert!(self.flying.len() <= MAX_FLYING);
        assert!(self.flying.iter().filter(|job| job.mark.is_picture()).count() <= MAX_PICTURES);
        assert!(self.shelf.due().is_none_or(|due| due > self.now), "it is due, and is not sent");
        for broker in &self.brokers {
            for topic in &broker.ours {
                assert!(broker.rows.contains_key(topic), "{topic} stands and has no row");
            }
            assert!(broker.stands.contains_key(FOREIGN));
        }
    }

    /// Whether a message may be sent now.
    fn check(&mut self, Job { topic, mark, .. }: &Job) {
        let now = self.now;
        assert!(self.flying.iter().all(|job| job.topic != *topic), "{topic}: one at a time");
        assert_ne!(topic, FOREIGN);
        let removed = self.batch.as_ref().is_some_and(|(cleared, _)| cleared.contains(topic));
        assert!(self.broker().rows.contains_key(topic) && !removed, "{topic} has no row");
        let content = match mark {
            Target::Content(Content::External { .. }) => panic!("others publish on {topic}"),
            Target::Content(_) => true,
            Target::Moves | Target::Nothing => false,
        };
        assert!(!(content && self.leaving), "{topic}: nothing new at a broker that is left");
        let (first, rest) = topic.split_at(1);
        let is_state = matches!(first, "s" | "e");
        if is_state && content && topic != "shared" {
            let camera = rest.split('/').next().unwrap().to_owned();
            let times = self.states.entry(camera).or_default();
            times.push(now);
            let recent = times.iter().filter(|at| **at + SPAN > now).count();
            assert!(recent <= STATES_PER_SPAN, "{recent} states of a camera at once");
        }
        if is_state && *mark == Target::Nothing {
            let discovers = |job: &Job| job.topic.starts_with('d') || job.topic.starts_with("legacy");
            assert!(!self.flying.iter().any(discovers), "discovery goes first");
            assert!(self.discovery_answered.is_none_or(|at| at + QUIET <= now), "too early after discovery");
        }
        if !is_state && content {
            let before = self.announced.insert(topic.clone(), now);
            assert!(before.is_none_or(|at| at + ANNOUNCE_AGAIN_AFTER <= now), "{topic} again at once");
            self.check_told(topic);
        }
    }

    /// Where a device is announced that was announced elsewhere, that one was told, unless the broker refused to.
    fn check_told(&mut self, topic: &str) {
        let i = topic[1..2].parse().unwrap();
        let former = self.group(Kind::Discovery, i).former;
        let refused = self.refused;
        let broker = self.broker();
        for PreviousTopic { topic: old, .. } in former {
            let stands = broker.stands.get(&old);
            let is_told = matches!(stands, None | Some(Target::Moves));
            assert!(is_told || refused, "{topic} is announced before {old} is told: {stands:?}");
        }
    }

    /// Lets everything come to rest, with all going well.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.pump();
            if self.batch.is_some() {
                self.rows(true);
            } else if !self.flying.is_empty() {
                let job = self.flying.remove(0);
                self.answer(&job, Some(true), true);
            } else if let Some(due) = self.shelf.due() {
                self.now = due;
            } else {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}", self.shelf);
    }

    /// In the end: at this broker there stands what is to stand, and the table has it.
    fn assert_in_step(&mut self, broker: usize) {
        // What was refused is offered on the next link.
        if self.link != Some(broker) || self.refused || self.leaving {
            self.link_up(broker);
        }
        for owner in [Owner::Cameras, Owner::Discovery] {
            if self.shelf.heard.len() < OWNERS {
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
        let stands: BTreeMap<_, _> = broker
            .stands
            .iter()
            .filter(|(topic, _)| ours(topic))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect();
        assert_eq!(stands, expected);
        assert_eq!(broker.rows.keys().cloned().collect::<BTreeSet<_>>(), rows);
        for i in 0..CAMERAS {
            let is_there = broker.stands.contains_key(&legacy(i));
            let is_announced = self.looks[&(Kind::Discovery, i)] != Look::Absent;
            assert!(!(is_there && is_announced), "what another program left is replaced");
        }
        assert!(self.shelf.open.is_empty());
    }

    /// A broker that is left keeps nothing of ours.
    fn assert_leaves(&mut self) {
        self.leaving = true;
        self.shelf.leave(self.now);
        self.settle();
        assert!(self.shelf.has_left());
        assert!(self.broker().ours.is_empty());
        let others = |topic: &String| topic.starts_with('e') || topic == "status";
        assert!(self.broker().rows.keys().all(others), "{:?}", self.broker().rows);
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
    // `PROPTEST_CASES=20000` for a thorough look.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_the_end_the_right_things_stand(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.happens(op);
        }
        for broker in [1, 0] {
            world.assert_in_step(broker);
        }
        world.assert_leaves();
    }
}
