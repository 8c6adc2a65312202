//! Tests of the tracker.

use proptest::prelude::*;

use super::*;
use crate::domain::clock;

const BEGIN: i64 = 1_780_000_000;

fn at(seconds: i64) -> Moment {
    Moment::at(clock::from_micros((BEGIN + seconds) * 1_000_000))
}

fn extent(cursor: i64, last: i64) -> LogExtent {
    LogExtent { cursor: Seq(cursor), last: Seq(last), pending: u64::try_from(last - cursor).unwrap() }
}

/// A tracker whose link is up, as after a start.
fn connected() -> Tracker {
    let mut tracker = Tracker::resume(Earlier::default(), extent(0, 0), at(0));
    tracker.step(ConnectionStep::Connecting, extent(0, 0), at(0));
    tracker.link_up(extent(0, 0), at(0));
    tracker.take_changed();
    tracker.stored();
    tracker
}

#[test]
fn an_outage_is_stored_after_a_second_and_when_it_is_over() {
    let mut tracker = connected();
    tracker.link_down(extent(5, 7), at(100));
    tracker.step(ConnectionStep::Failed(FailureKind::Closed), extent(5, 7), at(100));
    tracker.tick(at(100));
    assert!(!tracker.has_changed() && tracker.unstored().is_empty());
    tracker.tick(at(101));
    let [open] = <[_; 1]>::try_from(tracker.take_changed()).unwrap();
    assert_eq!(
        (open.kind, open.reason, open.ended),
        (OutageKind::BrokerAway, Some(FailureKind::Closed), None)
    );
    assert_eq!((open.began, open.before), (at(100).into(), extent(5, 7)));
    tracker.step(ConnectionStep::Failed(FailureKind::Refused), extent(5, 9), at(110));
    assert!(!tracker.has_changed(), "the first reason is kept");
    tracker.link_up(extent(5, 9), at(160));
    tracker.tick(at(161));
    assert!(!tracker.has_changed(), "it may continue");
    let ended = tracker.unstored().into_values().next().unwrap();
    assert_eq!((ended.ended, ended.last, ended.events()), (Some(at(160).into()), Seq(9), 4));
    tracker.tick(at(190));
    assert_eq!(tracker.take_changed(), [ended]);
    tracker.tick(at(1000));
    assert!(!tracker.has_changed(), "nothing is written while nothing happens");
}

#[test]
fn a_reconnection_within_a_second_is_no_outage() {
    let mut tracker = connected();
    for seconds in [100, 200] {
        tracker.link_down(extent(5, 7), at(seconds));
        tracker.step(ConnectionStep::Connecting, extent(5, 7), at(seconds));
        tracker.link_up(extent(5, 7), at(seconds));
    }
    tracker.tick(at(300));
    assert!(!tracker.has_changed());
}

#[test]
fn a_reconnection_within_a_second_does_not_continue_an_outage() {
    let mut tracker = connected();
    tracker.link_down(extent(5, 7), at(100));
    tracker.tick(at(101));
    tracker.link_up(extent(5, 9), at(110));
    let ended = tracker.unstored();
    tracker.link_down(extent(9, 9), at(120));
    assert_eq!(tracker.unstored(), ended);
    tracker.link_up(extent(9, 11), at(120));
    assert_eq!(tracker.unstored(), ended);
    // The connection is also lost when the service stops.
    tracker.link_down(extent(9, 11), at(125));
    tracker.stop(extent(9, 11), at(125));
    let stored = tracker.take_changed();
    assert_eq!((stored.len(), &stored[0]), (2, ended.values().next().unwrap()));
}

#[test]
fn interruptions_that_follow_each_other_soon_are_one_outage() {
    let mut tracker = connected();
    let interrupt = |tracker: &mut Tracker, from: i64, to: i64| {
        tracker.link_down(extent(5, 7), at(from));
        tracker.tick(at(from + 1));
        tracker.link_up(extent(5, 7 + to), at(to));
    };
    interrupt(&mut tracker, 100, 110);
    interrupt(&mut tracker, 139, 150);
    interrupt(&mut tracker, 180, 190);
    let outages: Vec<_> = tracker.unstored().into_values().collect();
    let times = outages.iter().map(|outage| (outage.began, outage.ended)).collect::<Vec<_>>();
    let expected = [(100, 150), (180, 190)].map(|(from, to)| (at(from).into(), Some(at(to).into())));
    assert_eq!(times, expected);
    assert_eq!(outages[0].last, Seq(157));
}

fn wall(outage: &Outage) -> (OutageKind, i64, Option<i64>) {
    let seconds = |time: Timestamp| clock::to_micros(time) / 1_000_000 - BEGIN;
    (outage.kind, seconds(outage.began.wall), outage.ended.map(|ended| seconds(ended.wall)))
}

/// The moment `seconds` after the beginning, when the wall clock was set by `by` seconds in the meantime.
fn at_with_clock_set(seconds: i64, by: i64) -> Moment {
    Moment { wall: at(seconds + by).wall, ..at(seconds) }
}

