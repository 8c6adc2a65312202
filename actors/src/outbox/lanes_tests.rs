//! The two lanes: examples, and random operations compared with a simple model of the log.
//! Tests named `invariant_N_…` prove the invariants of docs/architecture.md.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{
        clock::{self, LogTime},
        delivery::{EventTimes, SettledAhead, SettledRange},
        event_log::{EventPage, LogRow},
        ids::{CameraId, LinkId},
    },
    messages::link::{LinkDown, LinkUp},
    outbox::{heard_topics::HeardTopics, window::Window},
    testing::FakeConnection,
};

const NOON: i64 = 1_780_000_000_000_000;
/// How many random sequences of operations are tried.
const CASES: u32 = 500;

/// Small, so that the tests read several pages.
const PAGE: usize = 3;

/// A delivery with a log from which each requested page is read at once.
struct Lanes {
    delivery: Delivery,
    log: Vec<StoredEvent>,
    settings: MqttSettings,
    /// The topics that had a subscriber before.
    heard: HeardTopics,
    seconds: u64,
    link: LinkId,
    /// What a restarted service finds in its database.
    written: (Seq, BTreeSet<i64>),
    ranges: (Vec<SettledRange>, Vec<SettledAhead>),
}

impl Lanes {
    fn new(settings: MqttSettings) -> Self {
        Self {
            delivery: Delivery::new(
                Window::new(Seq(0), [], [], moment(0)),
                8,
                settings.max_events_per_second,
            ),
            log: Vec::new(),
            settings,
            heard: HeardTopics::default(),
            seconds: 1000,
            link: LinkId(0),
            written: (Seq(0), BTreeSet::new()),
            ranges: (Vec::new(), Vec::new()),
        }
    }

    fn now(&self) -> Moment {
        moment(self.seconds)
    }

    /// Accepts an event that happened this many seconds ago. Returns its seq.
    fn accept(&mut self, camera: usize, seconds_ago: u64) -> i64 {
        let seq = i64::try_from(self.log.len()).unwrap() + 1;
        let event = StoredEvent {
            seq: Seq(seq),
            camera_id: CameraId::parse(["door", "yard"][camera]).unwrap(),
            times: EventTimes::new(moment(self.seconds - seconds_ago).wall, self.now()),
            payload: "{}".into(),
        };
        self.delivery.offer(std::slice::from_ref(&event));
        self.log.push(event);
        seq
    }

    fn up(&mut self, receive_maximum: u16) {
        self.link.0 += 1;
        let link_up = FakeConnection::start_new().link_up(self.link, "broker:1883");
        self.delivery.link_up(LinkUp { receive_maximum, ..link_up });
    }

    fn down(&mut self) {
        self.delivery.link_down(LinkDown { link: self.link });
    }

    /// Sends what may be sent, and reads what is needed for that.
    fn pump(&mut self) -> Vec<Outgoing> {
        let (mut sent, sent_at) = (Vec::new(), Instant::now() + Duration::from_secs(self.seconds));
        let last = Seq(i64::try_from(self.log.len()).unwrap());
        loop {
            let now = self.now();
            let listeners = Listeners { live_may_go: true, heard: Some(&self.heard) };
            let batch = self.delivery.next_batch(&self.settings, listeners, now, sent_at);
            assert_eq!((batch.missing, batch.expired.len(), batch.unreadable.len()), (0, 0, 0));
            let mut is_done = batch.events.is_empty();
            sent.extend(batch.events);
            for request in self.delivery.wanted_pages(last).collect::<Vec<_>>() {
                let rest = &self.log[usize::try_from(request.from.0 - 1).unwrap()..];
                let rows: Vec<_> = rest.iter().take(PAGE).cloned().map(LogRow::Event).collect();
                let end = rows.last().filter(|_| rows.len() == PAGE).map(LogRow::seq);
                self.delivery.page_read(request, Some(EventPage { rows, end }));
                is_done = false;
            }
            if let Some(request) = self.delivery.wanted_live_start() {
                let found =
                    self.log.iter().find(|e| e.seq >= request.from && e.times.accepted >= request.since);
                self.delivery.live_start_found(request, Some(found.map_or(last.next(), |event| event.seq)));
                is_done = false;
            }
            if is_done {
                return sent;
            }
        }
    }

    fn acknowledge(&mut self, seq: i64) {
        assert!(self.answer(seq, false));
    }

