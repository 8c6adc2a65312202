//! The history: when there was no connection to the broker and what became of the events that waited, and the figures
//! of the charts.
//!
//! [`HistoryActor`] owns the tables `outages` and `history`. It writes rarely, and never for a time in which nothing
//! happened: an outage when it has lasted a second and after it has ended, and the figures of 15 minutes at once. These
//! commits are not synced; the next one of an event syncs them, too. They survive the end of the process.
//!
//! Nothing that the actor claims about events is stored: it is read from the event log on request.
//!
//! The actor is a driver. `Tracker` decides what an outage is, `Charts` collects the figures, and
//! [`outage`](crate::domain::outage) decides what may be claimed of the events.

mod charts;
mod counts;
mod tracker;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, ContextFutureSpawner as _,
    Handler, Recipient, ResponseActFuture, ResponseFuture, WrapFuture as _,
};
use chrono::TimeDelta;
use tokio::sync::{Mutex, mpsc::UnboundedSender};

use self::{
    charts::{Charts, Counters, first_minute, minute_of, points},
    counts::Counts,
    tracker::{Earlier, Tracker},
};
use crate::{
    domain::{
        causes::with_causes,
        clock::{Clock, JumpDetector, Moment, Timestamp, difference},
        delivery::{DeadReason, Unwritten},
        event_log::QueryError,
        history::{HistoryPoint, Period},
        ids::Seq,
        outage::{LogExtent, Outage, OutageReport, Outages},
        store_fault::StoreFault,
    },
    lifecycle::CrashGuard,
    messages::{
        history::{ConnectionStep, EventsMissing, GetHistory, GetOutages, LinkMoved},
        outbox::{CountOpen, GetExtent},
        service::Stop,
    },
    metrics::{Metrics, ReasonLabel},
    reading::Reading,
    store::{OutageReader, Store, StoreError},
    ticks,
};

/// How often the number of pending events is sampled, and how exact the times of outages are.
const TICK: Duration = Duration::from_secs(1);

/// How long after its end the report of an outage is kept in memory, because everything is in the database by then.
const FINAL_AFTER: TimeDelta = TimeDelta::minutes(1);

/// For how long a request for outages counts events. It ends one statement later, some 10 ms.
const BUDGET: Duration = Duration::from_millis(150);

/// The actors that the history actor sends requests to.
#[derive(Debug, Clone)]
pub struct HistoryPeers {
    /// Returns how far the log has come.
    pub extent: Recipient<GetExtent>,
    /// Counts the events that are not settled.
    pub open: Recipient<CountOpen>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct HistoryActor {
    store: Store,
    clock: Clock,
    jumps: JumpDetector,
    metrics: Metrics,
    peers: HistoryPeers,
    /// For how long settled events are kept.
    retention: TimeDelta,
    tracker: Tracker,
    charts: Charts,
    /// The latest known extent of the log.
    extent: LogExtent,
    /// What was counted for the reports of outages.
    counts: Arc<Mutex<Counts>>,
    /// For how long a request counts.
    budget: Duration,
    is_writing: bool,
    /// When something could not be written, it is tried again in the next minute.
    failed_in: Option<i64>,
    _crash_guard: CrashGuard,
}

impl HistoryActor {
    /// Ends what the last run has left. `extent` is how far the log has come.
    pub async fn open(
        store: Store,
        metrics: Metrics,
        peers: HistoryPeers,
        retention_days: u32,
        extent: LogExtent,
        crashed: UnboundedSender<&'static str>,
    ) -> Result<Self, StoreError> {
        let clock = store.clock();
        let now = clock.now();
        let earlier = earlier(&store, now.wall).await?;
        let minute = minute_of(now.wall);
        let stored = store.history_since(minute).await?;
        let this_minute = stored.into_iter().find(|period| (period.at, period.span) == (minute, 1));
        let figures = this_minute.map(|period| period.figures).unwrap_or_default();
        let counters = counters(&metrics).unwrap_or_default();
        Ok(Self {
            clock,
            // What happened before the start is known from the outages.
            jumps: JumpDetector::new(difference(now)),
            tracker: Tracker::resume(earlier, extent, now),
            charts: Charts::new(counters, figures, now),
            store,
            metrics,
            peers,
            retention: TimeDelta::days(retention_days.into()),
            extent,
            counts: Arc::default(),
            budget: BUDGET,
            is_writing: false,
            failed_in: None,
            _crash_guard: CrashGuard::new("history", crashed),
        })
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        if let Some(jump) = self.jumps.check(now) {
            self.tracker.clock_set(jump.by, self.extent, now);
        }
        self.tracker.tick(now);
        let pending = u64::try_from(self.metrics.outbox_pending.get()).unwrap_or(0);
        if self.charts.sample(pending, now)
            && let Some(counters) = counters(&self.metrics)
        {
            self.charts.next_minute(counters, now);
        }
        self.write(ctx);
    }

