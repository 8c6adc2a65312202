//! What the service costs as its log and the number of its cameras grow: `cargo bench --bench growth`.
//!
//! Real files, the real program, a real broker. `GROWTH_EVENTS=1000,10000` and `GROWTH_CAMERAS=1,10` choose the sizes (an
//! empty one leaves that part out); a run of all sizes takes some 20 minutes and 15 GB in `TMPDIR`, and writes its tables
//! into `docs/performance.md`. Figures go to `target/bench/growth.json`, every one as it comes to standard error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

mod ask;
mod events;
mod figures;
mod report;
mod site;

use liveobject_test_support::Service;

use crate::{figures::Row, report::Report, site::Site};

const EVENTS: &[usize] = &[1000, 10_000, 100_000, 1_000_000, 10_000_000];
const CAMERAS: &[usize] = &[1, 10, 100, 1000];

/// While the number of events grows.
const TEN_CAMERAS: usize = 10;
/// While the number of cameras grows.
const SOME_EVENTS: usize = 100_000;

#[actix::main]
async fn main() {
    let (sizes, cameras) = (sizes("GROWTH_EVENTS", EVENTS), sizes("GROWTH_CAMERAS", CAMERAS));
    let mut report = Report::default();
    let mut log = Site::new(TEN_CAMERAS);
    for size in &sizes {
        eprintln!("{} events", figures::grouped(*size));
        report.events.push(grow(&mut log, *size, sizes.last() == Some(size)).await);
    }
    drop(log);
    for cameras in &cameras {
        eprintln!("{} cameras", figures::grouped(*cameras));
        report.cameras.push(cameras_row(*cameras).await);
    }
    println!("{}", report.tables());
    report.write(sizes == EVENTS && cameras == CAMERAS).expect("the report can be written");
}

/// The sizes that a variable names, or all; in their order.
fn sizes(variable: &str, all: &[usize]) -> Vec<usize> {
    let Ok(named) = std::env::var(variable) else { return all.to_vec() };
    let numbers = named.split(',').filter(|text| !text.is_empty()).map(|text| {
        text.trim().replace('_', "").parse().unwrap_or_else(|_| panic!("{variable}: {text:?} is no number"))
    });
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

/// The log grows to so many events.
async fn grow(log: &mut Site, size: usize, is_last: bool) -> Row {
    let mut row = Row::of(size);
    let cut = log.fill(size, &mut row).await;
    row.note("disk_mib", log.mib());
    measure(log, size, &mut row).await;
    log.sweep(cut, is_last, &mut row).await;
    row
}

/// A log with events of so many cameras.
async fn cameras_row(cameras: usize) -> Row {
    let (mut row, mut log) = (Row::of(cameras), Site::new(cameras));
    log.fill(SOME_EVENTS, &mut row).await;
    measure(&mut log, SOME_EVENTS, &mut row).await;
    row
}

async fn measure(log: &mut Site, size: usize, row: &mut Row) {
    let mut program = log.program();
    ask::start(&mut program, row).await;
    stop(&mut program).await;
    log.append(row).await;
    program.start().await;
    ask::pages(&program, size, row).await;
    ask::drain(&program, log.cameras() + 1, row).await;
    stop(&mut program).await;
}

async fn stop(program: &mut Service) {
    program.sigterm();
    assert_eq!(program.wait().await, 0, "it ends well");
}
