//! Benchmarks of the parts of an event's path: building its payload, the delivery window, the commit.
//!
//! Run with `cargo bench -p liveobject-actors`. Criterion compares each run with the previous one.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use liveobject_actors::{
    DetectionEvent, EventInput, Seq,
    domain::{
        camera::Camera,
        clock::{self, Moment},
        delivery::Settlement,
        event::marked_late,
        ids::LinkId,
    },
    testing::log::{Lane, Log, Window},
};

const URL: &str = "http://127.0.0.1:8080/api/v1/events/0193a5c0-0000-7000-8000-000000000000/thumbnail\
    ?expires=1800000000&signature=0123456789abcdef0123456789abcdef";

/// Returns an event whose payload is about 600 bytes long.
fn event(camera: usize) -> DetectionEvent {
    let input = EventInput {
        camera_id: format!("camera_{camera}"),
        description: "A person in a red jacket walks up to the door, puts down a package and rings the bell"
            .into(),
        objects_detected: vec!["person".into(), "package".into()],
        confidence: Some(91),
        source_type: Some("rtsp".into()),
        smart_detection_type: Some("person".into()),
        ..EventInput::default()
    };
    input.validate().expect("a valid event")
}

fn payload(c: &mut Criterion) {
    let event = event(1);
    let camera = Camera::new(event.camera_id().clone(), Moment::at(clock::now()));
    let bytes = event.payload(&camera, Seq(1_000_000), URL);
    let mut group = c.benchmark_group("payload");
    group.throughput(Throughput::Bytes(bytes.len().try_into().expect("a small number")));
    group.bench_function("in_time", |b| {
        b.iter(|| black_box(&event).payload(black_box(&camera), Seq(1_000_000), URL));
    });
    group.bench_function("late", |b| b.iter_batched(|| bytes.clone(), marked_late, BatchSize::SmallInput));
    group.finish();
}

/// Sends and settles this many events with at most `limit` in flight. The broker acknowledges half of
/// those in flight at a time.
fn pass(events: u64, limit: usize) -> Window<()> {
    let link = LinkId(1);
    let settlement = Settlement::unpublished(Moment::at(clock::from_micros(0)));
    let mut window = Window::new(Seq(0), [], [], settlement.at);
    window.link_up(link, limit);
    let last = Seq(i64::try_from(events).expect("a small number"));
    let mut acknowledged = Seq(0);
    while acknowledged < last {
        while window.room() > 0
            && let Some(next) = window.next(Lane::Live).filter(|next| *next <= last)
        {
            window.sent(Lane::Live, next, ());
        }
        for _ in 0..window.in_flight().div_ceil(2) {
            acknowledged = acknowledged.next();
            window.settle(link, acknowledged, settlement);
        }
        black_box(window.take_ranges());
    }
    window
}

fn window(c: &mut Criterion) {
    let mut group = c.benchmark_group("window");
    for events in [500, 10_000] {
        group.throughput(Throughput::Elements(events));
        let id = BenchmarkId::new("send_and_acknowledge", events);
        group.bench_with_input(id, &events, |b, events| b.iter(|| pass(black_box(*events), 500)));
    }
    group.finish();
}

/// Measures commits to a database file on disk, with sync.
fn append(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut log = runtime.block_on(Log::open(&dir.path().join("bench.db"))).expect("a new log");
    let mut group = c.benchmark_group("append");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for events in [1, 10, 100, 1000] {
        group.throughput(Throughput::Elements(events));
        group.bench_with_input(BenchmarkId::from_parameter(events), &events, |b, events| {
            b.iter_batched(
                || (0..*events).map(|i| event(usize::try_from(i % 10).expect("a digit"))).collect(),
                |batch| runtime.block_on(log.append(batch)).expect("a commit"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    runtime.block_on(log.close());
}

criterion_group!(pieces, payload, window, append);
criterion_main!(pieces);
