//! Delivery: events in flight and their outcomes.

use super::{
    super::next_batch::{Listeners, NextBatch},
    *,
};
use crate::{
    domain::{clock, event_log::LogRow, ids::CameraId, settings::MqttSettings},
    testing::FakeConnection,
};

const LINK: LinkId = LinkId(1);
const LISTENERS: Listeners<'_> = Listeners { live_may_go: true, heard: None };
/// While live events must wait.
const CLOSED: Listeners<'_> = Listeners { live_may_go: false, heard: None };
const NOON: i64 = 1_780_000_000_000_000;

fn event(seq: i64) -> StoredEvent {
    let at = clock::from_micros(NOON);
    let camera_id = CameraId::parse("door").unwrap();
    StoredEvent { seq: Seq(seq), camera_id, times: EventTimes::new(at, Moment::at(at)), payload: "{}".into() }
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
    delivery.next_batch(settings, LISTENERS, now, Instant::now())
}

fn sent(delivery: &mut Delivery) -> Vec<i64> {
    let batch = batch_after(delivery, 0, &MqttSettings::defaults("c"));
    batch.events.iter().map(|outgoing| outgoing.seq.0).collect()
}

#[actix_rt::test(system = "crate::System")]
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

#[actix_rt::test(system = "crate::System")]
async fn live_events_that_must_wait_are_sent_later_in_order_and_late_if_they_are_late_by_then() {
    let settings = MqttSettings::defaults("c");
    let mut held = delivery(1..=3);
    let batch = held.next_batch(&settings, CLOSED, noon(), Instant::now());
    assert_eq!((batch.events.len(), held.in_flight(), held.pending(Seq(3))), (0, 0, 3));
    assert_eq!(sent(&mut held), [1, 2, 3]);

    let mut held = delivery(1..=2);
    assert_eq!(held.next_batch(&settings, CLOSED, noon(), Instant::now()).events.len(), 0);
    let late = Moment::at(clock::from_micros(NOON) + Duration::from_secs(301));
    let batch = held.next_batch(&settings, CLOSED, late, Instant::now());
    let topics: Vec<_> = batch.events.iter().map(|outgoing| outgoing.topic.as_str()).collect();
    assert_eq!(topics, ["liveobject/camera/door/history"; 2]);
}

#[actix_rt::test(system = "crate::System")]
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
    assert_eq!(delivery.next_batch(&settings, CLOSED, noon(), Instant::now()).events.len(), 0);
    assert_eq!(delivery.wanted_retries(), None, "it is still in memory");
    assert_eq!(sent(&mut delivery), [1, 3]);
}

#[actix_rt::test(system = "crate::System")]
async fn an_expired_event_is_settled_and_not_sent() {
    let mut delivery = delivery(1..=2);
    let settings = MqttSettings { message_expiry_seconds: 60, ..MqttSettings::defaults("c") };
    let batch = batch_after(&mut delivery, 60, &settings);
    assert_eq!((batch.events.len(), batch.expired), (0, vec![Seq(1), Seq(2)]));
    assert_eq!(delivery.pending(Seq(2)), 0);
}

#[actix_rt::test(system = "crate::System")]
async fn a_gap_is_skipped_and_settled() {
    let mut delivery = delivery([]);
    let request = delivery.wanted_pages(Seq(4)).next().unwrap();
    delivery.page_read(request, Some(page([event(3), event(4)])));
    assert_eq!(sent(&mut delivery), [3, 4]);
    assert_eq!(delivery.pending(Seq(4)), 2);
}

#[actix_rt::test(system = "crate::System")]
async fn the_rate_limit_returns_how_long_to_wait() {
    let mut delivery = delivery(1..=3);
    delivery.set_rate(1);
    let batch = batch_after(&mut delivery, 0, &MqttSettings::defaults("c"));
    assert_eq!(batch.events.len(), 1);
    assert!(batch.wait.is_some_and(|wait| wait <= Duration::from_secs(1)), "{:?}", batch.wait);
}

#[actix_rt::test(system = "crate::System")]
async fn a_deferred_event_waits_twice_as_long_each_time_until_it_is_given_up() {
    let mut delivery = delivery(1..=1);
    for (attempt, seconds) in [(1, 1), (2, 2), (3, 4)] {
        assert_eq!(sent(&mut delivery), [1]);
        let deferral = delivery.deferred(LINK, Seq(1), Some(3), noon()).unwrap();
        let expected = Deferral { wait: Duration::from_secs(seconds), is_last: attempt == 3 };
        assert_eq!(deferral, expected);
        assert_eq!(delivery.resume(), Resumption::Resumed);
        if let Some(request) = delivery.wanted_pages(Seq(1)).next() {
            delivery.page_read(request, Some(page([event(1)])));
        }
    }
    assert_eq!(delivery.pending(Seq(1)), 0, "it is settled");
    assert_eq!(delivery.resume(), Resumption::NotPaused);
}

#[actix_rt::test(system = "crate::System")]
async fn suspected_events_are_sent_one_at_a_time() {
    let mut delivery = delivery([]);
    let link_up = LinkUp { suspected_events: 2, ..FakeConnection::start_new().link_up(LINK, "broker:1883") };
    delivery.link_up(link_up);
    delivery.offer(&[event(1), event(2), event(3), event(4)]);
    assert_eq!(sent(&mut delivery), [1]);
    delivery.refused(LINK, Seq(1), noon()).unwrap();
    assert_eq!(sent(&mut delivery), [2]);
    delivered(&mut delivery, 2).unwrap();
    assert_eq!(sent(&mut delivery), [3, 4]);
}

#[actix_rt::test(system = "crate::System")]
async fn returned_events_are_planned_again_when_nothing_is_in_flight() {
    let mut delivery = delivery(1..=4);
    assert_eq!(sent(&mut delivery), [1, 2, 3, 4]);
    assert!(delivery.returned(LINK, Seq(3)) && delivery.returned(LINK, Seq(4)));
    assert_eq!(delivery.resume(), Resumption::Waiting);
    delivered(&mut delivery, 1).unwrap();
    delivered(&mut delivery, 2).unwrap();
    assert_eq!(delivery.resume(), Resumption::Resumed);
    let request = delivery.wanted_pages(Seq(4)).next().unwrap();
    delivery.page_read(request, Some(page([event(3), event(4)])));
    let batch = batch_after(&mut delivery, 301, &MqttSettings::defaults("c"));
    let topics: Vec<_> = batch.events.iter().map(|outgoing| outgoing.topic.as_str()).collect();
    assert_eq!(topics, ["liveobject/camera/door/history"; 2], "they are late now");
}

#[actix_rt::test(system = "crate::System")]
async fn the_end_of_an_earlier_link_is_ignored() {
    let mut delivery = delivery(1..=1);
    up(&mut delivery, LinkId(2));
    assert!(!delivery.link_down(LinkDown { link: LINK }));
    assert_eq!(delivery.link_id(), Some(LinkId(2)));
}
