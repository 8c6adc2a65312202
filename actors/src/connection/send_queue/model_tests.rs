//! The poison rule and the queue against random brokers: they close, disconnect, refuse or ignore, over single
//! messages or topics, and the network fails in between. The connection is simulated step by step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    delivery::DeadReason,
    poison::{End, Ending, PATIENCE},
    settings::MqttSettings,
};

const ACK_TIMEOUT: Duration = Duration::from_secs(30);
const ROUND_TRIP: Duration = Duration::from_millis(20);
const STATES: [&str; 5] = [
    "liveobject/status",
    "homeassistant/device/liveobject_a/config",
    "homeassistant/device/liveobject_b/config",
    "liveobject/camera/a/counts",
    "liveobject/outbox",
];
/// No topic has more than one event that is at fault on its own: after two in a row, the rule blames the topic.
const TOPICS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Accept,
    /// Closes the connection, or sends a DISCONNECT.
    Close,
    Refuse,
    RefuseAndClose,
    Ignore,
}

#[derive(Debug, Clone)]
struct Broker {
    events: BTreeMap<Seq, Does>,
    topics: BTreeMap<String, Does>,
    limit: usize,
    /// In which step of which connection something else ends it: the network, or the broker.
    ends: Vec<(usize, usize, bool)>,
}

impl Broker {
    fn does(&self, message: &MessageRef) -> Does {
        let of_event = message.seq.and_then(|seq| self.events.get(&seq));
        *of_event.or_else(|| self.topics.get(&message.topic)).unwrap_or(&Does::Accept)
    }
}

impl Queued for MessageRef {
    fn message_ref(&self) -> &MessageRef {
        self
    }
}

#[derive(Debug, Default)]
struct Outcomes {
    /// When each event was delivered.
    delivered: BTreeMap<Seq, Duration>,
    dead: BTreeMap<Seq, DeadReason>,
    connections: usize,
    left_out: Vec<String>,
}

/// One connection. Returns how it ended, or `None` if everything is settled and quiet.
struct Session<'a> {
    broker: &'a Broker,
    queue: SendQueue<MessageRef>,
    in_flight: VecDeque<MessageRef>,
    outcomes: &'a mut Outcomes,
    now: Instant,
    start: Instant,
    accepted_any: bool,
    last_refused: Option<(MessageRef, DeadReason)>,
    /// Whether a message that was sent after an ignored one is answered.
    overtaken: bool,
}

impl Session<'_> {
    fn submit(&mut self, message: &MessageRef) {
        let Some(cause) = self.queue.poison.verdict(message, self.now.into_std()) else {
            return self.queue.push(message.clone(), self.now);
        };
        match message.seq {
            Some(seq) => {
                self.queue.poison.executed(seq);
                self.outcomes.dead.insert(seq, cause.dead_reason());
            }
            None => self.outcomes.left_out.push(message.topic.clone()),
        }
    }

    fn answer(&mut self, message: &MessageRef, accepted: bool) {
        self.accepted_any |= accepted;
        self.queue.answered(message, accepted, self.now);
        let reason = DeadReason::NotAuthorized;
        self.last_refused = (!accepted).then(|| (message.clone(), reason));
        if let Some(seq) = message.seq {
            if accepted {
                self.outcomes.delivered.insert(seq, self.now - self.start);
            } else {
                self.outcomes.dead.insert(seq, reason);
            }
        }
    }

    /// Sends what can be sent, and lets the broker process one message. Returns the end of the connection.
    fn step(&mut self) -> Option<End> {
        while let Some(message) = self.queue.next(self.in_flight.len(), self.now) {
            self.in_flight.push_back(message);
        }
        self.now += ROUND_TRIP;
        let next = self.in_flight.iter().position(|message| self.broker.does(message) != Does::Ignore);
        let Some(next) = next else { return self.wait() };
        match self.broker.does(&self.in_flight[next]) {
            // If more messages have arrived, the kernel resets the connection.
            Does::Close if self.in_flight.len() > next + 1 => return Some(End::Network),
            Does::Close => return Some(End::ByBroker),
            does => {
                self.overtaken |= next > 0;
                let message = self.in_flight.remove(next).unwrap();
                self.answer(&message, does == Does::Accept);
                if let (Does::RefuseAndClose, Some((message, reason))) = (does, self.last_refused.take()) {
                    return Some(End::AfterRefusal(message, reason));
                }
            }
        }
        None
    }

    /// The broker has answered everything that it will answer.
    fn wait(&mut self) -> Option<End> {
        let Some(first) = self.in_flight.front() else {
            self.now += Duration::from_millis(250);
            return None;
        };
        let ignored = End::Ignored(first.clone());
        let patience = self.queue.poison.patience(first);
        if let (Some(patience), true, 1) = (patience, self.accepted_any, self.in_flight.len()) {
            self.now += patience;
            return Some(ignored);
        }
        let watched = self.queue.poison.treatment(first) == Treatment::Watched;
        self.now += if watched && self.overtaken { PATIENCE } else { ACK_TIMEOUT };
        Some(if self.overtaken { ignored } else { End::Stalled })
    }
}

