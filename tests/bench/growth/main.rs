//! Measures how the costs of the service grow with its log and the number of cameras: `cargo bench --bench
//! growth`.
//!
//! The benchmark uses real files, the real program and a real broker. `GROWTH_EVENTS=1000,10000` and
//! `GROWTH_CAMERAS=1,10` choose the sizes, and an empty value skips that part. A run of all sizes takes about
//! six minutes and 15 GB in `TMPDIR`, and writes its tables to `docs/performance.md`. All figures are written
//! to `target/bench/growth.json`, and to standard error as they are measured.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

mod events;
mod figures;
mod report;
mod requests;
mod site;
#[path = "../stats.rs"]
mod stats;

use liveobject_test_support::Service;

use crate::{figures::Row, report::Report, site::Site};

const EVENTS: &[usize] = &[1000, 10_000, 100_000, 1_000_000, 10_000_000];
const CAMERAS: &[usize] = &[1, 10, 100, 1000];

/// Number of cameras while the number of events grows.
const FIXED_CAMERAS: usize = 10;
/// Number of events while the number of cameras grows.
const FIXED_EVENTS: usize = 100_000;

#[actix_rt::main(system = "liveobject_actors::System")]
async fn main() {
    let (sizes, cameras) = (sizes("GROWTH_EVENTS", EVENTS), sizes("GROWTH_CAMERAS", CAMERAS));
    let mut report = Report::default();
    let mut log = Site::new(FIXED_CAMERAS);
    for size in &sizes {
        eprintln!("{} events", figures::grouped(*size));
        report.events.push(measure_events(&mut log, *size, sizes.last() == Some(size)).await);
    }
    drop(log);
    for cameras in &cameras {
        eprintln!("{} cameras", figures::grouped(*cameras));
        report.cameras.push(measure_cameras(*cameras).await);
    }
    println!("{}", report.tables());
    report.write(sizes == EVENTS && cameras == CAMERAS).expect("the report can be written");
}

/// Returns the sizes in an environment variable, or all sizes, in ascending order.
fn sizes(variable: &str, all: &[usize]) -> Vec<usize> {
    let Ok(list) = std::env::var(variable) else { return all.to_vec() };
    let numbers = list.split(',').filter(|text| !text.is_empty()).map(|text| {
        text.trim()
            .replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{variable}: {text:?} is not a number"))
    });
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

/// Fills the log up to `size` events and measures all costs.
async fn measure_events(log: &mut Site, size: usize, is_last: bool) -> Row {
    let mut row = Row::new(size);
    let cut = log.fill(size, &mut row).await;
    row.record("disk_mib", log.mib());
    Box::pin(measure(log, size, &mut row)).await;
    log.with_everything_pending(async |mut program| {
        requests::measure_live(&mut program, &mut row).await;
        stop(&mut program).await;
    })
    .await;
    log.sweep(cut, is_last, &mut row).await;
    row
}

/// Measures the costs of a log with events from this many cameras.
async fn measure_cameras(cameras: usize) -> Row {
    let (mut row, mut log) = (Row::new(cameras), Site::new(cameras));
    log.fill(FIXED_EVENTS, &mut row).await;
    Box::pin(measure(&mut log, FIXED_EVENTS, &mut row)).await;
    row
}

async fn measure(log: &mut Site, size: usize, row: &mut Row) {
    let mut program = log.program();
    requests::measure_start(&mut program, row).await;
    stop(&mut program).await;
    log.append(row).await;
    Box::pin(log.index(row)).await;
    program.start().await;
    requests::measure_pages(&program, size, row).await;
    requests::measure_search(&program, size, row).await;
    requests::measure_drain(&program, log.cameras() + 1, row).await;
    stop(&mut program).await;
}

async fn stop(program: &mut Service) {
    program.sigterm();
    assert_eq!(program.wait().await, 0, "the program exits with an error");
}
