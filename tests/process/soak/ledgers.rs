//! The ledgers of the soak test: every event of both processes, on both brokers, in a few dozen bytes each.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::RangeInclusive,
    time::Duration,
};

use liveobject_test_support::{Disorder, Ledger, Message, PacketKind, TappedPacket, Wire};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    clock::{Clock, LATE_AFTER},
    load::CAMERAS,
};

pub const BROKERS: usize = 2;
/// The camera whose listener leaves. The recording subscribers do not hear its live events.
pub const PORCH: &str = "porch";
/// A replay is published to this topic with a number at its end.
pub const REPLAY_TOPIC: &str = "replay/";
/// On this topic, each broker delivers a message after everything that it had acknowledged before.
pub const CAUGHT_UP: &str = "replay/caught-up";

/// The process that accepted an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The service, over REST.
    Rest,
    /// The actors inside the classifier.
    Actors,
}

impl Origin {
    pub const ALL: [Self; 2] = [Self::Rest, Self::Actors];

    /// Returns `r17` or `a17`, so that a message shows its origin.
    pub fn event_id(self, number: u64) -> String {
        match self {
            Self::Rest => format!("r{number}"),
            Self::Actors => format!("a{number}"),
        }
    }

    fn parse(event_id: &str) -> Option<(Self, u64)> {
        let (letter, number) = event_id.split_at_checked(1)?;
        let origin = if letter == "r" { Self::Rest } else { Self::Actors };
        Some((origin, number.parse().ok()?))
    }
}

/// The payload fields that the ledgers need.
#[derive(Deserialize)]
struct Payload<'a> {
    event_id: &'a str,
    seq: u64,
    #[serde(default)]
    late: bool,
    #[serde(default)]
    replay: bool,
}

/// Maximum time between the choice of an event's topic and the event's arrival: an outage of a broker or of
/// the network, plus a margin.
const TRANSIT: Duration = Duration::from_secs(90);
/// Tolerance of the bounds of an age.
const MARGIN: Duration = Duration::from_secs(2);

/// When an event was first sent to the process, and when its receipt arrived. It was accepted in between.
#[derive(Clone, Copy, Debug, Default)]
struct Birth {
    sent: Option<Instant>,
    receipt: Option<Instant>,
}

/// The events of one process. Each broker has its own ledger, because there is no order between two brokers.
#[derive(Debug, Default)]
struct Account {
    brokers: [Ledger<u64>; BROKERS],
    deliveries: usize,
    /// The traffic on the way to the first broker, before that broker could reorder it.
    wire: Wire,
    births: HashMap<u64, Birth>,
    /// Number and seq of each accepted event, in the order of the receipts.
    receipts: Vec<(u64, u64)>,
    highest: u64,
    /// Events that were dead until somebody sent them again or dismissed them. They have no order.
    decided: BTreeSet<u64>,
    /// The dismissed ones among them. They need not be delivered.
    dismissed: BTreeSet<u64>,
    /// Events that may be lost, because the connection was cut while they were published with QoS 0.
    unguaranteed: Vec<RangeInclusive<u64>>,
}

impl Account {
    /// Returns whether an event that arrived now was sent to the wrong topic for its true age.
    fn is_misplaced(&self, number: u64, on_history: bool, arrived: Instant, clock: &Clock) -> bool {
        let birth = self.births.get(&number).copied().unwrap_or_default();
        let age = |since: Instant| arrived.saturating_duration_since(since);
        if on_history {
            // While the clock changes, the time at which an event happened may seem to be long ago.
            let (Some(sent), Some(receipt)) = (birth.sent, birth.receipt) else { return false };
            age(sent) + MARGIN < LATE_AFTER && clock.was_steady(sent, receipt)
        } else {
            birth.receipt.is_some_and(|receipt| age(receipt) > LATE_AFTER + TRANSIT + MARGIN)
        }
    }

    fn distinct(&self) -> usize {
        self.accepted() - self.never_delivered().len() + self.unconfirmed()
    }