    /// Acknowledges an event. Returns whether it is settled then.
    fn answer(&mut self, seq: i64, unheard: bool) -> bool {
        let (now, at) = (self.now(), Instant::now() + Duration::from_secs(self.seconds));
        let is_held = unheard && self.delivery.hold_unheard(self.link, Seq(seq), at, now);
        if !is_held {
            let delivered = self.delivery.delivered(self.link, Seq(seq), unheard, now, at);
            assert!(delivered.is_some(), "{seq} is in flight");
        }
        let (mut ranges, mut ahead) = (self.delivery.take_ranges(), self.delivery.take_ahead());
        self.ranges.0.append(&mut ranges);
        self.ranges.1.append(&mut ahead);
        !is_held
    }

    /// Records that the topics of both cameras had a subscriber before.
    fn know_topics(&mut self) {
        let topics = ["door", "yard"].map(|camera| (format!("liveobject/camera/{camera}/event"), LogTime(0)));
        self.heard.start("broker:1883");
        self.heard.loaded("broker:1883", topics.to_vec());
    }

    fn camera(&self, seq: i64) -> usize {
        usize::from(self.log[usize::try_from(seq - 1).unwrap()].camera_id.as_str() == "yard")
    }

    /// Writes the checkpoint.
    fn write(&mut self) {
        for range in self.ranges.0.drain(..) {
            self.written.0 = range.up_to;
        }
        for range in self.ranges.1.drain(..) {
            self.written.1.extend(range.first.0..=range.last.0);
        }
    }

    /// Restarts the service after a crash.
    fn crash(&mut self) {
        self.ranges = (Vec::new(), Vec::new());
        let (cursor, ahead) = &self.written;
        let ahead = ahead.iter().filter(|seq| **seq > cursor.0).map(|seq| (Seq(*seq), Seq(*seq)));
        let window = Window::new(*cursor, [], [], self.now()).with_ahead(ahead);
        self.delivery = Delivery::new(window, 8, 0);
    }

    fn is_late(&self, seq: i64) -> bool {
        let event = &self.log[usize::try_from(seq - 1).unwrap()];
        is_late(&self.settings, event.times, self.now())
    }
}

fn moment(seconds: u64) -> Moment {
    Moment::at(clock::from_micros(NOON) + Duration::from_secs(seconds))
}

/// The seqs that were sent live, and those that were sent to the history topic.
fn by_lane(sent: &[Outgoing]) -> (Vec<i64>, Vec<i64>) {
    let (history, live): (Vec<_>, Vec<_>) = sent.iter().partition(|event| event.topic.ends_with("/history"));
    let seqs = |events: Vec<&Outgoing>| events.iter().map(|event| event.seq.0).collect();
    (seqs(live), seqs(history))
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_3_a_live_event_is_sent_before_a_late_backlog() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    for _ in 0..100 {
        lanes.accept(0, 0);
    }
    lanes.seconds += 301;
    let new = lanes.accept(1, 0);
    lanes.up(4);
    let mut seen = Vec::new();
    let mut acknowledged = 0;
    while seen.len() < 101 {
        let sent = lanes.pump();
        seen.extend(sent.iter().map(|event| event.seq.0));
        let next = seen[acknowledged];
        lanes.acknowledge(next);
        acknowledged += 1;
    }
    let place = seen.iter().position(|seq| *seq == new).unwrap();
    assert!(place <= 4, "only what was in flight was sent before it: {place}");
    seen.remove(place);
    assert!(seen.is_sorted());
}

#[actix_rt::test(system = "crate::System")]
async fn live_events_have_precedence_within_the_rate_limit() {
    let settings = MqttSettings { max_events_per_second: 10, ..MqttSettings::defaults("c") };
    let mut lanes = Lanes::new(settings);
    for _ in 0..5000 {
        lanes.accept(0, 0);
    }
    lanes.seconds += 301;
    lanes.up(8);
    // At this rate, one event leaves each time.
    lanes.pump();
    for _ in 0..60 {
        lanes.seconds += 1;
        let new = [lanes.accept(0, 0)];
        let sent = by_lane(&lanes.pump());
        assert_eq!(sent, (new.to_vec(), Vec::new()));
        lanes.acknowledge(new[0]);
        lanes.seconds += 1;
        let (live, late) = by_lane(&lanes.pump());
        assert_eq!((live, late.len()), (Vec::new(), 1));
        lanes.acknowledge(late[0]);
    }
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_that_was_late_on_arrival_does_not_delay_live_ones() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    lanes.up(4);
    for _ in 0..50 {
        lanes.accept(0, 400);
    }
    let live: Vec<_> = (0..3).map(|_| lanes.accept(0, 0)).collect();
    let sent = lanes.pump();
    assert_eq!(by_lane(&sent), (live, vec![1]));
}

