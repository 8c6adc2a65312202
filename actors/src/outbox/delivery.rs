//! Delivery: decides which event is sent next, and tracks the events in flight and their outcomes.

use std::{collections::HashMap, time::Duration};

use actix::Recipient;
use tokio::time::Instant;

use super::{
    commit_queue::Notes,
    dispatch::{Plan, plan},
    in_flight_limit::InFlightLimit,
    pacer::Pacer,
    read_ahead::{Next, PageRequest, ReadAhead},
    retry_prefetch::RetryPrefetch,
    window::{Settled, Window},
};
use crate::{
    domain::{
        clock::{LogTime, Moment},
        delivery::{EventTimes, SettledRange, Settlement, Unwritten},
        event_log::{EventPage, StoredEvent},
        ids::{LinkId, Seq},
        settings::{MqttSettings, QoS},
    },
    messages::{
        connection::{Deliver, Outgoing},
        link::{LinkDown, LinkUp},
    },
    store::RetryingEvent,
};

/// How long to wait before a deferred event is sent again. Doubles each time, up to a minute.
const DEFER_FIRST: Duration = Duration::from_secs(1);
const DEFER_LONGEST: Duration = Duration::from_mins(1);

/// An event in flight.
#[derive(Debug)]
pub struct InFlight {
    /// When it happened and when it was accepted.
    pub times: EventTimes,
    /// The topic it was sent to.
    pub topic: String,
    /// Whether that is the `history` topic.
    pub late: bool,
    /// Whether the broker reports if the message had a subscriber.
    pub reports_subscribers: bool,
}

impl InFlight {
    /// Returns whether the message had a subscriber, given what the broker reported; `None` if it does not
    /// report this.
    pub fn heard(&self, unheard: bool) -> Option<bool> {
        self.reports_subscribers.then_some(!unheard)
    }
}

/// The delivery side of the outbox.
#[derive(Debug)]
pub struct Delivery {
    window: Window<InFlight>,
    read_ahead: ReadAhead,
    retries: RetryPrefetch,
    link: Option<Recipient<Deliver>>,
    /// See [`Deliver::pauses`].
    pauses: u64,
    /// Whether the broker on this link reports missing subscribers.
    reports_subscribers: bool,
    /// Maximum number of events in flight, from the configuration.
    max_in_flight: u16,
    /// Maximum number of events in flight on this link, unless one of them is suspected.
    limit: InFlightLimit,
    /// How many of the next events may have ended earlier connections. They are sent one at a time, so that
    /// lateness is decided for each of them when it is actually sent.
    suspected_events: usize,
    /// The number of deferrals of each deferred event.
    deferrals: HashMap<Seq, u32>,
    pacer: Pacer,
}

/// The next event to send.
#[derive(Debug)]
enum NextUp {
    /// An event that is sent for the first time on this link.
    New(StoredEvent),
    /// A retry.
    Again(RetryingEvent),
    /// This event's row cannot be read.
    Unreadable(Seq),
    /// This event is already settled.
    Settled(Seq),
    /// The events from the first seq (inclusive) to the second (exclusive) were removed from the database.
    Gap(Seq, Seq),
    /// The next event has not been read from the database yet.
    Unread,
}

/// The result of [`Delivery::next_batch`].
#[derive(Debug, Default)]
pub struct NextBatch {
    /// The events to send now.
    pub events: Vec<Outgoing>,
    /// Events that have waited longer than `message_expiry_seconds`. They are settled, but not recorded as
    /// dead.
    pub expired: Vec<Seq>,
    /// Events whose rows cannot be read. They are settled, but not recorded as dead.
    pub unreadable: Vec<Seq>,
    /// The number of events whose rows are missing. They are settled.
    pub missing: u64,
    /// How long to wait if the rate limit allows no more events now.
    pub wait: Option<Duration>,
}

/// A temporary refusal of an event by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// How long to wait before sending resumes.
    pub wait: Duration,
    /// Whether the event has reached the maximum number of attempts. If so, it is settled, but not recorded
    /// as dead.
    pub is_last: bool,
}

/// The result of an attempt to resume after a deferral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// Sending has been resumed.
    Resumed,
    /// Events are still in flight: try again.
    Waiting,
    /// There was nothing to resume.
    NotPaused,
}