    fn accepted(&self) -> usize {
        self.brokers[0].accepted_count()
    }

    fn never_delivered(&self) -> Vec<u64> {
        let [one, other] = &self.brokers;
        one.lost().into_iter().filter(|seq| !other.has_delivered(*seq)).collect()
    }

    fn lost(&self) -> Vec<u64> {
        let is_lost = |seq: &u64| {
            !self.dismissed.contains(seq) && !self.unguaranteed.iter().any(|range| range.contains(seq))
        };
        self.never_delivered().into_iter().filter(is_lost).collect()
    }

    /// Returns the events that were lost with QoS 0, for each time that the connection was cut.
    fn lost_with_qos_0(&self) -> Vec<Vec<u64>> {
        let never_delivered = self.never_delivered();
        let is_lost = |seq: &&u64| !self.dismissed.contains(seq);
        let lost_in = |range: &RangeInclusive<u64>| {
            never_delivered.iter().filter(is_lost).filter(|seq| range.contains(seq)).copied().collect()
        };
        self.unguaranteed.iter().map(lost_in).collect()
    }

    /// Returns the events that were lost with QoS 0 although later ones were sent on the same connection. A cut
    /// loses only what was last sent before it.
    fn lost_with_qos_0_out_of_order(&self) -> Vec<u64> {
        let between = |lost: Vec<u64>| {
            let (Some(first), Some(last)) = (lost.first(), lost.last()) else { return Vec::new() };
            let delivered = |seq: &u64| self.brokers.iter().any(|ledger| ledger.has_delivered(*seq));
            (*first..*last).filter(|seq| delivered(seq) && !self.decided.contains(seq)).collect()
        };
        self.lost_with_qos_0().into_iter().flat_map(between).collect()
    }

    fn unconfirmed(&self) -> usize {
        self.brokers.iter().flat_map(Ledger::unconfirmed).collect::<BTreeSet<_>>().len()
    }

    /// Returns the events that were overtaken, except those that the broker itself reordered.
    ///
    /// An event that the other broker also delivered was sent there in between. On this broker it may then
    /// arrive late, or be missing from a resend.
    fn out_of_order(&self) -> Vec<String> {
        let [one, other] = &self.ordered();
        let decided = |seq: u64| self.decided.contains(&seq);
        let wire = self.wire.overtaken().iter().filter(|case| !other.has_delivered(case.seq));
        let wire = wire.filter(|case| !decided(case.seq) && !decided(case.by));
        let wire = wire.map(|case| format!("on the wire: {case:?}"));
        let first =
            disorder_only_on(one, other).into_iter().filter(|case| !self.is_reordered_by_broker(*case));
        let first = first.map(|case| self.describe(one, case));
        let second = disorder_only_on(other, one).into_iter().map(|case| self.describe(other, case));
        wire.chain(first).chain(second).collect()
    }

    /// Returns what the brokers delivered in the order of acceptance: everything except events that were sent
    /// again on request.
    fn ordered(&self) -> [Ledger<u64>; BROKERS] {
        self.brokers.each_ref().map(|ledger| ledger.without_deliveries(&self.decided))
    }

    /// Returns the events that reached the first broker in order but that it delivered out of order.
    fn reordered_by_broker(&self) -> Vec<String> {
        let [one, other] = &self.ordered();
        let cases =
            disorder_only_on(one, other).into_iter().filter(|case| self.is_reordered_by_broker(*case));
        cases.map(|case| self.describe(one, case)).collect()
    }

    /// Returns whether each connection that carried the later event had carried the overtaken one before it, or only
    /// earlier connections carried it: the broker then delivered it again on its own, for example after a restart.
    fn is_reordered_by_broker(&self, case: Disorder) -> bool {
        let (seq, later) = match case {
            Disorder::Late { seq, after } => (seq, after),
            Disorder::ResendOvertaken { seq, by } => (seq, by),
        };
        let carried = self.wire.carried(later);
        let (before, after) = (self.wire.carried(seq), carried);
        let in_order = |connection| before.contains(connection);
        let only_before = !before.is_empty() && before.iter().max() < after.iter().min();
        !after.is_empty()
            && (after.iter().all(in_order) || only_before)
            && !self.wire.overtaken().iter().any(|case| case.seq == seq)
    }