#[actix_rt::test(system = "crate::System")]
async fn what_was_delivered_ahead_is_not_sent_again_after_a_crash() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    for _ in 0..10 {
        lanes.accept(0, 0);
    }
    lanes.seconds += 301;
    for _ in 0..20 {
        lanes.accept(1, 0);
    }
    lanes.up(8);
    let mut live = Vec::new();
    for _ in 0..10 {
        for seq in by_lane(&lanes.pump()).0 {
            lanes.acknowledge(seq);
            live.push(seq);
        }
    }
    assert_eq!(live, (11..=30).collect::<Vec<_>>());
    lanes.write();
    assert_eq!(lanes.delivery.pending(Seq(30)), 10);
    lanes.crash();
    assert_eq!(lanes.delivery.pending(Seq(30)), 10);
    lanes.up(8);
    let (live, late) = by_lane(&lanes.pump());
    assert_eq!((live, late[0]), (vec![], 1));
}

#[actix_rt::test(system = "crate::System")]
async fn a_late_event_does_not_overtake_one_that_may_have_to_wait_for_a_subscriber() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    lanes.know_topics();
    lanes.accept(0, 0);
    lanes.accept(0, 0);
    lanes.up(8);
    assert_eq!(by_lane(&lanes.pump()), (vec![1], vec![]), "the first one alone");
    lanes.seconds += 301;
    assert_eq!(by_lane(&lanes.pump()), (vec![], vec![]));
    assert!(!lanes.answer(1, true));
    lanes.seconds += 1;
    assert_eq!(by_lane(&lanes.pump()), (vec![], vec![1, 2]));
}

#[actix_rt::test(system = "crate::System")]
async fn a_late_event_does_not_overtake_a_live_one_that_may_have_to_be_sent_again() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    lanes.up(8);
    lanes.accept(0, 0);
    lanes.accept(0, 400);
    lanes.accept(1, 400);
    lanes.accept(0, 0);
    assert_eq!(by_lane(&lanes.pump()), (vec![1, 4], vec![]), "the second one was late on arrival");
    lanes.down();
    lanes.seconds += 301;
    lanes.up(8);
    assert_eq!(by_lane(&lanes.pump()), (vec![], vec![1, 2, 3, 4]));
}

#[actix_rt::test(system = "crate::System")]
async fn a_late_event_waits_only_for_earlier_events_of_its_camera() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    lanes.up(8);
    lanes.accept(1, 0);
    lanes.accept(0, 400);
    lanes.accept(0, 0);
    assert_eq!(by_lane(&lanes.pump()), (vec![1, 3], vec![2]));
    lanes.accept(0, 400);
    assert_eq!(by_lane(&lanes.pump()), (vec![], vec![]));
    lanes.acknowledge(3);
    assert_eq!(by_lane(&lanes.pump()), (vec![], vec![4]));
}

