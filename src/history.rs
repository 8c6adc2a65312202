//! The data behind the page's charts: figures of the last hour, and the number of events delivered today.
//!
//! Samples the metrics every 15 s. The samples are kept in memory only, so they are lost on a restart.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liveobject_actors::{
    domain::{
        calendar::{Calendar, Day},
        causes::with_causes,
        clock::{self, Timestamp},
    },
    metrics::Metrics,
    reading::Reading,
};

/// How often the metrics are sampled.
pub const INTERVAL: Duration = Duration::from_secs(15);

/// How often the number of pending events is sampled. A broker can restart within [`INTERVAL`], and the peak
/// in between must be visible.
const PEAK_INTERVAL: Duration = Duration::from_secs(1);

/// The pause before the second sample, which yields the first point. Shorter than [`INTERVAL`], so that the
/// first point appears soon after a start.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);

/// Samples in an hour; they take about 80 KiB.
const POINTS: usize = 240;
/// Samples in a minute: each point covers the minute that ended with it.
const MINUTE: usize = 4;

/// The figures of one minute.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When the minute ended.
    pub at: Timestamp,
    /// Events accepted within the minute.
    pub accepted: u64,
    /// Maximum number of pending events in the last [`INTERVAL`] of the minute.
    pub pending: u64,
    /// Median delivery time in seconds, estimated from the histogram; `None` without deliveries.
    pub delivery_p50: Option<f64>,
    /// 95th percentile of the delivery time, estimated in the same way.
    pub delivery_p95: Option<f64>,
}

/// The samples of the last hour, oldest first.
#[derive(Debug, Default)]
struct Ring(VecDeque<(Timestamp, Reading)>);

impl Ring {
    fn push(&mut self, at: Timestamp, reading: Reading) {
        // The oldest point needs a minute of samples before it.
        if self.0.len() == POINTS + MINUTE {
            self.0.pop_front();
        }
        self.0.push_back((at, reading));
    }

    /// Returns the points of the last hour, one per sample. The first sample has none, because there is nothing
    /// to compare it with.
    fn points(&self) -> Vec<Point> {
        let first = self.0.len().saturating_sub(POINTS).max(1);
        (first..self.0.len())
            .map(|i| {
                let ((at, now), (_, before)) = (&self.0[i], &self.0[i.saturating_sub(MINUTE)]);
                let delivery = now.delivery.since(&before.delivery);
                Point {
                    at: *at,
                    accepted: now.accepted.saturating_sub(before.accepted),
                    pending: now.pending,
                    delivery_p50: delivery.quantile(0.5),
                    delivery_p95: delivery.quantile(0.95),
                }
            })
            .collect()
    }
}

/// Counts since midnight, derived from a counter that starts at zero with the process.
#[derive(Debug, Clone, Copy)]
struct Today {
    day: Day,
    /// The count of this day before the process started.
    earlier: u64,
    /// The counter's value when the day or the process began, whichever was later.
    counter: u64,
}

impl Today {
    fn count(&self, counter: u64) -> u64 {
        self.earlier + counter.saturating_sub(self.counter)
    }

    /// Starts a new count if `day` is a different day.
    fn advance_to(&mut self, day: Day, counter: u64) {
        if day != self.day {
            *self = Self { day, earlier: 0, counter };
        }
    }
}

/// The history of the last hour. Cheap to clone; clones share the samples.
#[derive(Debug, Clone)]
pub struct History {
    metrics: Metrics,
    calendar: Calendar,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    today: Today,
    /// Maximum number of pending events since the last sample.
    peak_pending: u64,
}

impl History {
    /// Creates a history that begins now. `delivered` is the number of events already delivered today.
    pub fn new(metrics: Metrics, calendar: Calendar, delivered: u64) -> Self {
        let today = Today { day: calendar.day(clock::now()), earlier: delivered, counter: 0 };
        let state = State { ring: Ring::default(), today, peak_pending: 0 };
        let history = Self { metrics, calendar, state: Arc::new(Mutex::new(state)) };
        history.sample();
        history
    }