    fn describe(&self, ledger: &Ledger<u64>, case: Disorder) -> String {
        let (seq, around) = (case.seq(), ledger.around(case.seq()));
        format!("{case:?}, sent on the connections {:?}, in {around:?}", self.wire.carried(seq))
    }
}

/// Returns the events that `here` delivered out of order and that `there` did not deliver at all.
fn disorder_only_on(here: &Ledger<u64>, there: &Ledger<u64>) -> Vec<Disorder> {
    here.out_of_order().into_iter().filter(|case| !there.has_delivered(case.seq())).collect()
}

/// The accounts of both processes, and all other observations.
#[derive(Debug, Default)]
pub struct Ledgers {
    accounts: [Account; 2],
    /// The origin of each connection to the first broker.
    connections: HashMap<usize, Origin>,
    /// Number of messages that each broker delivered.
    pub received: [usize; BROKERS],
    /// Number of messages that each broker delivered on [`CAUGHT_UP`].
    pub caught_up: [usize; BROKERS],
    late: usize,
    /// Descriptions of events that were live although too old, or late although recent.
    on_wrong_topic: Vec<String>,
    /// Messages that neither process can have sent.
    unexpected: Vec<String>,
    /// Durations of the POST requests that returned a receipt, in microseconds.
    pub posts: Vec<u32>,
    /// Number of responses with status 503, 429, or 401 for a revoked token.
    pub refused: usize,
    /// Number of events that became dead over REST, by what happened to them.
    pub retried: usize,
    pub dismissed: usize,
    watch: Option<Watch>,
    /// The ids of the porch's events on the history topic, in the order of their arrival.
    porch_history: Vec<String>,
    /// The seqs that arrived on the topic of each replay.
    replayed: HashMap<String, HashSet<u64>>,
    /// Number of pictures that were read back after the receipt of their event.
    pub pictures: usize,
    /// Other broken guarantees, which the faults found.
    pub other_violations: Vec<String>,
}

/// Observes the events of all cameras of the service except one.
#[derive(Debug)]
struct Watch {
    camera: u64,
    since: Instant,
    longest: Duration,
}

impl Watch {
    fn delivered(&mut self, number: u64, receipt: Option<Instant>, at: Instant) {
        // Without a receipt, the event has just been accepted.
        let Some(receipt) = receipt.filter(|receipt| *receipt >= self.since) else { return };
        if number % CAMERAS != self.camera {
            self.longest = self.longest.max(at.saturating_duration_since(receipt));
        }
    }
}

/// The final figures of one origin.
#[derive(Debug)]
pub struct Balance {
    pub origin: Origin,
    pub accepted: usize,
    pub delivered: usize,
    pub unconfirmed: usize,
    pub lost: Vec<u64>,
    /// Number of events that QoS 0 lost when the connection was cut, which is permitted.
    pub lost_with_qos_0: usize,
    /// Events that QoS 0 lost at another time.
    pub lost_with_qos_0_out_of_order: Vec<u64>,
    /// Number of events seen on the way to the first broker.
    pub seen_on_wire: usize,
    pub out_of_order: Vec<String>,
    /// Also out of order, but through no fault of the system under test.
    pub reordered_by_broker: Vec<String>,
    pub duplicates: usize,
    pub contradictions: Vec<String>,
}

impl Ledgers {
    /// Records that an event is about to be sent to the process.
    pub fn sent(&mut self, origin: Origin, number: u64) {
        self.accounts[origin as usize].births.entry(number).or_default().sent.get_or_insert(Instant::now());
    }

    pub fn accepted(&mut self, origin: Origin, number: u64, seq: u64) {
        let birth = self.accounts[origin as usize].births.entry(number).or_default();
        birth.receipt.get_or_insert(Instant::now());
        let account = &mut self.accounts[origin as usize];
        account.receipts.push((number, seq));
        account.highest = account.highest.max(seq);
        for ledger in &mut self.accounts[origin as usize].brokers {
            ledger.accepted(number, seq);
        }
    }