/// Two events of a camera, of which the first one has waited for a subscriber until it was late.
fn second_in_place_of_the_first() -> Lanes {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    lanes.know_topics();
    lanes.up(8);
    lanes.accept(0, 0);
    assert_eq!(by_lane(&lanes.pump()), (vec![1], vec![]));
    assert!(!lanes.answer(1, true));
    lanes.seconds += 300;
    lanes.accept(0, 0);
    assert_eq!(by_lane(&lanes.pump()), (vec![1], vec![]));
    assert!(!lanes.answer(1, true));
    lanes.seconds += 5;
    lanes
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_that_took_the_place_of_a_late_one_and_is_given_back_is_sent_again() {
    let mut lanes = second_in_place_of_the_first();
    let (live, late) = by_lane(&lanes.pump());
    assert_eq!((live, late), (vec![2], vec![1]));
    lanes.acknowledge(1);
    assert!(lanes.delivery.returned(lanes.link, Seq(2)));
    lanes.delivery.resume();
    assert_eq!(by_lane(&lanes.pump()), (vec![2], vec![]));
    assert!(!lanes.answer(2, true));
    lanes.seconds += 1;
    assert_eq!(by_lane(&lanes.pump()), (vec![2], vec![]));
    lanes.acknowledge(2);
    assert_eq!(lanes.delivery.pending(Seq(2)), 0);
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_that_is_dead_is_not_sent_again_because_nobody_heard_it() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    lanes.know_topics();
    lanes.up(8);
    lanes.accept(0, 0);
    lanes.pump();
    assert!(!lanes.answer(1, true));
    lanes.accept(0, 0);
    lanes.seconds += 1;
    assert_eq!(by_lane(&lanes.pump()), (vec![1], vec![]));
    assert!(lanes.delivery.deferred(lanes.link, Seq(1), Some(1), lanes.now()).unwrap().is_last);
    lanes.delivery.resume();
    lanes.seconds += 10;
    assert_eq!(by_lane(&lanes.pump()), (vec![2], vec![]));
}

#[actix_rt::test(system = "crate::System")]
async fn a_late_event_that_waited_and_was_never_sent_is_not_settled_with_those_that_were_overtaken() {
    let mut lanes = Lanes::new(MqttSettings::defaults("c"));
    lanes.know_topics();
    lanes.up(8);
    lanes.accept(0, 0);
    lanes.pump();
    lanes.acknowledge(1);
    lanes.accept(0, 0);
    lanes.accept(0, 400);
    lanes.accept(0, 0);
    assert_eq!(by_lane(&lanes.pump()), (vec![2, 4], vec![]));
    assert!(!lanes.answer(2, true));
    assert_eq!(by_lane(&lanes.pump()), (vec![], vec![]));
    lanes.acknowledge(4);
    assert_eq!(by_lane(&lanes.pump()), (vec![], vec![3]));
    lanes.acknowledge(3);
    assert_eq!(lanes.delivery.pending(Seq(4)), 0);
}

#[derive(Debug, Clone)]
enum Op {
    /// Accepts an event of a camera that happened this many seconds ago.
    Accept(usize, u64),
    /// Time passes.
    Wait(u64),
    Up(u16),
    Down,
    Pump,
    /// Acknowledges the nth event in flight.
    Acknowledge(usize),
    /// A camera gets a subscriber, or loses it.
    Subscribe(usize, bool),
    /// Defers the nth event in flight.
    Defer(usize),
    Resume,
    /// The nth event in flight dies.
    Refuse(usize),
    /// The nth event in flight is deferred for the last time, and dies.
    GiveUp(usize),
    Write,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0usize..2, prop_oneof![4 => Just(0u64), 1 => 0u64..400]).prop_map(|(c, ago)| Op::Accept(c, ago)),
        2 => prop_oneof![(1u64..20), (100u64..400)].prop_map(Op::Wait),
        1 => (1u16..9).prop_map(Op::Up),
        1 => Just(Op::Down),
        8 => Just(Op::Pump),
        8 => (0usize..8).prop_map(Op::Acknowledge),
        1 => (0usize..8).prop_map(Op::Defer),
        1 => (0usize..8).prop_map(Op::Refuse),
        1 => (0usize..8).prop_map(Op::GiveUp),
        2 => Just(Op::Resume),
        3 => Just(Op::Write),
        2 => (0usize..2, any::<bool>()).prop_map(|(camera, on)| Op::Subscribe(camera, on)),
        1 => Just(Op::Crash),
    ]
}

/// What the model knows.
#[derive(Default)]
struct Model {
    settled: BTreeSet<i64>,
    /// Settled, and written: what a crash cannot undo.
    written: BTreeSet<i64>,
    dead: BTreeSet<i64>,
    in_flight: Vec<i64>,
    /// Whether each camera has a subscriber.
    subscribed: [bool; 2],
    /// The events that were sent at least once.
    sent: BTreeSet<i64>,
    /// The events in flight that nobody received.
    unheard: BTreeSet<i64>,
    /// The last event that was received on each topic since the connection came up or sending was resumed.
    last: BTreeMap<String, i64>,
    /// The events that were ever sent to each topic.
    sent_to: BTreeMap<String, BTreeSet<i64>>,
    /// The events that the broker has ever answered, even with a refusal. After a crash, they may be sent again, but
    /// they are not new then.
    answered: BTreeSet<i64>,
    up: bool,
    paused: bool,
}