fn run(broker: &Broker, events: &[MessageRef]) -> Outcomes {
    let start = Instant::now();
    let (mut now, mut poison) = (start, Poison::new(&MqttSettings::defaults("c")));
    let mut outcomes = Outcomes::default();
    let mut failures = 0;
    for connection in 0..400 {
        outcomes.connections += 1;
        outcomes.left_out.clear();
        let suspected = poison.suspected_events();
        let mut session = Session {
            broker,
            queue: SendQueue::new(poison, now),
            in_flight: VecDeque::new(),
            outcomes: &mut outcomes,
            now,
            start,
            accepted_any: false,
            last_refused: None,
            overtaken: false,
        };
        session.queue.accepted(broker.limit, now);
        let state = |topic: &str| MessageRef { seq: None, topic: topic.to_owned(), bytes: 100 };
        session.submit(&state(STATES[0]));
        let is_open = |outcomes: &Outcomes, event: &MessageRef| {
            let seq = event.seq.unwrap();
            !outcomes.delivered.contains_key(&seq) && !outcomes.dead.contains_key(&seq)
        };
        let mut rest: VecDeque<_> =
            events.iter().filter(|event| is_open(session.outcomes, event)).cloned().collect();
        let mut suspected_left = suspected;
        let mut open_now: Vec<MessageRef> = Vec::new();
        let mut end = None;
        for step in 0..10_000 {
            // The outbox hands over what fits into the window, and suspects one at a time.
            let before = open_now.len();
            open_now.retain(|event| is_open(session.outcomes, event));
            suspected_left = suspected_left.saturating_sub(before - open_now.len());
            let limit = if suspected_left > 0 { 1 } else { broker.limit };
            while open_now.len() < limit
                && let Some(event) = rest.pop_front()
            {
                session.submit(&event);
                if is_open(session.outcomes, &event) {
                    open_now.push(event);
                }
            }
            if step == 1 {
                STATES[1..].iter().for_each(|topic| session.submit(&state(topic)));
            }
            let planned = broker.ends.iter().find(|(at, in_step, _)| (*at, *in_step) == (connection, step));
            if let Some((_, _, by_broker)) = planned {
                end = Some(if *by_broker { End::ByBroker } else { End::Network });
                break;
            }
            end = session.step();
            let idle = session.in_flight.is_empty() && session.queue.waiting().next().is_none();
            if end.is_some() || (step > 1 && idle && open_now.is_empty() && rest.is_empty()) {
                break;
            }
        }
        let Session { mut queue, in_flight, accepted_any, now: ended_at, .. } = session;
        let Some(end) = end else { return outcomes };
        let ending = Ending { end, in_flight: in_flight.into(), accepted_any };
        let soon = queue.poison.ended(ending, ended_at.into_std()).retry_soon;
        poison = queue.poison;
        failures = if ended_at - now >= Duration::from_secs(30) { 1 } else { failures + 1 };
        let wait = if soon { 1 } else { 2u64.pow(failures.min(7) - 1).min(60) };
        now = ended_at + Duration::from_secs(wait);
    }
    panic!("the connections never become stable: {broker:?}");
}

fn topic(n: usize) -> String {
    format!("liveobject/camera/{n}/event")
}

fn events_on(topics: &[usize]) -> Vec<MessageRef> {
    let numbered = topics.iter().zip(1..);
    numbered.map(|(n, seq)| MessageRef { seq: Some(Seq(seq)), topic: topic(*n), bytes: 300 }).collect()
}