    pub fn delivered(&mut self, broker: usize, message: &Message, clock: &Clock) {
        self.received[broker] += 1;
        if message.topic == CAUGHT_UP {
            self.caught_up[broker] += 1;
            return;
        }
        if message.payload.is_empty() {
            // This clears a retained event whose camera was deleted or whose topic prefix or setting changed.
            return;
        }
        let payload: Result<Payload, _> = serde_json::from_slice(&message.payload);
        if let Ok(payload) = &payload
            && (payload.replay || payload.event_id.starts_with(PORCH))
        {
            return self.delivered_apart(message, payload);
        }
        let event = payload.as_ref().ok().and_then(|payload| Origin::parse(payload.event_id));
        let (Ok(payload), Some((origin, number))) = (payload, event) else {
            self.unexpected.push(message.text());
            return;
        };
        let account = &mut self.accounts[origin as usize];
        if let Some(watch) = &mut self.watch
            && origin == Origin::Rest
            && !account.brokers.iter().any(|ledger| ledger.has_delivered(payload.seq))
        {
            let receipt = account.births.get(&number).and_then(|birth| birth.receipt);
            watch.delivered(number, receipt, message.at);
        }
        account.brokers[broker].delivered(&message.topic, number, payload.seq);
        account.deliveries += 1;
        self.late += usize::from(payload.late);
        let on_history = message.topic.ends_with("/history");
        let misplaced = account.is_misplaced(number, on_history, message.at, clock);
        if misplaced || payload.late != on_history {
            let birth = account.births.get(&number).copied().unwrap_or_default();
            let elapsed = |time: Option<Instant>| time.map(|time| message.at.saturating_duration_since(time));
            self.on_wrong_topic.push(format!(
                "{} on {}, {:?} after it was sent, {:?} after its receipt",
                payload.event_id,
                message.topic,
                elapsed(birth.sent),
                elapsed(birth.receipt)
            ));
        }
    }

    /// Records a message that is not in the ledgers: a replayed event, or a late one of the porch.
    fn delivered_apart(&mut self, message: &Message, payload: &Payload) {
        let topic = &message.topic;
        if !payload.late || topic.starts_with(REPLAY_TOPIC) != payload.replay {
            self.other_violations.push(format!("on {topic}: {}", message.text()));
        } else if payload.replay {
            self.replayed.entry(topic.clone()).or_default().insert(payload.seq);
        } else {
            self.porch_history.push(payload.event_id.to_owned());
        }
    }

    /// Returns which of these events of the porch reached the history topic, in the order of their arrival.
    pub fn porch_history(&self, ids: &[String]) -> Vec<String> {
        self.porch_history.iter().filter(|id| ids.contains(id)).cloned().collect()
    }

    /// Returns the number of events that arrived on the topic of a replay.
    pub fn replayed(&self, topic: &str) -> u64 {
        self.replayed.get(topic).map_or(0, |seqs| u64::try_from(seqs.len()).expect("small"))
    }

    /// Returns the number of events that arrived on the topics of all replays.
    pub fn replayed_count(&self) -> usize {
        self.replayed.values().map(HashSet::len).sum()
    }

    /// Records a packet on the way to the first broker. The first event on a connection identifies its
    /// origin.
    pub fn packet(&mut self, TappedPacket { connection, what }: &TappedPacket) {
        // An empty payload clears a retained event and is not an event itself, so parsing it fails.
        let read = |payload: &[u8]| {
            let payload: Payload = serde_json::from_slice(payload).ok()?;
            let payload = Some(payload).filter(|payload| !payload.replay)?;
            Some((Origin::parse(payload.event_id)?.0, payload.seq))
        };
        if let PacketKind::Event(publish) = what
            && let Some((origin, _)) = read(&publish.payload)
        {
            self.connections.insert(*connection, origin);
        }
        if let Some(origin) = self.connections.get(connection) {
            let seq = |payload: &[u8]| read(payload).map(|(_, seq)| seq);
            self.accounts[*origin as usize].wire.record(*connection, what, seq);
        }
    }