impl Delivery {
    /// Creates the state without a link. `rate` is the maximum number of events per second, or 0 for no
    /// limit.
    pub fn new(window: Window<InFlight>, max_in_flight: u16, rate: u32) -> Self {
        Self {
            read_ahead: ReadAhead::new(window.cursor().next()),
            window,
            retries: RetryPrefetch::default(),
            link: None,
            pauses: 0,
            reports_subscribers: false,
            max_in_flight,
            limit: InFlightLimit::default(),
            suspected_events: 0,
            deferrals: HashMap::new(),
            pacer: Pacer::new(rate),
        }
    }

    /// Returns the current link, to send events to.
    pub fn link(&self) -> Option<&Recipient<Deliver>> {
        self.link.as_ref()
    }

    /// Returns the current link's id.
    pub fn link_id(&self) -> Option<LinkId> {
        self.window.link()
    }

    /// Returns the number of events in flight.
    pub fn in_flight(&self) -> usize {
        self.window.in_flight()
    }

    /// Returns the number of retries that are waiting or in flight.
    pub fn retrying(&self) -> usize {
        self.window.to_send_again()
    }

    /// Returns the number of pending events, given the last seq that was assigned.
    pub fn pending(&self, last_seq: Seq) -> u64 {
        let settled = i64::try_from(self.window.settled_above_cursor()).unwrap_or(i64::MAX);
        let above = u64::try_from(last_seq.0 - self.window.cursor().0 - settled).unwrap_or(0);
        let first_time = above.saturating_sub(self.window.in_gaps());
        first_time + u64::try_from(self.window.to_send_again()).unwrap_or(u64::MAX)
    }

    /// Returns the lowest seq that may belong to a pending event.
    pub fn first_open(&self) -> Seq {
        self.window.first_open()
    }

    /// Returns when an event was accepted, if it is in flight or the next one to be sent.
    pub fn times(&self, seq: Seq) -> Option<EventTimes> {
        let next = || self.read_ahead.front().filter(|event| event.seq == seq).map(|event| event.times);
        self.window.note(seq).map(|in_flight| in_flight.times).or_else(next)
    }

    /// Returns what is known about deliveries and not in the database: these notes, and what is settled above
    /// the cursor.
    pub fn unwritten(&self, notes: [&Notes; 2]) -> Unwritten {
        let notes = || notes.into_iter();
        Unwritten {
            cursor: self.window.cursor(),
            ranges: notes().flat_map(|notes| &notes.ranges).copied().collect(),
            above: self.window.above_cursor().collect(),
            dead: notes().flat_map(|notes| &notes.dead).map(|dead| (dead.seq, dead.reason)).collect(),
            resent: notes().flat_map(|notes| &notes.resent).copied().collect(),
        }
    }

    /// Takes the ranges that the cursor has passed since the last call.
    pub fn take_ranges(&mut self) -> Vec<SettledRange> {
        self.window.take_ranges()
    }

    /// Changes the maximum number of events per second; 0 means no limit.
    pub fn set_rate(&mut self, rate: u32) {
        self.pacer = Pacer::new(rate);
    }

    /// Starts a new link.
    pub fn link_up(&mut self, link_up: LinkUp) {
        let LinkUp { link, receive_maximum, suspected_events, reports_subscribers, deliver, .. } = link_up;
        self.reports_subscribers = reports_subscribers;
        self.limit = InFlightLimit::new(self.max_in_flight, receive_maximum);
        self.suspected_events = suspected_events;
        self.window.link_up(link, self.limit());
        self.read_ahead.restart(self.window.cursor().next());
        self.link = Some(deliver);
        self.pauses = 0;
    }

    /// Returns the message that sends these events on this link.
    pub fn deliver(&self, events: Vec<Outgoing>) -> Deliver {
        Deliver { events, pauses: self.pauses }
    }

    /// Records that a report of this link contains events that must be sent again.
    pub fn paused(&mut self, link: LinkId) {
        if self.link_id() == Some(link) {
            self.pauses += 1;
        }
    }

    /// Returns how many events may be in flight.
    fn limit(&self) -> usize {
        if self.suspected_events > 0 { 1 } else { self.limit.get() }
    }

    /// Ends the link. Returns whether it was the current one.
    pub fn link_down(&mut self, LinkDown { link }: LinkDown) -> bool {
        let was_current = self.window.link_down(link).is_some();
        if was_current {
            self.link = None;
        }
        was_current
    }

