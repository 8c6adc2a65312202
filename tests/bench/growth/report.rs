//! The tables for people and the figures for programs.

use std::{fs, io, path::Path};

use serde_json::json;

use crate::figures::{Column, Row, table};

const EVENTS: &[Column] = &[
    ("on disk, MiB", "disk_mib"),
    ("start, ms", "start_ms"),
    ("memory, MiB", "idle_mib"),
    ("append, batches of 1,000, events/s", "append_per_s"),
    ("append, single events, ms", "append_one_ms"),
    ("drain, events/s", "drain_per_s"),
    ("start with everything pending, ms", "start_pending_ms"),
    ("live event while everything is pending, median, ms", "live_median_ms"),
    ("the same, maximum, ms", "live_longest_ms"),
    ("memory then, MiB", "live_mib"),
    ("sweep, events/s", "swept_per_s"),
    ("append before a sweep, p99, ms", "calm_p99_ms"),
    ("append during a sweep, p99, ms", "swept_p99_ms"),
    ("append during a sweep, maximum, ms", "swept_longest_ms"),
];

const PAGES: &[Column] = &[
    ("newest", "first_ms"),
    ("middle", "middle_ms"),
    ("oldest", "end_ms"),
    ("one camera: newest", "camera_first_ms"),
    ("one camera: middle", "camera_middle_ms"),
    ("pending: newest", "pending_first_ms"),
    ("pending: oldest", "pending_end_ms"),
    ("pending, one camera: oldest", "pending_camera_end_ms"),
    ("delivered: newest", "delivered_first_ms"),
    ("delivered: middle", "delivered_middle_ms"),
    ("delivered, one camera: middle", "delivered_camera_ms"),
    ("dead: newest", "dead_first_ms"),
    ("dead: middle", "dead_middle_ms"),
    ("dead, one camera: newest", "dead_camera_ms"),
    ("dead, camera without dead events", "dead_none_ms"),
    ("status", "status_ms"),
];

const SEARCH: &[Column] = &[
    ("common word", "common_ms"),
    ("word and beginning of a word", "begun_ms"),
    ("word of the oldest events", "oldest_ms"),
    ("unknown word", "no_word_ms"),
    ("object", "object_ms"),
    ("unknown object", "no_object_ms"),
    ("two cameras", "two_cameras_ms"),
    ("a day", "day_ms"),
    ("a day, one camera and a word", "day_camera_word_ms"),
    ("delivered, and a word", "delivered_word_ms"),
    ("dead, and an unknown word", "dead_word_ms"),
    ("events per hour of a day", "density_ms"),
    ("the same, one camera", "density_camera_ms"),
    ("indexing, events/s", "indexed_per_s"),
    ("append in the meantime, p99, ms", "index_p99_ms"),
    ("the same, maximum, ms", "index_longest_ms"),
];

const CAMERAS: &[Column] = &[
    ("start, ms", "start_ms"),
    ("memory, MiB", "idle_mib"),
    ("append, batches of 1,000, events/s", "append_per_s"),
    ("append, single events, ms", "append_one_ms"),
    ("drain, events/s", "drain_per_s"),
    ("all cameras announced after, ms", "announced_ms"),
    ("memory after that, MiB", "connected_mib"),
    ("newest events, ms", "first_ms"),
    ("newest events of one camera, ms", "camera_first_ms"),
    ("list of cameras, ms", "cameras_ms"),
];

const BEGIN: &str = "<!-- growth: written by `cargo bench --bench growth` -->\n";
const END: &str = "<!-- end of growth -->\n";

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// One row per number of events.
    pub events: Vec<Row>,
    /// One row per number of cameras.
    pub cameras: Vec<Row>,
}

impl Report {
    /// Returns the tables as Markdown.
    pub fn tables(&self) -> String {
        format!(
            "Costs as the log grows (10 cameras):\n\n{}\n\
             Time to load a page of 50 events of that log, in ms:\n\n{}\n\
             Time to search that log for a page of 50 events, in ms:\n\n{}\n\
             Costs as the number of cameras grows (100,000 events):\n\n{}",
            table("events", EVENTS, &self.events),
            table("events", PAGES, &self.events),
            table("events", SEARCH, &self.events),
            table("cameras", CAMERAS, &self.cameras),
        )
    }

    /// Writes the figures as JSON. Writes the tables to `docs/performance.md` only after a complete run.
    pub fn write(&self, is_complete: bool) -> io::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let figures = root.join("target/bench/growth.json");
        fs::create_dir_all(root.join("target/bench"))?;
        let rows = |rows: &[Row]| rows.iter().map(Row::to_json).collect::<Vec<_>>();
        let all = json!({ "events": rows(&self.events), "cameras": rows(&self.cameras) });
        fs::write(figures, format!("{all:#}\n"))?;
        if !is_complete {
            return Ok(());
        }
        let page = root.join("docs/performance.md");
        let text = fs::read_to_string(&page)?;
        let (before, rest) =
            text.split_once(BEGIN).ok_or_else(|| io::Error::other("the begin marker is missing"))?;
        let (_, after) = rest.split_once(END).ok_or_else(|| io::Error::other("the end marker is missing"))?;
        fs::write(page, format!("{before}{BEGIN}\n{}\n{END}{after}", self.tables()))
    }
}