    pub fn accepted_count(&self) -> usize {
        self.accounts.iter().map(Account::accepted).sum()
    }

    /// Returns the number of accepted events that were not delivered yet.
    pub fn missing(&self, origin: Origin) -> usize {
        self.accounts[origin as usize].lost().len()
    }

    /// Returns the seq of the first event that was not delivered yet, or the next seq.
    pub fn first_missing(&self, origin: Origin) -> u64 {
        let account = &self.accounts[origin as usize];
        account.lost().first().copied().unwrap_or(account.highest + 1)
    }

    /// Returns the highest accepted seq.
    pub fn highest(&self, origin: Origin) -> u64 {
        self.accounts[origin as usize].highest
    }

    /// Returns whether a broker has delivered this event.
    pub fn is_delivered(&self, origin: Origin, seq: u64) -> bool {
        self.accounts[origin as usize].brokers.iter().any(|ledger| ledger.has_delivered(seq))
    }

    /// Returns number and seq of each accepted event, in the order of the receipts.
    pub fn receipts(&self, origin: Origin) -> &[(u64, u64)] {
        &self.accounts[origin as usize].receipts
    }

    /// Records dead events of the service that are about to be sent again.
    pub fn retry(&mut self, seqs: &[u64]) {
        self.retried += seqs.len();
        self.accounts[Origin::Rest as usize].decided.extend(seqs);
    }

    /// Records dead events of the service that are about to be dismissed.
    pub fn dismiss(&mut self, seqs: &[u64]) {
        self.dismissed += seqs.len();
        let account = &mut self.accounts[Origin::Rest as usize];
        account.decided.extend(seqs);
        account.dismissed.extend(seqs);
    }

    /// Records that the connection of the service was cut while it published these events with QoS 0.
    pub fn permit_loss(&mut self, seqs: RangeInclusive<u64>) {
        self.accounts[Origin::Rest as usize].unguaranteed.push(seqs);
    }

    /// Starts to observe how long events of the service take, except those of one camera.
    pub fn watch_all_except(&mut self, camera: u64) {
        self.watch = Some(Watch { camera, since: Instant::now(), longest: Duration::ZERO });
    }

    /// Returns whether all events that [`Ledgers::watch_all_except`] observes were delivered.
    pub fn all_watched_are_delivered(&self) -> bool {
        let Some(watch) = &self.watch else { return true };
        let account = &self.accounts[Origin::Rest as usize];
        let receipt = |number: &u64| account.births.get(number).and_then(|birth| birth.receipt);
        let is_recent =
            |(number, _): &&(u64, u64)| receipt(number).is_some_and(|receipt| receipt >= watch.since);
        let mut watched = account.receipts.iter().rev().take_while(is_recent);
        watched.all(|(number, seq)| {
            number % CAMERAS == watch.camera
                || account.brokers.iter().any(|ledger| ledger.has_delivered(*seq))
        })
    }

    /// Ends [`Ledgers::watch_all_except`]. Returns how long an event took at most.
    pub fn end_watch(&mut self) -> Duration {
        self.watch.take().map_or(Duration::ZERO, |watch| watch.longest)
    }

    pub fn late(&self) -> usize {
        self.late
    }

    /// Describes every violation other than loss and disorder.
    pub fn violations(&self) -> Vec<String> {
        let describe = |what: &str, cases: &[String]| {
            (!cases.is_empty()).then(|| format!("{} {what}: {:?}", cases.len(), &cases[..cases.len().min(5)]))
        };
        [
            describe("events on the wrong topic for their age", &self.on_wrong_topic),
            describe("unexpected messages", &self.unexpected),
        ]
        .into_iter()
        .flatten()
        .chain(self.other_violations.iter().cloned())
        .collect()
    }