    /// Writes what must be stored. After a failure, waits until the next minute.
    fn write(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let minute = minute_of(now.wall);
        let is_due = self.tracker.has_changed() || self.charts.are_due();
        if self.is_writing || !is_due || self.failed_in == Some(minute) {
            return;
        }
        self.is_writing = true;
        let outages = self.tracker.take_changed();
        let minutes = if self.charts.are_due() { self.charts.take(now.log) } else { Vec::new() };
        let store = self.store.clone();
        let write = async move { store.write_history(&outages, &minutes, now.log, minute).await };
        ctx.spawn(write.into_actor(self).map(move |written, act, _| {
            act.is_writing = false;
            act.failed_in = None;
            if let Err(error) = written {
                tracing::debug!(
                    error = %with_causes(&error),
                    "the history could not be stored; will retry in the next minute"
                );
                act.tracker.not_stored();
                act.charts.not_stored();
                act.failed_in = Some(minute);
            } else {
                act.tracker.stored();
                act.charts.stored();
            }
        }));
    }

    /// Writes everything before the service stops.
    async fn write_last(store: Store, outages: Vec<Outage>, minutes: Vec<Period>, clock: Clock) {
        let now = clock.now();
        // Another node that owns the event log writes its own history.
        if let Err(error) = store.write_history(&outages, &minutes, now.log, minute_of(now.wall)).await
            && error.fault() != StoreFault::NotOwner
        {
            tracing::warn!(
                error = %with_causes(&error),
                "the history could not be stored; the next start will show a gap"
            );
        }
    }

    /// Records facts about the connection together with how far the log has come. Other messages wait for it, so that
    /// their order is kept.
    fn step(&mut self, step: ConnectionStep, ctx: &mut Context<Self>) {
        let extent = self.peers.extent.send(GetExtent).into_actor(self);
        let recorded = extent.map(move |extent, act, _| {
            // If the outbox has stopped, the service stops, too.
            act.extent = extent.unwrap_or(act.extent);
            act.tracker.step(step, act.extent, act.clock.now());
        });
        recorded.wait(ctx);
    }
}

/// Reads what the last run has left. A damaged event log does not prevent the start.
async fn earlier(store: &Store, now: Timestamp) -> Result<Earlier, StoreError> {
    let outages = store.latest_outages().await?;
    let alive = store.last_alive().await.unwrap_or_else(|error| {
        tracing::warn!(error = %with_causes(&error), "it is not known until when the service was running");
        None
    });
    let charts_until = store.history_until(minute_of(now)).await?;
    Ok(Earlier { outages, alive, charts_until })
}

fn counters(metrics: &Metrics) -> Option<Counters> {
    let reading = Reading::take(metrics).inspect_err(|error| {
        tracing::error!(error = %with_causes(&error), "cannot read the metrics; the charts will have a gap");
    });
    let dead = |reason: DeadReason| {
        let label = ReasonLabel { reason: reason.as_str() };
        metrics.events_dead.get_or_create(&label).get()
    };
    Some(Counters {
        reading: reading.ok()?,
        late: metrics.events_late.get(),
        dead: DeadReason::ALL.into_iter().map(dead).sum(),
    })
}

impl Actor for HistoryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.write(ctx);
        ticks::run(ctx, TICK, Self::tick);
    }
}