    /// Samples the metrics forever: every [`INTERVAL`], and at midnight.
    pub async fn run(&self) -> Infallible {
        let mut pause = FIRST_INTERVAL;
        loop {
            let now = clock::now();
            let tomorrow = self.calendar.day(now).succ_opt().map(|day| self.calendar.start(day));
            let left = tomorrow.and_then(|tomorrow| (tomorrow - now).to_std().ok()).unwrap_or(pause);
            let mut left = left.clamp(Duration::from_millis(1), pause);
            while !left.is_zero() {
                let nap = left.min(PEAK_INTERVAL);
                tokio::time::sleep(nap).await;
                left -= nap;
                self.sample_pending();
            }
            pause = INTERVAL;
            self.sample();
        }
    }

    /// Returns the points of the last hour, oldest first.
    pub fn points(&self) -> Vec<Point> {
        self.lock().ring.points()
    }

    /// Returns the number of events that the broker has acknowledged since midnight.
    pub fn delivered_today(&self) -> u64 {
        let counter = self.metrics.mqtt_messages_published.get();
        self.lock().today.count(counter)
    }

    fn sample_pending(&self) {
        let pending = u64::try_from(self.metrics.outbox_pending.get()).unwrap_or(0);
        let mut state = self.lock();
        state.peak_pending = state.peak_pending.max(pending);
    }

    fn sample(&self) {
        let now = clock::now();
        match Reading::take(&self.metrics) {
            Ok(mut reading) => {
                let mut state = self.lock();
                reading.pending = reading.pending.max(std::mem::take(&mut state.peak_pending));
                state.today.advance_to(self.calendar.day(now), reading.published);
                state.ring.push(now, reading);
            }
            Err(error) => {
                tracing::error!(error = %with_causes(&error), "cannot read the metrics; the charts will have a gap");
            }
        }
    }

    /// Locks the state. Callers hold the lock only to copy or count, never across an `await`.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: i64) -> Timestamp {
        clock::from_micros(n * 1_000_000)
    }

    fn reading(accepted: u64) -> Reading {
        Reading { accepted, pending: accepted % 7, ..Reading::default() }
    }

    #[test]
    fn a_point_covers_the_minute_before_it() {
        let mut ring = Ring::default();
        for i in 0..=8 {
            ring.push(second(15 * i), reading(10 * u64::try_from(i).unwrap()));
        }
        let counts: Vec<_> = ring.points().iter().map(|point| point.accepted).collect();
        // Within the first minute, the points count from the start.
        assert_eq!(counts, [10, 20, 30, 40, 40, 40, 40, 40]);
        assert_eq!(ring.points()[7].at, second(120));
    }

    #[test]
    fn only_the_last_hour_is_kept() {
        let mut ring = Ring::default();
        assert!(ring.points().is_empty());
        for i in 0..1000 {
            ring.push(second(15 * i), reading(u64::try_from(i).unwrap()));
            assert!(ring.0.len() <= POINTS + MINUTE);
        }
        let points = ring.points();
        assert_eq!(points.len(), POINTS);
        assert!(points.iter().all(|point| point.accepted == 4));
        assert_eq!(points[0].at, second(15 * (1000 - 240)));
    }

    #[test]
    fn the_count_of_a_day_starts_at_midnight_and_continues_after_a_restart() {
        let (monday, tuesday) = ("2026-11-23".parse().unwrap(), "2026-11-24".parse().unwrap());
        let mut today = Today { day: monday, earlier: 5, counter: 0 };
        assert_eq!((today.count(0), today.count(3)), (5, 8));
        today.advance_to(monday, 3);
        assert_eq!(today.count(4), 9);
        today.advance_to(tuesday, 4);
        assert_eq!((today.count(4), today.count(6)), (0, 2));
    }

    #[test]
    fn the_history_follows_the_metrics() {
        let metrics = Metrics::new();
        let history = History::new(metrics.clone(), Calendar::named("UTC").unwrap(), 7);
        assert!(history.points().is_empty());
        metrics.events_accepted.inc_by(2);
        metrics.mqtt_messages_published.inc();
        history.sample();
        assert_eq!(history.points()[0].accepted, 2);
        assert_eq!(history.delivered_today(), 8);
    }

    #[test]
    fn a_peak_of_pending_events_between_two_samples_is_not_missed() {
        let metrics = Metrics::new();
        let history = History::new(metrics.clone(), Calendar::named("UTC").unwrap(), 0);
        metrics.outbox_pending.set(9);
        history.sample_pending();
        metrics.outbox_pending.set(0);
        history.sample_pending();
        history.sample();
        history.sample();
        let pending: Vec<_> = history.points().iter().map(|point| point.pending).collect();
        assert_eq!(pending, [9, 0]);
    }
}