#[test]
fn nothing_is_known_of_the_time_that_the_clock_skips() {
    const HOUR: i64 = 3600;
    let mut tracker = connected();
    let set = |tracker: &mut Tracker, seconds: i64, by: i64| {
        tracker.clock_set(TimeDelta::seconds(by), extent(5, 7), at_with_clock_set(seconds, by));
    };
    set(&mut tracker, 100, HOUR);
    let [skipped] = <[_; 1]>::try_from(tracker.take_changed()).unwrap();
    assert_eq!(wall(&skipped), (OutageKind::Unknown, 100, Some(100 + HOUR)));
    assert_eq!((skipped.events(), skipped.began.log), (0, at(100).log), "no event waited");
    tracker.stored();
    set(&mut tracker, 200, -HOUR);
    assert!(!tracker.has_changed(), "no time was skipped");
}

#[test]
fn an_outage_moves_with_a_clock_that_is_set_while_it_lasts() {
    const HOUR: i64 = 3600;
    for by in [HOUR, -HOUR] {
        let mut tracker = connected();
        tracker.link_down(extent(5, 7), at(100));
        tracker.tick(at(102));
        tracker.clock_set(TimeDelta::seconds(by), extent(5, 7), at_with_clock_set(110, by));
        tracker.link_up(extent(5, 9), at_with_clock_set(160, by));
        let outages: Vec<_> = tracker.unstored().values().map(wall).collect();
        let away = (OutageKind::BrokerAway, 100 + by, Some(160 + by));
        let skipped = (OutageKind::Unknown, 100, Some(100 + HOUR));
        assert_eq!(outages, if by > 0 { vec![away, skipped] } else { vec![away] });
    }
}

#[test]
fn no_outage_ends_before_it_begins_when_the_clock_is_behind_after_a_start() {
    let mut tracker = connected();
    tracker.link_down(extent(5, 7), at(5000));
    tracker.tick(at(5002));
    let outages = tracker.take_changed();
    let alive = Some(Instant::from(at(5100)));
    let earlier = Earlier { outages, alive, charts_until: None };
    let behind = Moment { wall: at(1000).wall, ..at(5200) };
    let resumed = Tracker::resume(earlier, extent(5, 7), behind);
    let outages: Vec<_> = resumed.unstored().values().map(wall).collect();
    let away = (OutageKind::BrokerAway, 5000, Some(5100));
    assert_eq!(outages, [away, (OutageKind::Unknown, 1000, Some(1000))]);
    let stopped = Outage { kind: OutageKind::NotRunning, ..resumed.unstored().into_values().next().unwrap() };
    let stopped = Outage { ended: None, ..stopped };
    let earlier = Earlier { outages: vec![stopped], alive, charts_until: None };
    let resumed = Tracker::resume(earlier, extent(5, 7), behind);
    let stopped = resumed.unstored().into_values().next().unwrap();
    assert_eq!(wall(&stopped), (OutageKind::NotRunning, 5000, Some(5000)));
}

#[test]
fn a_disabled_connection_is_not_an_absent_broker() {
    let mut tracker = connected();
    // The facts come in either order.
    tracker.link_down(extent(5, 5), at(100));
    tracker.step(ConnectionStep::Disabled, extent(5, 5), at(100));
    tracker.tick(at(102));
    tracker.step(ConnectionStep::Connecting, extent(5, 8), at(200));
    tracker.link_up(extent(5, 8), at(200));
    tracker.step(ConnectionStep::Disabled, extent(8, 8), at(300));
    tracker.link_down(extent(8, 8), at(300));
    tracker.tick(at(302));
    tracker.step(ConnectionStep::Connecting, extent(8, 9), at(400));
    tracker.step(ConnectionStep::Failed(FailureKind::Refused), extent(8, 9), at(401));
    tracker.tick(at(402));
    let kinds: Vec<_> = tracker.unstored().into_values().map(|outage| outage.kind).collect();
    assert_eq!(kinds, [OutageKind::Disabled, OutageKind::Disabled, OutageKind::BrokerAway]);
}

#[test]
fn a_broker_that_is_away_at_the_start_is_an_outage() {
    let mut tracker = Tracker::resume(Earlier::default(), extent(0, 0), at(0));
    let first: Vec<_> = tracker.take_changed();
    assert_eq!((first[0].began, first[0].ended), (at(0).into(), Some(at(0).into())), "recorded from here");
    tracker.step(ConnectionStep::Connecting, extent(0, 0), at(0));
    tracker.step(ConnectionStep::Failed(FailureKind::NameNotFound), extent(0, 0), at(0));
    tracker.tick(at(1));
    let [open] = <[_; 1]>::try_from(tracker.take_changed()).unwrap();
    assert_eq!((open.kind, open.reason), (OutageKind::BrokerAway, Some(FailureKind::NameNotFound)));
}