impl Model {
    fn restarted(&mut self) {
        self.in_flight.clear();
        self.unheard.clear();
        self.last.clear();
        self.paused = false;
    }

    fn resume(&mut self, lanes: &mut Lanes) {
        lanes.delivery.resume();
        if self.in_flight.is_empty() {
            self.restarted();
        }
    }

    /// The broker acknowledges an event.
    fn answer(&mut self, lanes: &mut Lanes, seq: i64) -> Result<(), TestCaseError> {
        let unheard = self.unheard.remove(&seq);
        if lanes.answer(seq, unheard) {
            self.settled.insert(seq);
            self.answered.insert(seq);
        } else {
            prop_assert!(unheard);
        }
        // Events that were held until a later one of their camera was heard are settled with it.
        let cursor = lanes.delivery.window.cursor();
        let all = 1..=i64::try_from(lanes.log.len()).unwrap();
        let overtaken = all.filter(|other| lanes.delivery.window.is_settled(Seq(*other)));
        let overtaken: Vec<_> = overtaken.filter(|other| !self.settled.contains(other)).collect();
        let last = self.last.values().copied().max().unwrap_or(0);
        prop_assert!(overtaken.iter().all(|other| *other < last), "{overtaken:?} up to {cursor}");
        prop_assert!(overtaken.iter().all(|other| self.sent.contains(other)), "{overtaken:?} was not sent");
        self.settled.extend(overtaken);
        Ok(())
    }