    pub fn balance(&self, origin: Origin) -> Balance {
        let account = &self.accounts[origin as usize];
        let delivered = account.distinct();
        let contradictions =
            account.brokers.iter().flat_map(|ledger| ledger.contradictions().to_vec()).collect();
        Balance {
            origin,
            accepted: account.accepted(),
            delivered,
            unconfirmed: account.unconfirmed(),
            lost: account.lost(),
            lost_with_qos_0: account.lost_with_qos_0().iter().map(Vec::len).sum(),
            lost_with_qos_0_out_of_order: account.lost_with_qos_0_out_of_order(),
            seen_on_wire: account.wire.count(),
            out_of_order: account.out_of_order(),
            reordered_by_broker: account.reordered_by_broker(),
            duplicates: account.deliveries - delivered,
            contradictions,
        }
    }
}

#[cfg(test)]
mod tests {
    use liveobject_test_support::mqtt5::Publish;

    use super::*;

    /// Returns ledgers in which the events `r1` to `r9` are accepted.
    fn nine_accepted() -> Ledgers {
        let mut ledgers = Ledgers::default();
        (1..=9).for_each(|number| ledgers.accepted(Origin::Rest, number, number));
        ledgers
    }

    fn deliver(ledgers: &mut Ledgers, clock: &Clock, broker: usize, numbers: &[u64]) {
        for &number in numbers {
            ledgers.delivered(broker, &message(number, "event"), clock);
        }
    }

    fn message(number: u64, topic: &str) -> Message {
        let late = if topic == "history" { r#","late":true"# } else { "" };
        let payload = format!(r#"{{"event_id":"r{number}","seq":{number}{late}}}"#);
        Message {
            order: 0,
            at: Instant::now(),
            topic: format!("liveobject/camera/door/{topic}"),
            payload: payload.into(),
            qos: 1,
            retain: false,
            dup: false,
            message_expiry: None,
        }
    }

    /// Records that events were sent: the connection and the number of each.
    fn send(ledgers: &mut Ledgers, packets: &[(usize, u64)]) {
        for &(connection, number) in packets {
            let payload = message(number, "event").payload;
            let event = Publish { payload, packet_id: 1, qos: 2, ..Publish::default() };
            ledgers.packet(&TappedPacket { connection, what: PacketKind::Event(event) });
        }
    }

    #[test]
    fn an_event_that_reached_neither_broker_is_lost() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        deliver(&mut ledgers, &clock, 0, &[1, 2, 3, 7, 8]);
        deliver(&mut ledgers, &clock, 1, &[4, 5, 6, 7]);
        let balance = ledgers.balance(Origin::Rest);
        assert_eq!((balance.accepted, balance.delivered, balance.duplicates), (9, 8, 1));
        assert_eq!((balance.lost, balance.out_of_order), (vec![9], Vec::<String>::new()));
    }

    #[test]
    fn an_overtaken_event_is_out_of_order_unless_the_other_broker_has_it() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        deliver(&mut ledgers, &clock, 0, &[1, 2, 5, 3, 4]);
        deliver(&mut ledgers, &clock, 1, &[3]);
        let expected = ["Late { seq: 4, after: 5 }, sent on the connections [], in [1, 2, 5, 3, 4]"];
        assert_eq!(ledgers.balance(Origin::Rest).out_of_order, expected);
    }

