//! Tests of the charts.

use super::*;
use crate::domain::{
    ids::Seq,
    outage::{Instant, LogExtent},
};

/// 2026-05-28 20:26 UTC, in minutes since 1970.
const BEGIN: i64 = 29_666_666;

fn at(minute: i64) -> Moment {
    Moment::at(time_of(BEGIN + minute))
}

fn counters(accepted: u64) -> Counters {
    Counters { reading: Reading { accepted, ..Reading::default() }, late: accepted / 2, dead: 0 }
}

fn minute(at: i64, accepted: u64) -> Period {
    let figures = Figures { accepted, late: accepted / 2, ..Figures::default() };
    Period { at: BEGIN + at, span: 1, log_time: clock::to_micros(time_of(BEGIN + at + 1)), figures }
}

#[test]
fn nothing_is_stored_while_nothing_happens() {
    let mut charts = Charts::new(counters(7), Figures::default(), at(0));
    for m in 1..2000 {
        assert!(charts.sample(0, at(m)));
        charts.next_minute(counters(7), at(m));
        assert!(!charts.are_due());
    }
    assert_eq!(charts.minutes, []);
}

#[test]
fn minutes_are_stored_together_and_the_last_one_shows_until_when_they_are_known() {
    let mut charts = Charts::new(counters(0), Figures::default(), at(0));
    for m in 1..=15 {
        assert!(!charts.are_due());
        charts.next_minute(counters(if m >= 2 { 4 } else { 0 }), at(m));
    }
    // In the second minute, which is the only one in which something happened.
    assert!(!charts.sample(0, at(15)));
    charts.next_minute(counters(4), at(16));
    assert!(charts.are_due());
    let stored = charts.take(LogTime(5));
    assert_eq!(stored[0], minute(1, 4));
    assert_eq!((stored.len(), stored[1].at, stored[1].figures.is_zero()), (2, BEGIN + 15, true));
    assert!(!charts.are_due());
}

#[test]
fn a_peak_of_pending_events_within_a_minute_is_kept() {
    let mut charts = Charts::new(counters(0), Figures::default(), at(0));
    assert!(!charts.sample(9, at(0)));
    assert!(!charts.sample(0, at(0)));
    charts.next_minute(counters(0), at(1));
    assert_eq!(charts.minutes[0].figures.pending, 9);
    assert_eq!(charts.unstored(&counters(3), at(1))[1].figures.accepted, 3, "with a part of this minute");
}

#[test]
fn minutes_that_cannot_be_stored_are_bounded() {
    let mut charts = Charts::new(counters(0), Figures::default(), at(0));
    for m in 1..1000 {
        charts.next_minute(counters(u64::try_from(m).unwrap()), at(m));
        charts.take(LogTime(0));
        charts.not_stored();
        assert!(charts.minutes.len() <= MAX_MINUTES);
    }
    assert_eq!(charts.minutes.last().unwrap().at, BEGIN + 998);
}

fn outage(kind: OutageKind, from: i64, to: i64, charts_until: Option<i64>) -> Outage {
    Outage {
        id: 1,
        kind,
        reason: None,
        began: Instant::from(at(from)),
        ended: Some(Instant::from(at(to))),
        before: LogExtent::default(),
        last: Seq(0),
        missing: false,
        charts_until: charts_until.map(|minute| at(minute).wall),
    }
}

fn states(points: &[HistoryPoint]) -> String {
    let letter = |point: &HistoryPoint| match point.state {
        PointState::Known if point.figures.is_zero() => '0',
        PointState::Known => 'k',
        PointState::NotRunning => 'n',
        PointState::Unknown => 'u',
    };
    points.iter().map(letter).collect()
}

#[test]
fn a_period_without_figures_is_zero_only_if_the_service_was_running() {
    let now = at(59).wall;
    let of = |outages: &[Outage], recorded_from: i64, periods: &[Period]| {
        let points = points(HistoryRange::Hour, periods, outages, at(recorded_from).wall, now);
        assert_eq!(points.len(), 60);
        states(&points[50..])
    };
    assert_eq!(of(&[], 0, &[]), "0000000000");
    assert_eq!(of(&[], 52, &[minute(53, 2)]), "uu0k000000", "nothing is known of the time before");
    let stopped = outage(OutageKind::NotRunning, 52, 55, None);
    assert_eq!(of(std::slice::from_ref(&stopped), 0, &[]), "00nnn00000");
    let crashed = outage(OutageKind::Unknown, 55, 56, Some(53));
    assert_eq!(of(&[stopped, crashed.clone()], 0, &[]), "00nnnu0000");
    assert_eq!(of(&[crashed], 0, &[minute(52, 1)]), "00kuuu0000", "what was not stored is unknown, not zero");
    let away = outage(OutageKind::BrokerAway, 52, 55, None);
    assert_eq!(of(&[away], 0, &[]), "0000000000");
}

#[test]
fn a_longer_range_joins_minutes_and_quarters_of_an_hour() {
    let now = at(0).wall;
    let quarter = (BEGIN - 3000) - (BEGIN - 3000).rem_euclid(15);
    let old = Period { at: quarter, span: 15, ..minute(0, 30) };
    let points = points(HistoryRange::Week, &[old, minute(-2, 4), minute(-1, 6)], &[], at(-20_000).wall, now);
    assert_eq!(points.len(), 336);
    assert_eq!(points.last().unwrap().figures.accepted, 10);
    assert_eq!(points.iter().map(|point| point.figures.accepted).sum::<u64>(), 40);
    assert_eq!(points.last().unwrap().at, now);
}

#[test]
fn the_delivery_times_of_several_minutes_are_joined() {
    let mut first = minute(57, 1);
    first.figures.deliveries = vec![0, 0, 9];
    let mut second = minute(58, 1);
    second.figures.deliveries = vec![0, 0, 0, 0, 1];
    let of = |periods: &[Period]| {
        let points = points(HistoryRange::Day, periods, &[], at(0).wall, at(59).wall);
        let joined = points.into_iter().find(|point| point.figures.accepted > 0).unwrap();
        (joined.delivery_p50.unwrap(), joined.delivery_p95.unwrap())
    };
    let (median, most) = of(&[first, second]);
    assert!((0.000_5..=0.001).contains(&median), "{median}");
    assert!((0.002..=0.004).contains(&most), "{most}");
}

#[test]
fn a_minute_in_which_the_service_was_restarted_is_complete() {
    let mut charts = Charts::new(counters(0), minute(0, 4).figures, at(0));
    assert_eq!(charts.unstored(&counters(2), at(0))[0].figures.accepted, 6);
    charts.next_minute(counters(2), at(1));
    charts.next_minute(counters(2), at(2));
    assert_eq!(charts.minutes.iter().map(|minute| minute.figures.accepted).collect::<Vec<_>>(), [6]);
}
