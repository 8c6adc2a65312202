//! The actor with a real database and a real log.

use std::collections::BTreeSet;

use actix::{Addr, MessageResult};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::mpsc;

use super::*;
use crate::{
    domain::{
        clock::{self, LogTime, Moment},
        delivery::{SettledAhead, SettledRange, Settlement, Unwritten},
        event::EventInput,
        history::{HistoryRange, PointState},
        outage::{Facts, Instant, OutageKind, Outcome},
        status::FailureKind,
    },
    messages::outbox::OpenEvents,
    store::{Batch, DeadEvent},
    testing::{commit_context, settle, wait_until},
};

/// In place of the outbox: the log ends at `extent`, and everything above its cursor is open.
struct Log(LogExtent);

impl Actor for Log {
    type Context = Context<Self>;
}

impl Handler<GetExtent> for Log {
    type Result = MessageResult<GetExtent>;

    fn handle(&mut self, _: GetExtent, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0)
    }
}

impl Handler<CountOpen> for Log {
    type Result = MessageResult<CountOpen>;

    fn handle(&mut self, CountOpen(ranges): CountOpen, _: &mut Self::Context) -> Self::Result {
        let LogExtent { cursor, last: end, .. } = self.0;
        let open = |(after, last): &(Seq, Seq)| last.min(&end).since((*after).max(cursor));
        let waiting = ranges.iter().map(open).collect();
        MessageResult(OpenEvents { waiting, unwritten: Unwritten::default(), last: end })
    }
}

/// The log has come this far.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Advance(LogExtent);

impl Handler<Advance> for Log {
    type Result = ();

    fn handle(&mut self, Advance(extent): Advance, _: &mut Self::Context) {
        self.0 = extent;
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    log: Addr<Log>,
    store: Store,
    history: Addr<HistoryActor>,
    metrics: Metrics,
}

fn extent(cursor: i64, last: i64) -> LogExtent {
    LogExtent { cursor: Seq(cursor), last: Seq(last), pending: Seq(last).since(Seq(cursor)) }
}

async fn open(dir: tempfile::TempDir, log: LogExtent) -> Fixture {
    open_with(dir, log, BUDGET).await
}

async fn open_with(dir: tempfile::TempDir, log: LogExtent, budget: Duration) -> Fixture {
    let store = crate::testing::database::open(&dir.path().join("l.db")).await;
    let metrics = Metrics::new();
    let peer = Log(log).start();
    let peers = HistoryPeers { extent: peer.clone().recipient(), open: peer.clone().recipient() };
    let crashed = mpsc::unbounded_channel().0;
    let mut history =
        HistoryActor::open(store.clone(), metrics.clone(), peers, 7, log, crashed).await.unwrap();
    history.budget = budget;
    Fixture { dir, log: peer, store, history: history.start(), metrics }
}

impl Fixture {
    async fn new(log: LogExtent) -> Self {
        open(tempfile::tempdir().unwrap(), log).await
    }

    async fn outages(&self) -> Vec<OutageReport> {
        let now = clock::now();
        let query = GetOutages { from: now - TimeDelta::days(1), to: now + TimeDelta::minutes(1) };
        self.history.send(query).await.unwrap().unwrap().reports
    }

    async fn link(&self, is_up: bool, extent: LogExtent) {
        let at = self.store.clock().now();
        self.history.send(LinkMoved { is_up, extent, at }).await.unwrap();
    }

    /// Ends the actor as a crash would.
    async fn crash(self) -> tempfile::TempDir {
        self.store.close().await;
        self.dir
    }