    /// Takes the events that may be sent now. The caller must send them. If live events must wait, the first one ends
    /// the batch, so that none is overtaken.
    pub fn next_batch(
        &mut self,
        settings: &MqttSettings,
        live_may_go: bool,
        now: Moment,
        sent_at: Instant,
    ) -> NextBatch {
        let mut batch = NextBatch::default();
        let mut allowance = self.pacer.allowance(sent_at);
        while self.window.room() > 0 {
            if allowance == 0 {
                batch.wait = Some(self.pacer.wait());
                break;
            }
            let (event, waiting_since, again) = match self.next_up() {
                NextUp::New(event) => {
                    let accepted = event.times.accepted;
                    (event, accepted, false)
                }
                NextUp::Again(RetryingEvent { event, asked }) => (event, asked, true),
                NextUp::Settled(seq) => {
                    self.window.skipped(seq);
                    continue;
                }
                NextUp::Unreadable(seq) => {
                    self.window.skipped(seq);
                    self.settle_dead(seq, now);
                    batch.unreadable.push(seq);
                    continue;
                }
                NextUp::Gap(from, end) => {
                    batch.missing += self.skip_gap(from, end, now);
                    continue;
                }
                NextUp::Unread => break,
            };
            let seq = event.seq;
            match plan(&event, waiting_since, settings, now) {
                Plan::Expired => {
                    if !again {
                        self.window.skipped(seq);
                    }
                    self.settle_dead(seq, now);
                    batch.expired.push(seq);
                }
                Plan::Send { late: false, .. } if !live_may_go => {
                    self.put_back(event, waiting_since, again);
                    break;
                }
                Plan::Send { mut outgoing, late } => {
                    outgoing.asked = again.then_some(waiting_since);
                    allowance -= 1;
                    self.pacer.spend();
                    tracing::debug!(seq = seq.0, topic = outgoing.topic, late, "event sent");
                    let reports_subscribers = self.reports_subscribers && outgoing.qos != QoS::AtMostOnce;
                    let (times, topic) = (event.times, outgoing.topic.clone());
                    let in_flight = InFlight { times, topic, late, reports_subscribers };
                    if again {
                        self.window.sent_again(seq, in_flight);
                    } else {
                        self.window.sent(seq, in_flight);
                    }
                    batch.events.push(outgoing);
                }
            }
        }
        batch
    }

    /// Takes the next event. New events wait until the retries before them have been read, unless they cannot
    /// be read.
    fn next_up(&mut self) -> NextUp {
        if let Some(seq) = self.window.next_again().next() {
            match self.retries.take(seq) {
                Some(retry) => return NextUp::Again(retry),
                None if !self.retries.has_failed() => return NextUp::Unread,
                None => {}
            }
        }
        let Some(seq) = self.window.next() else { return NextUp::Unread };
        if self.window.is_settled(seq) {
            return NextUp::Settled(seq);
        }
        match self.read_ahead.at(seq) {
            Next::Event(event) => NextUp::New(event),
            Next::Unreadable => NextUp::Unreadable(seq),
            Next::Gap(end) => NextUp::Gap(seq, end),
            Next::Unread => NextUp::Unread,
        }
    }

    fn put_back(&mut self, event: StoredEvent, asked: LogTime, again: bool) {
        if again {
            self.retries.put_back(RetryingEvent { event, asked });
        } else {
            self.read_ahead.put_back(event);
        }
    }

    /// Settles events whose rows were removed from the database, because there is nothing to send. Returns
    /// their number, which does not include known gaps.
    fn skip_gap(&mut self, from: Seq, end: Seq, now: Moment) -> u64 {
        let mut missing = 0;
        while let Some(seq) = self.window.next().filter(|seq| *seq < end) {
            self.window.skipped(seq);
            self.settle_dead(seq, now);
            missing += 1;
        }
        tracing::error!(missing, from = from.0, to = end.previous().0, "events are missing in the database");
        missing
    }

    /// Settles an event that the broker has acknowledged; `unheard` states whether it reported that nobody
    /// subscribes to the topic. Returns `None` if the event was not in flight on this link.
    pub fn delivered(
        &mut self,
        link: LinkId,
        seq: Seq,
        unheard: bool,
        at: Moment,
        now: Instant,
    ) -> Option<(Settled<InFlight>, Settlement)> {
        let note = self.window.note(seq)?;
        let settlement = Settlement { at, late: note.late, heard: note.heard(unheard) };
        let settled = self.window.settle(link, seq, settlement)?;
        self.deferrals.remove(&seq);
        self.limit.acknowledged(now);
        self.answered_one();
        Some((settled, settlement))
    }

