//! The tables, where people and machines find them.

use std::{fs, io, path::Path};

use serde_json::json;

use crate::figures::{Column, Row, table};

const EVENTS: &[Column] = &[
    ("on disk, MiB", "disk_mib"),
    ("start, ms", "start_ms"),
    ("memory, MiB", "idle_mib"),
    ("append, batches of 1,000: events/s", "append_per_s"),
    ("append, one: ms", "append_one_ms"),
    ("drain: events/s", "drain_per_s"),
    ("sweep: events/s", "swept_per_s"),
    ("append before it, p99: ms", "calm_p99_ms"),
    ("during it, p99: ms", "swept_p99_ms"),
    ("longest, ms", "swept_longest_ms"),
];

const PAGES: &[Column] = &[
    ("newest", "first_ms"),
    ("middle", "middle_ms"),
    ("oldest", "end_ms"),
    ("of a camera", "camera_first_ms"),
    ("its middle", "camera_middle_ms"),
    ("pending", "pending_first_ms"),
    ("last of them", "pending_end_ms"),
    ("of a camera", "pending_camera_end_ms"),
    ("delivered", "delivered_first_ms"),
    ("middle", "delivered_middle_ms"),
    ("of a camera", "delivered_camera_ms"),
    ("dead", "dead_first_ms"),
    ("middle", "dead_middle_ms"),
    ("of a camera", "dead_camera_ms"),
    ("of one without", "dead_none_ms"),
    ("status", "status_ms"),
];

const CAMERAS: &[Column] = &[
    ("start, ms", "start_ms"),
    ("memory, MiB", "idle_mib"),
    ("append, batches of 1,000: events/s", "append_per_s"),
    ("append, one: ms", "append_one_ms"),
    ("drain: events/s", "drain_per_s"),
    ("all announced after, ms", "announced_ms"),
    ("memory then, MiB", "connected_mib"),
    ("newest events, ms", "first_ms"),
    ("of a camera, ms", "camera_first_ms"),
    ("list of cameras, ms", "cameras_ms"),
];

const BEGIN: &str = "<!-- growth: written by `cargo bench --bench growth` -->\n";
const END: &str = "<!-- end of growth -->\n";

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// As the log grows.
    pub events: Vec<Row>,
    /// As the number of cameras grows.
    pub cameras: Vec<Row>,
}

impl Report {
    /// For people.
    pub fn tables(&self) -> String {
        format!(
            "As the log grows (10 cameras):\n\n{}\nA page of 50 events of it, in ms:\n\n{}\nAs the number of cameras grows \
             (100,000 events):\n\n{}",
            table("events", EVENTS, &self.events),
            table("events", PAGES, &self.events),
            table("cameras", CAMERAS, &self.cameras),
        )
    }

    /// Writes the figures, and the tables of a complete run.
    pub fn write(&self, is_complete: bool) -> io::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let figures = root.join("target/bench/growth.json");
        fs::create_dir_all(root.join("target/bench"))?;
        let rows = |rows: &[Row]| rows.iter().map(Row::json).collect::<Vec<_>>();
        let all = json!({ "events": rows(&self.events), "cameras": rows(&self.cameras) });
        fs::write(figures, format!("{all:#}\n"))?;
        if !is_complete {
            return Ok(());
        }
        let page = root.join("docs/performance.md");
        let text = fs::read_to_string(&page)?;
        let (before, rest) =
            text.split_once(BEGIN).ok_or_else(|| io::Error::other("no mark for the tables"))?;
        let (_, after) = rest.split_once(END).ok_or_else(|| io::Error::other("no end of the tables"))?;
        fs::write(page, format!("{before}{BEGIN}\n{}\n{END}{after}", self.tables()))
    }
}