    async fn stop(self) -> tempfile::TempDir {
        self.history.send(Stop).await.unwrap();
        self.store.close().await;
        self.dir
    }
}

#[actix_rt::test(system = "crate::System")]
async fn an_outage_that_was_open_at_a_crash_is_known_after_it() {
    let it = Fixture::new(extent(2, 5)).await;
    it.history.send(ConnectionStep::Failed(FailureKind::Refused)).await.unwrap();
    wait_until("the outage is stored", async || {
        it.store.latest_outages().await.unwrap().iter().any(|outage| outage.kind == OutageKind::BrokerAway)
    })
    .await;
    let it = open(it.crash().await, extent(2, 9)).await;
    let reports = it.outages().await;
    let kinds: Vec<_> = reports.iter().map(|report| report.outage.kind).collect();
    assert_eq!(kinds, [OutageKind::NotRunning, OutageKind::BrokerAway, OutageKind::Unknown]);
    let away = &reports[1];
    assert_eq!((away.outage.reason, away.outage.ended.is_some()), (Some(FailureKind::Refused), true));
    assert_eq!((away.events, away.facts.waiting, away.outcome), (7, 7, Outcome::Waiting));
}

#[actix_rt::test(system = "crate::System")]
async fn an_orderly_stop_is_stored_with_the_figures_of_the_last_minutes() {
    let it = Fixture::new(extent(0, 0)).await;
    it.history.send(ConnectionStep::Connecting).await.unwrap();
    it.link(true, extent(0, 0)).await;
    it.metrics.events_accepted.inc_by(3);
    it.metrics.event_delivery_seconds.observe(0.003);
    let it = open(it.stop().await, extent(0, 0)).await;
    let reports = it.outages().await;
    let kinds: Vec<_> = reports.iter().map(|report| report.outage.kind).collect();
    assert_eq!(kinds, [OutageKind::NotRunning, OutageKind::NotRunning]);
    assert!(reports.iter().all(|report| report.outage.ended.is_some()));
    for range in HistoryRange::ALL {
        let points = it.history.send(GetHistory(range)).await.unwrap().unwrap();
        assert_eq!(points.iter().map(|point| point.figures.accepted).sum::<u64>(), 3, "{range:?}");
        assert!(points.iter().any(|point| point.delivery_p50.is_some()));
        assert_eq!((points[0].state, points.last().unwrap().state), (PointState::Unknown, PointState::Known));
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_connected_service_writes_nothing_while_nothing_happens() {
    let it = Fixture::new(extent(0, 0)).await;
    it.history.send(ConnectionStep::Connecting).await.unwrap();
    it.link(true, extent(0, 0)).await;
    wait_until("the start is stored", async || !it.store.latest_outages().await.unwrap().is_empty()).await;
    let size = it.store.size();
    // The actor has at least two ticks.
    tokio::time::sleep(2 * TICK + Duration::from_millis(300)).await;
    assert_eq!(it.store.size(), size);
}

#[actix_rt::test(system = "crate::System")]
async fn missing_events_make_an_outage_incomplete_also_after_a_restart() {
    let it = Fixture::new(extent(9, 9)).await;
    add_events(&it.store, 1..=9).await;
    it.history.send(ConnectionStep::Connecting).await.unwrap();
    it.link(true, extent(2, 2)).await;
    it.link(false, extent(2, 5)).await;
    wait_until("the outage is stored", async || {
        it.store.latest_outages().await.unwrap().iter().any(|outage| outage.kind == OutageKind::BrokerAway)
    })
    .await;
    it.link(true, extent(2, 9)).await;
    settle().await;
    assert_eq!(it.outages().await[1].outcome, Outcome::DeliveredInOrder);
    it.history.send(EventsMissing { first: Seq(6), last: Seq(7) }).await.unwrap();
    assert_eq!(it.outages().await[1].outcome, Outcome::Unknown);
    let it = open(it.stop().await, extent(9, 9)).await;
    assert_eq!(it.outages().await[1].outcome, Outcome::Unknown);
}

#[tokio::test]
async fn figures_are_joined_after_a_day_and_removed_after_a_week() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::testing::database::open(&dir.path().join("l.db")).await;
    let minute = |at: i64| Period {
        at,
        span: 1,
        log_time: at,
        figures: crate::domain::history::Figures {
            accepted: 1,
            deliveries: vec![0, 300, 1],
            ..Default::default()
        },
    };
    let start = 15_000_000;
    // A minute of each hour, for nine days.
    for hour in 0..9 * 24 {
        let at = start + 60 * hour;
        store.write_history(&[], &[minute(at), minute(at + 1)], LogTime(0), at + 2).await.unwrap();
    }
    let periods = store.history_since(0).await.unwrap();
    let minutes: Vec<_> = periods.iter().filter(|period| period.span == 1).collect();
    assert!((47..=50).contains(&minutes.len()), "{}", minutes.len());
    let quarters: Vec<_> = periods.iter().filter(|period| period.span == 15).collect();
    assert!((143..=146).contains(&quarters.len()), "{}", quarters.len());
    assert!(quarters.iter().all(|quarter| quarter.figures.accepted == 2));
    assert!(quarters.iter().all(|quarter| quarter.figures.deliveries == [0, 600, 2]));
    // A clock that was set back does not leave figures in the future.
    store.write_history(&[], &[minute(start)], LogTime(0), start + 1).await.unwrap();
    assert_eq!(store.history_since(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn outages_are_bounded_and_the_last_one_before_the_bound_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::testing::database::open(&dir.path().join("l.db")).await;
    let outage = |id: i64| {
        let began = Instant::from(Moment::at(clock::from_micros(id * 1_000_000)));
        Outage { id, ..ended_outage(began, LogExtent::default(), Seq(0)) }
    };
    let all = async || {
        let (outages, _) = store.outages_between(Timestamp::UNIX_EPOCH, clock::now()).await.unwrap();
        outages.iter().map(|outage| outage.id).collect::<Vec<_>>()
    };
    for id in 1..=1100 {
        store.write_history(&[outage(id)], &[], LogTime(id * 1_000_000), 0).await.unwrap();
    }
    assert_eq!(all().await, (101..=1100).collect::<Vec<_>>());
    let week_after = LogTime(1050 * 1_000_000 + 7 * 86_400_000_000);
    store.write_history(&[outage(1100)], &[], week_after, 0).await.unwrap();
    assert_eq!(all().await, (1049..=1100).collect::<Vec<_>>());
}

/// The fate of an event in a random log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered { late: bool },
    Ahead { late: bool },
    Dead,
}

/// Compares the facts with those that are counted one by one, for random logs and random ranges.
#[tokio::test]
async fn the_facts_are_those_of_the_single_events() {
    for seed in 0..12 {
        let mut dice = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::database::open(&dir.path().join("l.db")).await;
        let began = store.clock().now();
        let fates = random_log(&store, &mut dice).await;
        let last_seq = i64::try_from(fates.len()).unwrap();
        for _ in 0..10 {
            let cursor = dice.random_range(0..last_seq);
            let last = dice.random_range(cursor..=last_seq);
            let outage = ended_outage(began.into(), extent(cursor, cursor), Seq(last));
            let read = facts(&store, &outage, &Unwritten::default()).await;
            let range = usize::try_from(cursor).unwrap()..usize::try_from(last).unwrap();
            let count =
                |wanted: fn(&Fate) -> bool| fates[range.clone()].iter().filter(|f| wanted(f)).count() as u64;
            assert_eq!(read.dead, count(|fate| *fate == Fate::Dead), "seed {seed}");
            let late =
                count(|fate| matches!(fate, Fate::Delivered { late: true } | Fate::Ahead { late: true }));
            assert_eq!(read.late, late, "seed {seed}, {cursor}..{last}: {fates:?}");
            assert_eq!((read.waiting, read.retried, read.complete), (0, 0, true));
            // An outage that began later has no dead events.
            let later = Outage { began: store.clock().now().into(), ..outage };
            let read = facts(&store, &later, &Unwritten::default()).await;
            assert_eq!(read.dead, 0);
        }
    }
}

/// Reads the facts of all parts of an outage.
async fn facts(store: &Store, outage: &Outage, unwritten: &Unwritten) -> Facts {
    let reader = store.read_outages().await.unwrap();
    let complete = reader.has_events(outage).await.unwrap();
    let mut facts = Facts { complete, ..Facts::default() };
    let mut at = outage.before.cursor;
    while at < outage.last {
        let (part, end) = reader.part(outage, at, unwritten).await.unwrap();
        assert!(at < end && end <= outage.last);
        (facts, at) = (facts.plus(part), end);
    }
    facts
}

/// Returns an outage that has ended, with these events.
fn ended_outage(began: Instant, before: LogExtent, last: Seq) -> Outage {
    Outage {
        id: 1,
        kind: OutageKind::BrokerAway,
        reason: None,
        began,
        ended: Some(began),
        before,
        last,
        missing: false,
        charts_until: None,
    }
}

/// Writes a log as the outbox would: ranges that the cursor passes, which also cover dead events and those that were
/// delivered ahead of it.
async fn random_log(store: &Store, dice: &mut StdRng) -> Vec<Fate> {
    let fates: Vec<Fate> = (0..dice.random_range(1..60))
        .map(|_| match dice.random_range(0..6) {
            0 => Fate::Dead,
            1 => Fate::Ahead { late: false },
            2 => Fate::Ahead { late: true },
            n => Fate::Delivered { late: n < 5 },
        })
        .collect();
    let event = |n: usize| {
        let input = EventInput {
            event_id: Some(format!("e{n}")),
            camera_id: "door".into(),
            description: "x".into(),
            ..EventInput::default()
        };
        input.validate().unwrap()
    };
    let at = store.clock().now();
    let mut batch = Batch { events: (0..fates.len()).map(event).collect(), ..Batch::default() };
    for (n, fate) in fates.iter().enumerate() {
        let seq = Seq(i64::try_from(n).unwrap() + 1);
        let settlement = |late| Settlement { at, late, heard: None };
        match *fate {
            Fate::Dead => {
                batch.deaths.push(DeadEvent { seq, reason: DeadReason::Expired, at });
                extend(&mut batch.ranges, seq, settlement(false));
            }
            Fate::Ahead { late } => {
                SettledAhead { first: seq, last: seq, settlement: settlement(late) }
                    .append(&mut batch.ahead, 1000);
                extend(&mut batch.ranges, seq, Settlement::unpublished(at));
            }
            Fate::Delivered { late } => {
                SettledRange { up_to: seq, settlement: settlement(late) }.append(&mut batch.ranges, 1000);
            }
        }
    }
    store.commit(&batch, Some(Seq(0)), &commit_context()).await.unwrap();
    fates
}

/// Adds an event with a row of its own to the range before it, if there is one.
fn extend(ranges: &mut Vec<SettledRange>, seq: Seq, settlement: Settlement) {
    match ranges.last_mut() {
        Some(range) => range.up_to = seq,
        None => ranges.push(SettledRange { up_to: seq, settlement }),
    }
}

/// Adds events to an empty log.
async fn add_events(store: &Store, seqs: std::ops::RangeInclusive<i64>) {
    for seq in seqs {
        let insert = format!(
            "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) \
             VALUES ({seq}, 'e{seq}', 'door', 1, 1, x'7b7d')"
        );
        store.execute(&insert).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_claimed_of_events_that_were_removed_while_a_shorter_retention_applied() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_file(&dir.path().join("l.db")).await.unwrap();
    add_events(&store, 1..=10).await;
    let began = Instant::from(store.clock().now());
    let outage = ended_outage(began, extent(4, 5), Seq(8));
    let outcome = async || {
        let facts = facts(&store, &outage, &Unwritten::default()).await;
        OutageReport::new(outage.clone(), facts).outcome
    };
    store.execute("DELETE FROM events WHERE seq <= 4").await.unwrap();
    assert_eq!(outcome().await, Outcome::DeliveredInOrder, "its own events are in the log");
    store.execute("DELETE FROM events WHERE seq <= 6").await.unwrap();
    assert_eq!(outcome().await, Outcome::Unknown);
    store.execute("DELETE FROM events").await.unwrap();
    assert_eq!(outcome().await, Outcome::Unknown);
}

#[tokio::test]
async fn retries_and_gaps_are_no_delivery_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::testing::database::open(&dir.path().join("l.db")).await;
    let began = Instant::from(store.clock().now());
    let outage = ended_outage(began, extent(0, 0), Seq(10));
    let outcome = async |unwritten: &Unwritten| {
        let facts = facts(&store, &outage, unwritten).await;
        OutageReport::new(outage.clone(), facts).outcome
    };
    add_events(&store, 1..=10).await;
    let nothing = Unwritten::default();
    assert_eq!(outcome(&nothing).await, Outcome::DeliveredInOrder);
    store
        .execute("INSERT INTO dead_events (seq, reason, at, dismissed_at) VALUES (3, 'expired', 9e15, 9e15)")
        .await
        .unwrap();
    assert_eq!(outcome(&nothing).await, Outcome::Failed, "a dismissed event was not delivered");
    store.execute("DELETE FROM dead_events").await.unwrap();
    store.execute("INSERT INTO retries (seq, asked_at, late) VALUES (3, 1, FALSE)").await.unwrap();
    assert_eq!(outcome(&nothing).await, Outcome::Waiting);
    store.execute("UPDATE retries SET acked_at = 2").await.unwrap();
    assert_eq!(outcome(&nothing).await, Outcome::Delivered);
    let dead = Unwritten { dead: vec![(Seq(4), DeadReason::Expired)], ..Unwritten::default() };
    assert_eq!(outcome(&dead).await, Outcome::Failed, "what is not written yet counts");
    let other = Unwritten { dead: vec![(Seq(11), DeadReason::Expired)], ..Unwritten::default() };
    store.execute("DELETE FROM retries").await.unwrap();
    assert_eq!(outcome(&other).await, Outcome::DeliveredInOrder);
    store.execute("INSERT INTO seq_gaps (first_seq, last_seq) VALUES (10, 20)").await.unwrap();
    assert_eq!(outcome(&nothing).await, Outcome::Unknown);
    let seqs: BTreeSet<_> = [outage.before.cursor, outage.last].into();
    assert_eq!(seqs.len(), 2);
}

/// Returns the report of one outage.
async fn report(it: &Fixture, id: i64) -> OutageReport {
    it.outages().await.into_iter().find(|report| report.outage.id == id).unwrap()
}

/// Stores deliveries of one event each.
async fn deliver_late(store: &Store, seqs: std::ops::RangeInclusive<i64>) {
    for seq in seqs {
        let insert = format!("INSERT INTO deliveries (up_to_seq, acked_at, late) VALUES ({seq}, 1, TRUE)");
        store.execute(&insert).await.unwrap();
    }
}

/// Stores outages that are over for some time and had these events each, in place of all others.
async fn store_outages(store: &Store, ranges: impl IntoIterator<Item = (i64, i64)>) {
    let began = store.clock().now();
    let began = Moment {
        wall: began.wall - TimeDelta::minutes(5),
        log: began.log.before(TimeDelta::minutes(5)),
        ..began
    };
    for (n, (after, last)) in (100..).zip(ranges) {
        let outage = Outage { id: n, ..ended_outage(began.into(), extent(after, after), Seq(last)) };
        store.write_history(&[outage], &[], began.log, 0).await.unwrap();
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_request_counts_few_events_of_a_long_outage_and_the_next_one_goes_on() {
    let it = open_with(tempfile::tempdir().unwrap(), extent(60, 60), Duration::ZERO).await;
    add_events(&it.store, 1..=60).await;
    deliver_late(&it.store, 1..=60).await;
    store_outages(&it.store, [(10, 60)]).await;
    let mut late = 0;
    for _ in 0..100 {
        let report = report(&it, 100).await;
        assert!((late + 1..=late + 6).contains(&report.facts.late), "{} after {late}", report.facts.late);
        late = report.facts.late;
        if late == 50 {
            assert_eq!(report.outcome, Outcome::DeliveredInOrder);
            break;
        }
        assert_eq!(report.outcome, Outcome::Unknown, "{late} are counted");
    }
    assert_eq!(late, 50);
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_that_dies_while_the_others_are_counted_is_counted() {
    for dead in [11, 21, 25, 29, 40] {
        let it = open_with(tempfile::tempdir().unwrap(), extent(20, 40), Duration::ZERO).await;
        add_events(&it.store, 1..=40).await;
        deliver_late(&it.store, 1..=20).await;
        store_outages(&it.store, [(10, 40)]).await;
        for _ in 0..3 {
            assert_eq!(report(&it, 100).await.outcome, Outcome::Waiting);
        }
        if dead > 20 {
            let insert =
                format!("INSERT INTO dead_events (seq, reason, at) VALUES ({dead}, 'expired', 9e15)");
            it.store.execute(&insert).await.unwrap();
        }
        deliver_late(&it.store, 21..=40).await;
        // The same log, of which nothing is open any more.
        it.log.send(Advance(extent(40, 40))).await.unwrap();
        let mut outcomes = BTreeSet::new();
        for _ in 0..20 {
            outcomes.insert(format!("{:?}", report(&it, 100).await.outcome));
        }
        let last = if dead > 20 { "Failed" } else { "DeliveredInOrder" };
        assert!(
            outcomes.contains(last) && outcomes.iter().all(|it| [last, "Unknown"].contains(&it.as_str())),
            "{outcomes:?}"
        );
    }
}

#[actix_rt::test(system = "crate::System")]
async fn each_of_many_outages_is_counted_again_after_some_requests() {
    let it = open_with(tempfile::tempdir().unwrap(), extent(30, 30), Duration::ZERO).await;
    add_events(&it.store, 1..=30).await;
    deliver_late(&it.store, 1..=30).await;
    it.store
        .execute("INSERT INTO dead_events (seq, reason, at) SELECT seq, 'expired', 9e15 FROM events")
        .await
        .unwrap();
    store_outages(&it.store, (0..10).map(|n| (3 * n, 3 * n + 3))).await;
    let outcomes = async || {
        let reports = it.outages().await;
        let all = reports.iter().filter(|report| report.outage.id >= 100);
        all.map(|report| report.outcome).collect::<Vec<_>>()
    };
    let after = async |requests: usize| {
        for _ in 1..requests {
            outcomes().await;
        }
        outcomes().await
    };
    assert_eq!(after(1).await, [[Outcome::Unknown; 9].as_slice(), &[Outcome::Failed]].concat());
    // The others are those of the actor itself.
    assert_eq!(after(12).await, [Outcome::Failed; 10]);
    it.store.execute("DELETE FROM dead_events").await.unwrap();
    it.store
        .execute("INSERT INTO retries (seq, asked_at, acked_at, late) SELECT seq, 1, 2, FALSE FROM events")
        .await
        .unwrap();
    assert!(after(1).await.contains(&Outcome::Failed), "a request counts one of them again");
    assert_eq!(after(12).await, [Outcome::Delivered; 10]);
}