#[test]
fn after_an_orderly_stop_the_service_was_not_running() {
    let mut tracker = connected();
    tracker.link_down(extent(5, 7), at(100));
    tracker.tick(at(110));
    tracker.stop(extent(5, 9), at(150));
    let stored = tracker.take_changed();
    let [away, stopped] = <[_; 2]>::try_from(stored.clone()).unwrap();
    assert_eq!((away.ended, away.last), (Some(at(150).into()), Seq(9)));
    assert_eq!((stopped.kind, stopped.ended), (OutageKind::NotRunning, None));
    let earlier = Earlier { outages: vec![stopped], alive: Some(at(140).into()), charts_until: None };
    let mut tracker = Tracker::resume(earlier, extent(5, 9), at(200));
    let [ended] = <[_; 1]>::try_from(tracker.take_changed()).unwrap();
    assert_eq!((ended.began, ended.ended, ended.events()), (at(150).into(), Some(at(200).into()), 4));
}

#[test]
fn after_a_crash_an_open_outage_ends_with_the_last_proof_and_the_rest_is_unknown() {
    let mut tracker = connected();
    tracker.link_down(extent(5, 7), at(100));
    tracker.tick(at(110));
    let earlier = Earlier {
        outages: tracker.take_changed(),
        alive: Some(at(150).into()),
        charts_until: Some(at(90).wall),
    };
    let mut tracker = Tracker::resume(earlier, extent(5, 20), at(200));
    let [away, unknown] = <[_; 2]>::try_from(tracker.take_changed()).unwrap();
    assert_eq!((away.kind, away.ended, away.last), (OutageKind::BrokerAway, Some(at(150).into()), Seq(20)));
    assert_eq!(
        (unknown.kind, unknown.began, unknown.ended),
        (OutageKind::Unknown, at(150).into(), Some(at(200).into()))
    );
    assert_eq!((unknown.charts_until, unknown.events()), (Some(at(90).wall), 15));
    assert!(unknown.id > away.id);
}

#[test]
fn missing_events_make_the_outages_incomplete_that_they_waited_in() {
    let mut tracker = connected();
    tracker.link_down(extent(5, 7), at(100));
    tracker.tick(at(110));
    tracker.link_up(extent(5, 9), at(120));
    tracker.missing(Seq(10), Seq(12));
    assert!(!tracker.unstored().values().any(|outage| outage.missing));
    tracker.missing(Seq(9), Seq(12));
    assert!(tracker.unstored().values().all(|outage| outage.missing));
}

#[test]
fn what_could_not_be_stored_does_not_replace_what_is_newer() {
    let mut tracker = connected();
    tracker.link_down(extent(5, 7), at(100));
    tracker.tick(at(110));
    assert_eq!(tracker.take_changed().len(), 1);
    assert_eq!(tracker.unstored().len(), 1, "it is shown while it is being stored");
    tracker.step(ConnectionStep::Failed(FailureKind::Tls), extent(5, 7), at(111));
    tracker.not_stored();
    assert_eq!(tracker.take_changed()[0].reason, Some(FailureKind::Tls));
}

proptest! {
    /// Whatever happens, outages do not overlap, and those that are stored in the end are those that are shown.
    #[test]
    fn outages_never_overlap_and_are_stored_as_they_are_shown(
        steps in proptest::collection::vec((0i64..40, 0u8..6), 0..60)
    ) {
        let mut tracker = connected();
        let (mut now, mut last, mut cursor) = (100, 0, 0);
        let mut stored = BTreeMap::new();
        for (seconds, step) in steps {
            now += seconds;
            last += seconds;
            let extent = extent(cursor, last);
            match step {
                0 => {
                    tracker.link_up(extent, at(now));
                    cursor = last;
                }
                1 => tracker.link_down(extent, at(now)),
                2 => tracker.step(ConnectionStep::Disabled, extent, at(now)),
                3 => tracker.step(ConnectionStep::Connecting, extent, at(now)),
                4 => tracker.step(ConnectionStep::Failed(FailureKind::Closed), extent, at(now)),
                _ => tracker.tick(at(now)),
            }
            let mut shown = stored.clone();
            shown.extend(tracker.unstored());
            let shown: Vec<Outage> = shown.into_values().collect();
            for pair in shown.windows(2) {
                prop_assert!(pair[0].ended.is_some_and(|end| end.log <= pair[1].began.log), "{pair:?}");
            }
            for outage in tracker.take_changed() {
                stored.insert(outage.id, outage);
            }
        }
        let mut shown = stored.clone();
        shown.extend(tracker.unstored());
        tracker.stop(extent(cursor, last), at(now));
        stored.extend(tracker.take_changed().into_iter().map(|outage| (outage.id, outage)));
        for (id, outage) in shown {
            prop_assert_eq!(stored[&id].began, outage.began);
            prop_assert!(stored[&id].ended.is_some());
        }
    }
}