    /// Checks what was sent.
    fn sent(&mut self, lanes: &mut Lanes, sent: Vec<Outgoing>) -> Result<(), TestCaseError> {
        for Outgoing { seq, topic, .. } in sent {
            prop_assert!(self.up && !self.paused);
            prop_assert!(!self.settled.contains(&seq.0), "{seq} was settled");
            prop_assert!(!self.in_flight.contains(&seq.0), "{seq} is in flight");
            prop_assert_eq!(topic.ends_with("/history"), lanes.is_late(seq.0), "{}", seq);
            if self.subscribed[lanes.camera(seq.0)] || topic.ends_with("/history") {
                let last = self.last.insert(topic.clone(), seq.0).unwrap_or(0);
                prop_assert!(last < seq.0, "{} after {} on {}", seq, last, topic);
            } else {
                self.unheard.insert(seq.0);
            }
            // A later event may have been sent before only if this one was, too: it is then sent again.
            let sent_to = self.sent_to.entry(topic.clone()).or_default();
            let is_new = sent_to.insert(seq.0) && !self.answered.contains(&seq.0);
            let last = sent_to.last().copied();
            prop_assert!(!is_new || last == Some(seq.0), "{} after {:?} on {}", seq, last, topic);
            self.in_flight.push(seq.0);
            self.sent.insert(seq.0);
        }
        let all = 1..=i64::try_from(lanes.log.len()).unwrap();
        let is_open = |seq: &i64| !self.settled.contains(seq) && !self.in_flight.contains(seq);
        let is_quiet = lanes.delivery.holds.is_quiet();
        if self.up && lanes.delivery.window.room() > 0 && is_quiet {
            let waiting: Vec<_> = all.clone().filter(is_open).filter(|seq| !lanes.is_late(*seq)).collect();
            prop_assert_eq!(waiting, Vec::<i64>::new(), "live events wait although there is room");
        }
        if self.up && !self.paused && self.in_flight.is_empty() && is_quiet {
            prop_assert_eq!(all.filter(is_open).count(), 0, "everything is sent");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// On each topic, events are sent in order; a live event never waits while there is room; each event is on the
    /// topic that it belongs to; nothing that is settled is sent again, and after a crash nothing that was written. If
    /// `waits` is set, events that nobody hears are sent again until they are late.
    #[test]
    fn invariant_3_both_lanes_behave_like_a_simple_model(
        ops in proptest::collection::vec(op(), 1..300),
        waits in any::<bool>(),
    ) {
        let system = crate::System::new();
        system.block_on(async { run(ops, waits) })?;
    }
}

fn run(ops: Vec<Op>, waits: bool) -> Result<(), TestCaseError> {
    let (mut lanes, mut model) = (Lanes::new(MqttSettings::defaults("c")), Model::default());
    if waits {
        lanes.know_topics();
    }
    for op in ops {
        match op {
            Op::Accept(camera, ago) => drop(lanes.accept(camera, ago)),
            Op::Wait(seconds) => lanes.seconds += seconds,
            Op::Up(receive_maximum) => {
                lanes.up(receive_maximum);
                model.restarted();
                model.up = true;
            }
            Op::Down => {
                lanes.down();
                model.restarted();
                model.up = false;
            }
            Op::Pump => {
                let sent = lanes.pump();
                model.sent(&mut lanes, sent)?;
            }
            Op::Acknowledge(n) if n < model.in_flight.len() => {
                let seq = model.in_flight.remove(n);
                model.answer(&mut lanes, seq)?;
            }
            Op::Subscribe(camera, on) => model.subscribed[camera] = on,
            Op::Defer(n) if n < model.in_flight.len() => {
                let seq = Seq(model.in_flight.remove(n));
                model.unheard.remove(&seq.0);
                prop_assert!(lanes.delivery.returned(lanes.link, seq));
                model.paused = true;
            }
            Op::Refuse(n) if n < model.in_flight.len() => {
                let seq = model.in_flight.remove(n);
                model.unheard.remove(&seq);
                prop_assert!(lanes.delivery.refused(lanes.link, Seq(seq), lanes.now()).is_some());
                model.settled.insert(seq);
                model.dead.insert(seq);
                model.answered.insert(seq);
            }
            Op::GiveUp(n) if n < model.in_flight.len() => {
                let seq = model.in_flight.remove(n);
                model.unheard.remove(&seq);
                let deferral = lanes.delivery.deferred(lanes.link, Seq(seq), Some(1), lanes.now());
                prop_assert!(deferral.unwrap().is_last);
                model.settled.insert(seq);
                model.dead.insert(seq);
                model.answered.insert(seq);
                model.paused = true;
            }
            Op::Resume => model.resume(&mut lanes),
            Op::Write => {
                lanes.ranges.0.append(&mut lanes.delivery.take_ranges());
                lanes.ranges.1.append(&mut lanes.delivery.take_ahead());
                lanes.write();
                let (cursor, ahead) = &lanes.written;
                let is_written = |seq: &&i64| **seq <= cursor.0 || ahead.contains(seq);
                model.written = model.settled.iter().filter(is_written).copied().collect();
                // Dead events have a table of their own.
                model.written.extend(&model.dead);
            }
            Op::Crash => {
                lanes.crash();
                let dead = model.dead.iter().filter(|seq| model.written.contains(seq)).map(|seq| Seq(*seq));
                let (cursor, ahead) = &lanes.written;
                let ahead = ahead.iter().map(|seq| (Seq(*seq), Seq(*seq)));
                lanes.delivery.window = Window::new(*cursor, dead, [], lanes.now()).with_ahead(ahead);
                model.settled = model.written.clone();
                model.restarted();
                model.up = false;
            }
            Op::Acknowledge(_) | Op::Defer(_) | Op::Refuse(_) | Op::GiveUp(_) => {}
        }
        let last = i64::try_from(lanes.log.len()).unwrap();
        let pending = (1..=last).filter(|seq| !model.settled.contains(seq)).count();
        prop_assert_eq!(lanes.delivery.pending(Seq(last)), u64::try_from(pending).unwrap());
    }
    finish(lanes, model)
}

/// Sends and acknowledges everything that is left, and checks that the window then keeps nothing in memory.
fn finish(mut lanes: Lanes, mut model: Model) -> Result<(), TestCaseError> {
    if !model.up {
        lanes.up(3);
        model.restarted();
        model.up = true;
    }
    model.subscribed = [true; 2];
    for _ in 0..2000 {
        let sent = lanes.pump();
        model.sent(&mut lanes, sent)?;
        if model.in_flight.is_empty() {
            model.resume(&mut lanes);
            if lanes.delivery.window.cursor().0 == i64::try_from(lanes.log.len()).unwrap() {
                break;
            }
            lanes.seconds += 1;
        } else {
            let seq = model.in_flight.remove(0);
            model.answer(&mut lanes, seq)?;
        }
    }
    prop_assert_eq!(lanes.delivery.window.cursor().0, i64::try_from(lanes.log.len()).unwrap());
    prop_assert_eq!(lanes.delivery.window.settled_above_cursor(), 0);
    Ok(())
}
