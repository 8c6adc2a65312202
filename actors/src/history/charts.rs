//! The figures of the charts: one set for each minute, joined to the points of a chart on request. No clock, no I/O.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::{
    domain::{
        clock::{self, LogTime, Moment, Timestamp},
        history::{Figures, HistoryPoint, HistoryRange, Period, PointState},
        outage::{Outage, OutageKind},
    },
    reading::{Distribution, Reading},
};

/// The figures of this many minutes are stored together.
pub const STORED_EVERY: i64 = 15;

/// Maximum number of minutes in memory, while the database cannot store them.
const MAX_MINUTES: usize = 120;

const MINUTE_MICROS: i64 = 60_000_000;

/// Returns the minute of a moment, since 1970.
pub fn minute_of(time: Timestamp) -> i64 {
    clock::to_micros(time).div_euclid(MINUTE_MICROS)
}

fn time_of(minute: i64) -> Timestamp {
    clock::from_micros(minute.saturating_mul(MINUTE_MICROS))
}

/// The values of the counters at one moment. They start at 0 with the process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Some of the metrics.
    pub reading: Reading,
    /// Events that were published because they were late.
    pub late: u64,
    /// Events that became dead.
    pub dead: u64,
}

impl Counters {
    fn since(&self, earlier: &Self, pending: u64) -> Figures {
        let deliveries = self.reading.delivery.since(&earlier.reading.delivery).buckets();
        Figures {
            accepted: self.reading.accepted.saturating_sub(earlier.reading.accepted),
            late: self.late.saturating_sub(earlier.late),
            dead: self.dead.saturating_sub(earlier.dead),
            pending: pending.max(self.reading.pending),
            deliveries: if deliveries.iter().all(|count| *count == 0) { Vec::new() } else { deliveries },
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Charts {
    /// The current minute, since 1970.
    minute: i64,
    /// The counters when it began.
    counters: Counters,
    /// What an earlier run has stored of it.
    earlier: Figures,
    /// Maximum number of pending events in it.
    pending: u64,
    /// The minutes that are not stored and in which something happened, oldest first.
    minutes: Vec<Period>,
    /// The minutes that are being stored.
    storing: Vec<Period>,
}

impl Charts {
    /// Starts with these counters. `earlier` is what an earlier run has stored of the current minute.
    pub fn new(counters: Counters, earlier: Figures, now: Moment) -> Self {
        Self {
            minute: minute_of(now.wall),
            counters,
            earlier,
            pending: 0,
            minutes: Vec::new(),
            storing: Vec::new(),
        }
    }

    /// Notes the number of pending events. Returns whether a new minute has begun, so that [`Charts::next_minute`] must
    /// be called.
    pub fn sample(&mut self, pending: u64, now: Moment) -> bool {
        self.pending = self.pending.max(pending);
        minute_of(now.wall) != self.minute
    }

    /// Ends the current minute.
    pub fn next_minute(&mut self, counters: Counters, now: Moment) {
        let ended = self.current(&counters, now);
        if !ended.figures.is_zero() {
            self.minutes.push(ended);
        }
        if self.minutes.len() > MAX_MINUTES {
            self.minutes.remove(0);
        }
        (self.minute, self.counters, self.pending) = (minute_of(now.wall), counters, 0);
        self.earlier = Figures::default();
    }

    fn current(&self, counters: &Counters, now: Moment) -> Period {
        let mut figures = counters.since(&self.counters, self.pending);
        figures.add(&self.earlier);
        Period { at: self.minute, span: 1, log_time: now.log.0, figures }
    }

    /// Returns whether the minutes must be stored: some time after something happened.
    pub fn are_due(&self) -> bool {
        self.minutes.first().is_some_and(|first| (self.minute - first.at).abs() >= STORED_EVERY)
    }

    /// Takes the minutes to store. The last one is that before the current one, even if nothing happened in it: after a
    /// crash, it shows until when the figures are known. Then [`Charts::stored`] or [`Charts::not_stored`] must be
    /// called.
    pub fn take(&mut self, now: LogTime) -> Vec<Period> {
        let mut minutes = std::mem::take(&mut self.minutes);
        let last = self.minute - 1;
        if minutes.last().is_some_and(|minute| minute.at < last) {
            minutes.push(Period { at: last, span: 1, log_time: now.0, figures: Figures::default() });
        }
        self.storing.clone_from(&minutes);
        minutes
    }

    /// Records that the minutes that were taken are stored.
    pub fn stored(&mut self) {
        self.storing.clear();
    }

    /// Takes the minutes to store before the service stops. The last one is the current one, even if nothing happened
    /// in it.
    pub fn take_all(&mut self, counters: &Counters, now: Moment) -> Vec<Period> {
        let last = self.current(counters, now);
        let mut minutes = std::mem::take(&mut self.minutes);
        minutes.push(last);
        minutes
    }

    /// Records that the minutes that were taken could not be stored. They are stored later.
    pub fn not_stored(&mut self) {
        let mut minutes = std::mem::take(&mut self.storing);
        minutes.append(&mut self.minutes);
        let surplus = minutes.len().saturating_sub(MAX_MINUTES);
        self.minutes = minutes.split_off(surplus);
    }

    /// Returns the minutes that are not stored, with a part of the current one.
    pub fn unstored(&self, counters: &Counters, now: Moment) -> Vec<Period> {
        let current = self.current(counters, now);
        self.storing.iter().chain(&self.minutes).cloned().chain([current]).collect()
    }
}

/// A time for which the figures are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    from: Timestamp,
    to: Timestamp,
    state: PointState,
}

fn gaps(outages: &[Outage], recorded_from: Timestamp) -> Vec<Gap> {
    let before = Gap { from: Timestamp::MIN_UTC, to: recorded_from, state: PointState::Unknown };
    let gap = |outage: &Outage| {
        let to = outage.ended?.wall;
        match outage.kind {
            OutageKind::NotRunning => {
                Some(Gap { from: outage.began.wall, to, state: PointState::NotRunning })
            }
            OutageKind::Unknown => {
                let from =
                    outage.charts_until.map_or(outage.began.wall, |until| until.min(outage.began.wall));
                Some(Gap { from, to, state: PointState::Unknown })
            }
            OutageKind::BrokerAway | OutageKind::Disabled => None,
        }
    };
    [before].into_iter().chain(outages.iter().filter_map(gap)).collect()
}

/// Returns the first minute of a range that ends now, since 1970. The points of a range begin at whole multiples of its
/// step.
pub fn first_minute(range: HistoryRange, now: Timestamp) -> i64 {
    let (now, step) = (minute_of(now), range.step());
    now - now.rem_euclid(step) + step - range.minutes()
}

/// Returns the points of a range, oldest first. Without figures, nothing happened, unless the service was not running.
/// A point is known if a part of it is.
pub fn points(
    range: HistoryRange,
    periods: &[Period],
    outages: &[Outage],
    recorded_from: Timestamp,
    now: Timestamp,
) -> Vec<HistoryPoint> {
    let (first, step) = (first_minute(range, now), range.step());
    let mut sums: BTreeMap<i64, Figures> = BTreeMap::new();
    for period in periods.iter().filter(|period| period.at >= first) {
        let at = period.at - period.at.rem_euclid(step);
        sums.entry(at).or_default().add(&period.figures);
    }
    let gaps = gaps(outages, recorded_from);
    let starts = (first..=minute_of(now)).step_by(usize::try_from(step).unwrap_or(1));
    let point = |start: i64| {
        let (from, to) = (time_of(start), time_of(start + step).min(now));
        let known = sums.remove(&start);
        let state = if known.is_some() { PointState::Known } else { state_between(&gaps, from, to) };
        let figures = known.unwrap_or_default();
        let delivery = Distribution::of_buckets(&figures.deliveries);
        HistoryPoint {
            at: to,
            state,
            delivery_p50: delivery.quantile(0.5),
            delivery_p95: delivery.quantile(0.95),
            figures,
        }
    };
    starts.map(point).collect()
}

/// Returns whether figures are known for a part of the time. If not, the state is that of the longest gap.
fn state_between(gaps: &[Gap], from: Timestamp, to: Timestamp) -> PointState {
    let overlap = |gap: &Gap| (gap.to.min(to) - gap.from.max(from)).max(TimeDelta::zero());
    let covered: TimeDelta = gaps.iter().map(overlap).sum();
    // Gaps that follow each other may leave less than a second in between.
    if covered.is_zero() || covered + TimeDelta::seconds(1) < to - from {
        return PointState::Known;
    }
    // After a crash, it is not known what was not stored, but an orderly stop before that is.
    let longest = gaps.iter().max_by_key(|gap| (overlap(gap), gap.state == PointState::NotRunning));
    longest.map_or(PointState::Known, |gap| gap.state)
}

#[cfg(test)]
#[path = "charts_tests.rs"]
mod tests;
