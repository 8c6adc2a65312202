//! The last hour in numbers, and how many events were delivered today: what the page draws. Taken from the metrics every
//! 15 s, kept in memory only, and begun anew at each start of the process.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liveobject_actors::{
    domain::{
        calendar::{Calendar, Day},
        clock::{self, Timestamp},
    },
    metrics::Metrics,
    reading::Reading,
};

/// How often the metrics are read.
pub const INTERVAL: Duration = Duration::from_secs(15);

/// How often it is looked how many events wait: an interval is long enough for a broker to restart unseen.
const LOOK: Duration = Duration::from_secs(1);

/// Whoever has just started it need not wait so long for the first point.
const FIRST: Duration = Duration::from_secs(5);

/// An hour of readings: some 80 KiB.
const POINTS: usize = 240;
/// What a point tells of is the minute that ended with it.
const MINUTE: usize = 4;

/// How the minute stood that ended at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When it ended.
    pub at: Timestamp,
    /// Events accepted within it.
    pub accepted: u64,
    /// The most events that waited in the interval before it.
    pub pending: u64,
    /// About how long half of its deliveries took at most, in seconds; `None` when there were none.
    pub delivery_p50: Option<f64>,
    /// The same, of 95 in 100.
    pub delivery_p95: Option<f64>,
}

/// Readings of the metrics, in their order: as many as an hour needs.
#[derive(Debug, Default)]
struct Ring(VecDeque<(Timestamp, Reading)>);

impl Ring {
    fn push(&mut self, at: Timestamp, reading: Reading) {
        // The oldest points look back, too.
        if self.0.len() == POINTS + MINUTE {
            self.0.pop_front();
        }
        self.0.push_back((at, reading));
    }

    /// A point a reading; the first one has nothing to be compared with.
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

/// Counts since midnight, by a counter that counts since the start of the process.
#[derive(Debug, Clone, Copy)]
struct Today {
    day: Day,
    /// Counted on this day before the process started.
    earlier: u64,
    /// Where the counter stood when the day began, or the process.
    counter: u64,
}

impl Today {
    fn count(&self, counter: u64) -> u64 {
        self.earlier + counter.saturating_sub(self.counter)
    }

    /// The day may be another one by now.
    fn turn(&mut self, day: Day, counter: u64) {
        if day != self.day {
            *self = Self { day, earlier: 0, counter };
        }
    }
}

/// The last hour. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct History {
    metrics: Metrics,
    calendar: Calendar,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    ring: Ring,
    today: Today,
    /// The most that waited since the newest reading.
    most_pending: u64,
}

impl History {
    /// A history that begins now, on a day on which `delivered` events were delivered already.
    pub fn new(metrics: Metrics, calendar: Calendar, delivered: u64) -> Self {
        let today = Today { day: calendar.day(clock::now()), earlier: delivered, counter: 0 };
        let kept = Kept { ring: Ring::default(), today, most_pending: 0 };
        let history = Self { metrics, calendar, kept: Arc::new(Mutex::new(kept)) };
        history.read();
        history
    }

    /// Reads the metrics, every 15 s and when a day begins, for ever.
    pub async fn keep(&self) -> Infallible {
        let mut pause = FIRST;
        loop {
            let now = clock::now();
            let tomorrow = self.calendar.day(now).succ_opt().map(|day| self.calendar.start(day));
            let left = tomorrow.and_then(|tomorrow| (tomorrow - now).to_std().ok()).unwrap_or(pause);
            let mut left = left.clamp(Duration::from_millis(1), pause);
            while !left.is_zero() {
                let nap = left.min(LOOK);
                tokio::time::sleep(nap).await;
                left -= nap;
                self.look();
            }
            pause = INTERVAL;
            self.read();
        }
    }

    /// The last hour, oldest point first.
    pub fn points(&self) -> Vec<Point> {
        self.lock().ring.points()
    }

    /// Events that the broker has acknowledged since midnight.
    pub fn delivered_today(&self) -> u64 {
        let counter = self.metrics.mqtt_messages_published.get();
        self.lock().today.count(counter)
    }

    fn look(&self) {
        let pending = u64::try_from(self.metrics.outbox_pending.get()).unwrap_or(0);
        let mut kept = self.lock();
        kept.most_pending = kept.most_pending.max(pending);
    }

    fn read(&self) {
        let now = clock::now();
        match Reading::take(&self.metrics) {
            Ok(mut reading) => {
                let mut kept = self.lock();
                reading.pending = reading.pending.max(std::mem::take(&mut kept.most_pending));
                kept.today.turn(self.calendar.day(now), reading.published);
                kept.ring.push(now, reading);
            }
            Err(error) => tracing::error!(%error, "the metrics were not read; the charts have a gap"),
        }
    }

    /// Held for a copy or a count, never over an `await`.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        clock::from_micros(second * 1_000_000)
    }

    fn reading(accepted: u64) -> Reading {
        Reading { accepted, pending: accepted % 7, ..Reading::default() }
    }

    #[test]
    fn a_point_counts_the_minute_before_it() {
        let mut ring = Ring::default();
        for i in 0..=8 {
            ring.push(at(15 * i), reading(10 * u64::try_from(i).unwrap()));
        }
        let counts: Vec<_> = ring.points().iter().map(|point| point.accepted).collect();
        // In the first minute: since the start.
        assert_eq!(counts, [10, 20, 30, 40, 40, 40, 40, 40]);
        assert_eq!(ring.points()[7].at, at(120));
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut ring = Ring::default();
        assert!(ring.points().is_empty());
        for i in 0..1000 {
            ring.push(at(15 * i), reading(u64::try_from(i).unwrap()));
            assert!(ring.0.len() <= POINTS + MINUTE);
        }
        let points = ring.points();
        assert_eq!(points.len(), POINTS);
        assert!(points.iter().all(|point| point.accepted == 4));
        assert_eq!(points[0].at, at(15 * (1000 - 240)));
    }

    #[test]
    fn a_day_counts_from_midnight_on_over_a_restart() {
        let (monday, tuesday) = ("2026-11-23".parse().unwrap(), "2026-11-24".parse().unwrap());
        let mut today = Today { day: monday, earlier: 5, counter: 0 };
        assert_eq!((today.count(0), today.count(3)), (5, 8));
        today.turn(monday, 3);
        assert_eq!(today.count(4), 9);
        today.turn(tuesday, 4);
        assert_eq!((today.count(4), today.count(6)), (0, 2));
    }

    #[test]
    fn it_follows_the_metrics() {
        let metrics = Metrics::new();
        let history = History::new(metrics.clone(), Calendar::named("UTC").unwrap(), 7);
        assert!(history.points().is_empty());
        metrics.events_accepted.inc_by(2);
        metrics.mqtt_messages_published.inc();
        history.read();
        assert_eq!(history.points()[0].accepted, 2);
        assert_eq!(history.delivered_today(), 8);
    }

    #[test]
    fn what_waited_between_two_readings_is_not_missed() {
        let metrics = Metrics::new();
        let history = History::new(metrics.clone(), Calendar::named("UTC").unwrap(), 0);
        metrics.outbox_pending.set(9);
        history.look();
        metrics.outbox_pending.set(0);
        history.look();
        history.read();
        history.read();
        let pending: Vec<_> = history.points().iter().map(|point| point.pending).collect();
        assert_eq!(pending, [9, 0]);
    }
}