impl Handler<LinkMoved> for HistoryActor {
    type Result = ();

    fn handle(&mut self, LinkMoved { is_up, extent, at }: LinkMoved, _: &mut Self::Context) {
        self.extent = extent;
        if is_up {
            self.tracker.link_up(extent, at);
        } else {
            self.tracker.link_down(extent, at);
        }
    }
}

impl Handler<ConnectionStep> for HistoryActor {
    type Result = ();

    fn handle(&mut self, step: ConnectionStep, ctx: &mut Self::Context) {
        self.step(step, ctx);
    }
}

impl Handler<EventsMissing> for HistoryActor {
    type Result = ();

    fn handle(&mut self, EventsMissing { first, last }: EventsMissing, ctx: &mut Self::Context) {
        self.tracker.missing(first, last);
        let store = self.store.clone();
        let marked = async move { store.mark_missing(first, last).await };
        ctx.spawn(marked.into_actor(self).map(|marked, _, _| {
            if let Err(error) = marked {
                tracing::error!(
                    error = %with_causes(&error),
                    "the outages whose events are missing could not be marked"
                );
            }
        }));
    }
}

impl Handler<GetOutages> for HistoryActor {
    type Result = ResponseFuture<Result<Outages, QueryError>>;

    fn handle(&mut self, GetOutages { from, to }: GetOutages, _: &mut Self::Context) -> Self::Result {
        let (store, unstored) = (self.store.clone(), self.tracker.unstored());
        let counting = Counting {
            store: self.store.clone(),
            counts: Arc::clone(&self.counts),
            open: self.peers.open.clone(),
            now: self.clock.now(),
            retention: self.retention,
            budget: self.budget,
        };
        let read = async move {
            let (stored, recorded_from) = store.outages_between(from, to).await?;
            let mut outages: BTreeMap<i64, Outage> =
                stored.into_iter().map(|outage| (outage.id, outage)).collect();
            outages.extend(unstored);
            outages.retain(|_, outage| {
                outage.began.wall <= to && outage.ended.is_none_or(|ended| ended.wall >= from)
            });
            let first = outages.values().next().map_or(counting.now.wall, |outage| outage.began.wall);
            let mut reports = counting.reports(outages.into_values().collect()).await?;
            // Outages are numbered in the order in which they are recorded.
            reports.sort_by_key(|report| report.outage.began.wall);
            Ok(Outages { recorded_from: recorded_from.unwrap_or(first), reports })
        };
        Box::pin(async move { read.await.map_err(|error| unreadable(&error)) })
    }
}

/// A request for the reports of outages.
struct Counting {
    store: Store,
    counts: Arc<Mutex<Counts>>,
    open: Recipient<CountOpen>,
    now: Moment,
    retention: TimeDelta,
    budget: Duration,
}

impl Counting {
    /// Counts the events of outages until the time is over, and returns what is known then.
    async fn reports(&self, mut outages: Vec<Outage>) -> Result<Vec<OutageReport>, StoreError> {
        if outages.is_empty() {
            return Ok(Vec::new());
        }
        // One request at a time counts. The turn comes first, so that none waits for another one with the lock.
        let reader = self.store.read_outages().await?;
        let mut counts = self.counts.lock().await;
        // Until now, events are accepted during an outage that has not ended.
        let range = |outage: &Outage| {
            let last = if outage.ended.is_some() { outage.last } else { Seq(i64::MAX) };
            (outage.before.cursor, last)
        };
        let Ok(open) = self.open.send(CountOpen(outages.iter().map(range).collect())).await else {
            return Ok(Vec::new());
        };
        for outage in outages.iter_mut().filter(|outage| outage.ended.is_none()) {
            outage.last = open.last;
        }
        let end = tokio::time::Instant::now() + self.budget;
        for at in counts.order(&outages) {
            if !self.count(&outages[at], &open.unwritten, &reader, &mut counts, end).await? {
                break;
            }
        }
        let reports = outages.into_iter().zip(open.waiting);
        let reports: Vec<_> = reports.map(|(outage, waiting)| counts.report(outage, waiting)).collect();
        let is_old = |report: &&OutageReport| {
            report.outage.ended.is_some_and(|ended| ended.log < self.now.log.before(FINAL_AFTER))
        };
        for report in reports.iter().filter(|report| report.is_final()).filter(is_old) {
            counts.is_last(report.clone());
        }
        Ok(reports)
    }