    fn answered_one(&mut self) {
        self.suspected_events = self.suspected_events.saturating_sub(1);
        self.window.set_limit(self.limit());
    }

    /// Settles an event that the broker has refused for good. Returns `None` if it was not in flight on this
    /// link.
    pub fn refused(&mut self, link: LinkId, seq: Seq, at: Moment) -> Option<InFlight> {
        let settled = self.window.settle(link, seq, Settlement::unpublished(at))?;
        self.settle_dead(seq, at);
        self.answered_one();
        Some(settled.note)
    }

    /// Pauses sending because the broker has temporarily refused an event, which is allowed `attempts` times
    /// per event. Returns `None` if it was not in flight on this link.
    pub fn deferred(
        &mut self,
        link: LinkId,
        seq: Seq,
        attempts: Option<u32>,
        at: Moment,
    ) -> Option<Deferral> {
        if !self.window.defer(link, seq) {
            return None;
        }
        let count = self.deferrals.entry(seq).or_insert(0);
        *count += 1;
        let wait = DEFER_LONGEST.min(DEFER_FIRST * 2u32.saturating_pow((*count).min(10) - 1));
        let is_last = attempts.is_some_and(|attempts| *count >= attempts);
        if is_last {
            self.settle_dead(seq, at);
        }
        Some(Deferral { wait, is_last })
    }

    /// Takes an event back that the connection has not sent. Sending resumes with it when nothing is in flight.
    /// Returns `false` if it was not in flight on this link.
    pub fn returned(&mut self, link: LinkId, seq: Seq) -> bool {
        self.window.defer(link, seq)
    }

    /// Resumes after a deferral if nothing is in flight any more.
    pub fn resume(&mut self) -> Resumption {
        if self.window.resume() {
            self.read_ahead.restart(self.window.cursor().next());
            Resumption::Resumed
        } else if self.window.is_paused() {
            Resumption::Waiting
        } else {
            Resumption::NotPaused
        }
    }

    fn settle_dead(&mut self, seq: Seq, at: Moment) {
        self.deferrals.remove(&seq);
        self.window.forget_again(seq);
        self.window.settle_unsent(seq, Settlement::unpublished(at));
    }

    /// Schedules a dead event to be sent again.
    pub fn send_again(&mut self, seq: Seq) {
        self.window.send_again(seq);
    }

    /// Offers events that were just committed, so that they need not be read from the database.
    pub fn offer(&mut self, committed: &[StoredEvent]) {
        if self.link.is_some() {
            self.read_ahead.offer(committed);
        }
    }

    /// Returns the page to read from the database now, if one is needed.
    pub fn wanted_page(&mut self, last_seq: Seq) -> Option<PageRequest> {
        if let Some(next) = self.window.next() {
            self.read_ahead.skip_to(next);
        }
        self.read_ahead.wants(last_seq)
    }

    /// Adds a page that was read; `page` is `None` if the read failed.
    pub fn page_read(&mut self, request: PageRequest, page: Option<EventPage>) {
        self.read_ahead.page(request, page);
    }

    /// Returns the retries to read from the database now, if any are needed.
    pub fn wanted_retries(&mut self) -> Option<Vec<Seq>> {
        self.retries.wants(self.window.next_again())
    }

    /// Adds the retries that were read. Returns those whose rows cannot be read; they are settled, but not
    /// recorded as dead.
    #[must_use]
    pub fn retries_read(&mut self, wanted: Vec<Seq>, read: Vec<RetryingEvent>, at: Moment) -> Vec<Seq> {
        let unreadable = self.retries.page(wanted, read);
        for seq in &unreadable {
            self.settle_dead(*seq, at);
        }
        unreadable
    }

    /// Records that the retries could not be read.
    pub fn retries_failed(&mut self) {
        self.retries.failed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{clock, event_log::LogRow, ids::CameraId},
        testing::FakeConnection,
    };

    const LINK: LinkId = LinkId(1);
    const NOON: i64 = 1_780_000_000_000_000;

    fn event(seq: i64) -> StoredEvent {
        let at = clock::from_micros(NOON);
        let camera_id = CameraId::parse("door").unwrap();
        StoredEvent {
            seq: Seq(seq),
            camera_id,
            times: EventTimes::new(at, Moment::at(at)),
            payload: "{}".into(),
        }
    }