    #[test]
    fn events_sent_in_order_but_delivered_out_of_order_were_reordered_by_the_broker() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        // Event 5 is sent before event 4, on a second connection.
        send(&mut ledgers, &[(1, 1), (1, 2), (1, 3), (2, 5), (2, 4)]);
        deliver(&mut ledgers, &clock, 0, &[1, 3, 2, 5, 4]);
        let balance = ledgers.balance(Origin::Rest);
        let expected = "Late { seq: 2, after: 3 }, sent on the connections [1], in [1, 3, 2, 5, 4]";
        assert_eq!((balance.seen_on_wire, balance.reordered_by_broker), (5, vec![expected.to_owned()]));
        let matching = balance.out_of_order.iter().filter(|case| case.contains("seq: 4"));
        assert_eq!(matching.count(), 2, "{:?}", balance.out_of_order);
    }

    #[test]
    fn an_event_that_was_sent_only_on_earlier_connections_was_reordered_by_the_broker() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        send(&mut ledgers, &[(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]);
        deliver(&mut ledgers, &clock, 0, &[1, 2, 4, 1, 2, 3, 5]);
        let balance = ledgers.balance(Origin::Rest);
        assert_eq!(balance.out_of_order, Vec::<String>::new());
        assert!(!balance.reordered_by_broker.is_empty());
    }

    #[test]
    fn dead_events_that_were_sent_again_or_dismissed_are_neither_lost_nor_overtaken() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        deliver(&mut ledgers, &clock, 0, &[1, 4, 5, 6, 7, 8, 9]);
        assert_eq!(ledgers.balance(Origin::Rest).lost, [2, 3]);
        ledgers.retry(&[2]);
        ledgers.dismiss(&[3]);
        assert_eq!(ledgers.balance(Origin::Rest).lost, [2]);
        deliver(&mut ledgers, &clock, 0, &[2]);
        let balance = ledgers.balance(Origin::Rest);
        assert_eq!((balance.lost, balance.out_of_order), (vec![], Vec::<String>::new()));
        assert_eq!(balance.delivered, 8);
    }

    #[test]
    fn with_qos_0_only_the_last_events_before_a_cut_may_be_lost() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        deliver(&mut ledgers, &clock, 0, &[1, 2, 3, 6, 8, 9]);
        ledgers.permit_loss(2..=6);
        let balance = ledgers.balance(Origin::Rest);
        assert_eq!((balance.lost, balance.lost_with_qos_0), (vec![7], 2));
        assert_eq!(balance.lost_with_qos_0_out_of_order, Vec::<u64>::new());
        ledgers.permit_loss(7..=9);
        deliver(&mut ledgers, &clock, 0, &[7]);
        ledgers.permit_loss(1..=9);
        assert_eq!(ledgers.balance(Origin::Rest).lost_with_qos_0_out_of_order, Vec::<u64>::new());
        let mut ledgers = nine_accepted();
        deliver(&mut ledgers, &clock, 0, &[1, 2, 4, 6, 7, 8, 9]);
        ledgers.permit_loss(2..=6);
        assert_eq!(ledgers.balance(Origin::Rest).lost_with_qos_0_out_of_order, [4]);
    }

    /// Records that an event was sent, and accepted, this long ago.
    fn born(ledgers: &mut Ledgers, number: u64, ago: Duration) {
        let at = Instant::now().checked_sub(ago);
        ledgers.accounts[0].births.insert(number, Birth { sent: at, receipt: at });
    }

    #[test]
    fn an_event_on_the_wrong_topic_for_its_age_is_a_violation() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        for (number, age) in [(1, 0), (2, 200), (3, 200), (4, 0), (5, 100)] {
            born(&mut ledgers, number, Duration::from_secs(age));
        }
        ledgers.delivered(0, &message(1, "event"), &clock);
        ledgers.delivered(0, &message(2, "history"), &clock);
        ledgers.delivered(0, &message(5, "event"), &clock);
        assert_eq!(ledgers.violations(), Vec::<String>::new(), "5 may have been on its way for long");
        ledgers.delivered(0, &message(3, "event"), &clock);
        ledgers.delivered(0, &message(4, "history"), &clock);
        let violations = ledgers.violations();
        assert!(violations[0].starts_with("2 events on the wrong topic"), "{violations:?}");
    }

    #[test]
    fn an_event_that_was_accepted_while_the_clock_changed_may_be_late() {
        let (mut ledgers, clock) = (nine_accepted(), Clock::new());
        clock.set(3600);
        born(&mut ledgers, 1, Duration::ZERO);
        ledgers.delivered(0, &message(1, "history"), &clock);
        assert_eq!(ledgers.violations(), Vec::<String>::new());
    }
}