    /// Counts the events of an outage. Returns whether there is time for the next one.
    async fn count(
        &self,
        outage: &Outage,
        unwritten: &Unwritten,
        reader: &OutageReader<'_>,
        counts: &mut Counts,
        end: tokio::time::Instant,
    ) -> Result<bool, StoreError> {
        let is_over = || tokio::time::Instant::now() >= end;
        let mut count = counts.begin(outage);
        let is_short = count.is_complete() && outage.events() == 0;
        // What may change is counted again by the next request.
        let mut kept = count.clone();
        while !count.is_complete() {
            let (facts, up_to) = reader.part(outage, count.up_to, unwritten).await?;
            count.add(facts, up_to);
            if up_to <= reader.cursor {
                kept = count.clone();
            }
            if is_over() && !count.is_complete() {
                counts.keep(kept);
                return Ok(false);
            }
        }
        let has_events = outage.events() == 0
            || (outage.is_in_log(self.now, self.retention) && reader.has_events(outage).await?);
        counts.finish(count, has_events, reader.cursor);
        Ok(is_short || !is_over())
    }
}

impl Handler<GetHistory> for HistoryActor {
    type Result = ResponseFuture<Result<Vec<HistoryPoint>, QueryError>>;

    fn handle(&mut self, GetHistory(range): GetHistory, _: &mut Self::Context) -> Self::Result {
        let (store, now) = (self.store.clone(), self.clock.now());
        let counters = counters(&self.metrics).unwrap_or_default();
        let (minutes, unstored) = (self.charts.unstored(&counters, now), self.tracker.unstored());
        let first = first_minute(range, now.wall);
        let from = now.wall - TimeDelta::minutes(range.minutes());
        Box::pin(async move {
            let read = async {
                let periods = store.history_since(first).await?;
                Ok::<_, StoreError>((periods, store.outages_between(from, now.wall).await?))
            };
            let (mut periods, (outages, recorded_from)) = read.await.map_err(|error| unreadable(&error))?;
            // What was being stored may be in the database by now.
            periods.retain(|period| period.span > 1 || minutes.iter().all(|minute| minute.at != period.at));
            periods.extend(minutes);
            let mut outages: HashMap<i64, Outage> =
                outages.into_iter().map(|outage| (outage.id, outage)).collect();
            outages.extend(unstored);
            let outages: Vec<Outage> = outages.into_values().collect();
            let first = outages.iter().map(|outage| outage.began.wall).min().unwrap_or(now.wall);
            Ok(points(range, &periods, &outages, recorded_from.unwrap_or(first), now.wall))
        })
    }
}

/// Logs the error of a failed read, and converts it for the sender of the request.
fn unreadable(error: &StoreError) -> QueryError {
    tracing::error!(error = %with_causes(error), "the history could not be read");
    QueryError(error.fault())
}

impl Handler<Stop> for HistoryActor {
    type Result = ResponseActFuture<Self, ()>;

    /// Stops after everything is written.
    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        let extent = self.peers.extent.send(GetExtent).into_actor(self);
        let written = extent.then(|extent, act, _| {
            let now = act.clock.now();
            act.tracker.stop(extent.unwrap_or(act.extent), now);
            let counters = counters(&act.metrics);
            let minutes = counters.map_or_else(Vec::new, |counters| act.charts.take_all(&counters, now));
            let outages = act.tracker.take_changed();
            Self::write_last(act.store.clone(), outages, minutes, act.clock).into_actor(act)
        });
        Box::pin(written.map(|(), _, ctx| ctx.stop()))
    }
}

#[cfg(test)]
mod tests;