    /// The last events in the log.
    fn page(events: impl IntoIterator<Item = StoredEvent>) -> EventPage {
        EventPage { rows: events.into_iter().map(LogRow::Event).collect(), end: None }
    }

    /// A link is up, and these events are ready.
    fn delivery(events: impl IntoIterator<Item = i64>) -> Delivery {
        let mut delivery = Delivery::new(Window::new(Seq(0), [], [], noon()), 10, 0);
        up(&mut delivery, LINK);
        let events: Vec<_> = events.into_iter().map(event).collect();
        delivery.offer(&events);
        delivery
    }

    fn up(delivery: &mut Delivery, link: LinkId) {
        delivery.link_up(FakeConnection::start_new().link_up(link, "broker:1883"));
    }

    fn noon() -> Moment {
        Moment::at(clock::from_micros(NOON))
    }

    fn delivered(delivery: &mut Delivery, seq: i64) -> Option<(Settled<InFlight>, Settlement)> {
        delivery.delivered(LINK, Seq(seq), false, noon(), Instant::now())
    }

    fn batch_after(delivery: &mut Delivery, seconds: u64, settings: &MqttSettings) -> NextBatch {
        let now = Moment::at(clock::from_micros(NOON) + Duration::from_secs(seconds));
        delivery.next_batch(settings, true, now, Instant::now())
    }

    fn sent(delivery: &mut Delivery) -> Vec<i64> {
        let batch = batch_after(delivery, 0, &MqttSettings::defaults("c"));
        batch.events.iter().map(|outgoing| outgoing.seq.0).collect()
    }

    #[actix::test]
    async fn an_event_in_flight_is_pending_until_it_is_delivered() {
        let mut delivery = delivery(1..=3);
        assert_eq!(sent(&mut delivery), [1, 2, 3]);
        assert_eq!((delivery.in_flight(), delivery.pending(Seq(3))), (3, 3));
        assert_eq!(delivery.times(Seq(2)).unwrap().received_at, clock::from_micros(NOON));
        let (settled, settlement) = delivered(&mut delivery, 1).unwrap();
        assert_eq!((settled.again, settled.note.topic.as_str()), (false, "liveobject/camera/door/event"));
        assert_eq!(settlement, Settlement { at: noon(), late: false, heard: Some(true) });
        assert!(delivered(&mut delivery, 1).is_none(), "once");
        assert_eq!((delivery.in_flight(), delivery.pending(Seq(3))), (2, 2));
        assert_eq!(delivery.take_ranges(), [SettledRange { up_to: Seq(1), settlement }]);
    }

    #[actix::test]
    async fn live_events_that_must_wait_are_sent_later_in_order_and_late_if_they_are_late_by_then() {
        let settings = MqttSettings::defaults("c");
        let mut held = delivery(1..=3);
        let batch = held.next_batch(&settings, false, noon(), Instant::now());
        assert_eq!((batch.events.len(), held.in_flight(), held.pending(Seq(3))), (0, 0, 3));
        assert_eq!(sent(&mut held), [1, 2, 3]);

        let mut held = delivery(1..=2);
        assert_eq!(held.next_batch(&settings, false, noon(), Instant::now()).events.len(), 0);
        let late = Moment::at(clock::from_micros(NOON) + Duration::from_secs(301));
        let batch = held.next_batch(&settings, false, late, Instant::now());
        let topics: Vec<_> = batch.events.iter().map(|outgoing| outgoing.topic.as_str()).collect();
        assert_eq!(topics, ["liveobject/camera/door/history"; 2]);
    }

    #[actix::test]
    async fn a_retry_that_must_wait_is_sent_later_and_before_later_events() {
        let settings = MqttSettings::defaults("c");
        let mut delivery = delivery(1..=2);
        assert_eq!(sent(&mut delivery), [1, 2]);
        delivery.refused(LINK, Seq(1), noon()).unwrap();
        delivery.send_again(Seq(1));
        delivery.offer(&[event(3)]);
        let wanted = delivery.wanted_retries().unwrap();
        let retry = RetryingEvent { event: event(1), asked: noon().log };
        assert_eq!(delivery.retries_read(wanted, vec![retry], noon()), []);
        assert_eq!(delivery.next_batch(&settings, false, noon(), Instant::now()).events.len(), 0);
        assert_eq!(delivery.wanted_retries(), None, "it is still in memory");
        assert_eq!(sent(&mut delivery), [1, 3]);
    }