fn any_fault() -> impl Strategy<Value = Does> {
    prop_oneof![Just(Does::Close), Just(Does::Refuse), Just(Does::RefuseAndClose), Just(Does::Ignore)]
}

prop_compose! {
    fn any_case()(
        topics in prop::collection::vec(0..TOPICS, 1..60),
        // At most one single event on each topic is at fault.
        single in prop::collection::btree_map(0..TOPICS, (0..60usize, any_fault()), 0..3),
        bad_topic in prop::option::of((0..TOPICS, any_fault())),
        // The availability shows that the broker accepts anything at all; a test of its own closes on it.
        states in prop::collection::btree_map(prop::sample::select(&STATES[1..]), any_fault(), 0..3),
        limit in prop::sample::select(&[3usize, 20, 500][..]),
        ends in prop::collection::vec((0..6usize, 0..20usize, any::<bool>()), 0..3),
    ) -> (Broker, Vec<MessageRef>) {
        let events = events_on(&topics);
        let mut broker = Broker { events: BTreeMap::new(), topics: BTreeMap::new(), limit, ends };
        for (n, (index, does)) in single {
            let on_topic: Vec<_> = events.iter().filter(|event| event.topic == topic(n)).collect();
            if let Some(event) = on_topic.get(index % on_topic.len().max(1)) {
                broker.events.insert(event.seq.unwrap(), does);
            }
        }
        broker.topics.extend(states.into_iter().map(|(topic, does)| (topic.to_owned(), does)));
        if let Some((n, does)) = bad_topic {
            broker.events.retain(|seq, _| events[usize::try_from(seq.0).unwrap() - 1].topic != topic(n));
            broker.topics.insert(topic(n), does);
        }
        // Two coincidental closes at most; a third in a row would be evidence.
        let mut closes = 0;
        broker.ends.retain(|(_, _, by_broker)| {
            closes += usize::from(*by_broker);
            !by_broker || closes <= 2
        });
        (broker, events)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_event_dies_that_the_broker_would_accept_and_all_others_are_delivered((broker, events) in any_case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcomes = runtime.block_on(async { run(&broker, &events) });
        for event in &events {
            let seq = event.seq.unwrap();
            match broker.does(event) {
                Does::Accept => prop_assert!(
                    outcomes.delivered.contains_key(&seq),
                    "{event:?} is dead: {:?}", outcomes.dead.get(&seq)
                ),
                Does::Refuse | Does::RefuseAndClose => prop_assert!(outcomes.dead.contains_key(&seq)),
                Does::Close | Does::Ignore => {
                    prop_assert!(matches!(
                        outcomes.dead.get(&seq),
                        Some(DeadReason::ConnectionClosedByBroker | DeadReason::IgnoredByBroker)
                    ), "{event:?}: {:?}", outcomes.dead.get(&seq));
                }
            }
        }
        prop_assert!(outcomes.connections <= 60, "{} connections", outcomes.connections);
    }

    #[test]
    fn whatever_a_broker_does_to_one_topic_the_others_are_delivered_within_a_minute(
        topics in prop::collection::vec(0..TOPICS, 1..200),
        does in any_fault(),
        limit in prop::sample::select(&[3usize, 20, 500][..]),
    ) {
        let events = events_on(&topics);
        let topics = [(topic(0), does)].into();
        let broker = Broker { events: BTreeMap::new(), topics, limit, ends: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcomes = runtime.block_on(async { run(&broker, &events) });
        for event in events.iter().filter(|event| event.topic != topic(0)) {
            let at = outcomes.delivered.get(&event.seq.unwrap());
            prop_assert!(at.is_some_and(|at| *at < Duration::from_mins(1)), "{event:?}: {at:?}");
        }
    }
}

#[tokio::test]
async fn a_broker_that_closes_on_one_state_needs_few_connections() {
    for topic in STATES {
        let topics = [(topic.to_owned(), Does::Close)].into();
        let broker = Broker { events: BTreeMap::new(), topics, limit: 20, ends: Vec::new() };
        let outcomes = run(&broker, &events_on(&[0, 1, 2]));
        assert_eq!((outcomes.delivered.len(), outcomes.left_out), (3, vec![topic.to_owned()]));
        assert!(outcomes.connections <= 5, "{topic}: {} connections", outcomes.connections);
    }
}