    #[actix::test]
    async fn an_expired_event_is_settled_and_not_sent() {
        let mut delivery = delivery(1..=2);
        let settings = MqttSettings { message_expiry_seconds: 60, ..MqttSettings::defaults("c") };
        let batch = batch_after(&mut delivery, 60, &settings);
        assert_eq!((batch.events.len(), batch.expired), (0, vec![Seq(1), Seq(2)]));
        assert_eq!(delivery.pending(Seq(2)), 0);
    }

    #[actix::test]
    async fn a_gap_is_skipped_and_settled() {
        let mut delivery = delivery([]);
        let request = delivery.wanted_page(Seq(4)).unwrap();
        delivery.page_read(request, Some(page([event(3), event(4)])));
        assert_eq!(sent(&mut delivery), [3, 4]);
        assert_eq!(delivery.pending(Seq(4)), 2);
    }

    #[actix::test]
    async fn the_rate_limit_returns_how_long_to_wait() {
        let mut delivery = delivery(1..=3);
        delivery.set_rate(1);
        let batch = batch_after(&mut delivery, 0, &MqttSettings::defaults("c"));
        assert_eq!(batch.events.len(), 1);
        assert!(batch.wait.is_some_and(|wait| wait <= Duration::from_secs(1)), "{:?}", batch.wait);
    }

    #[actix::test]
    async fn a_deferred_event_waits_twice_as_long_each_time_until_it_is_given_up() {
        let mut delivery = delivery(1..=1);
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4)] {
            assert_eq!(sent(&mut delivery), [1]);
            let deferral = delivery.deferred(LINK, Seq(1), Some(3), noon()).unwrap();
            let expected = Deferral { wait: Duration::from_secs(seconds), is_last: attempt == 3 };
            assert_eq!(deferral, expected);
            assert_eq!(delivery.resume(), Resumption::Resumed);
            if let Some(request) = delivery.wanted_page(Seq(1)) {
                delivery.page_read(request, Some(page([event(1)])));
            }
        }
        assert_eq!(delivery.pending(Seq(1)), 0, "it is settled");
        assert_eq!(delivery.resume(), Resumption::NotPaused);
    }

    #[actix::test]
    async fn suspected_events_are_sent_one_at_a_time() {
        let mut delivery = delivery([]);
        let link_up =
            LinkUp { suspected_events: 2, ..FakeConnection::start_new().link_up(LINK, "broker:1883") };
        delivery.link_up(link_up);
        delivery.offer(&[event(1), event(2), event(3), event(4)]);
        assert_eq!(sent(&mut delivery), [1]);
        delivery.refused(LINK, Seq(1), noon()).unwrap();
        assert_eq!(sent(&mut delivery), [2]);
        delivered(&mut delivery, 2).unwrap();
        assert_eq!(sent(&mut delivery), [3, 4]);
    }

    #[actix::test]
    async fn returned_events_are_planned_again_when_nothing_is_in_flight() {
        let mut delivery = delivery(1..=4);
        assert_eq!(sent(&mut delivery), [1, 2, 3, 4]);
        assert!(delivery.returned(LINK, Seq(3)) && delivery.returned(LINK, Seq(4)));
        assert_eq!(delivery.resume(), Resumption::Waiting);
        delivered(&mut delivery, 1).unwrap();
        delivered(&mut delivery, 2).unwrap();
        assert_eq!(delivery.resume(), Resumption::Resumed);
        let request = delivery.wanted_page(Seq(4)).unwrap();
        delivery.page_read(request, Some(page([event(3), event(4)])));
        let batch = batch_after(&mut delivery, 301, &MqttSettings::defaults("c"));
        let topics: Vec<_> = batch.events.iter().map(|outgoing| outgoing.topic.as_str()).collect();
        assert_eq!(topics, ["liveobject/camera/door/history"; 2], "they are late now");
    }

    #[actix::test]
    async fn the_end_of_an_earlier_link_is_ignored() {
        let mut delivery = delivery(1..=1);
        up(&mut delivery, LinkId(2));
        assert!(!delivery.link_down(LinkDown { link: LINK }));
        assert_eq!(delivery.link_id(), Some(LinkId(2)));
    }
}
