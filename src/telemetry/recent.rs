//! The last lines of the log, kept in memory so that an administrator can read them without access to the machine.
//!
//! They are the lines that the log filter lets through, so nothing is here that is not in the log. A line costs one
//! formatting; nothing happens while nothing is logged. At most [`MAX_LINES`] lines of at most [`MAX_MESSAGE_BYTES`]
//! are kept: 2 MiB at worst, and usually less than 200 KiB.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use liveobject_actors::domain::clock::{self, Timestamp};
use serde::Serialize;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        FormatFields as _,
        format::{DefaultFields, Writer},
    },
    layer::Context,
};
use utoipa::ToSchema;

use crate::terminal::is_harmless;

/// How many lines are kept.
pub const MAX_LINES: usize = 1000;
/// How many bytes of a message are kept.
pub const MAX_MESSAGE_BYTES: usize = 2048;
/// How many bytes of a target are kept.
const MAX_TARGET_BYTES: usize = 64;

/// The crates of this program. Their names are left out of targets.
const OWN_CRATES: [&str; 2] = ["liveobject_actors", "liveobject"];

static LINES: LazyLock<RecentLines> = LazyLock::new(RecentLines::default);

/// Returns the lines of this process. They are empty before logging is set up.
pub fn recent_lines() -> RecentLines {
    LINES.clone()
}

/// The level of a line, the most serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something does not work.
    Error,
    /// Something does not work as expected.
    Warn,
    /// Something that an administrator may want to know.
    Info,
    /// Details, such as each event.
    Debug,
    /// More details.
    Trace,
}

impl LogLevel {
    /// All levels.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Parses the name of a level; `None` if there is none of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// Returns the name of the level.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogLine {
    /// Its number since the start of the service. The first line has the number 1.
    #[schema(minimum = 1)]
    pub number: u64,
    /// When it was logged.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How serious it is.
    pub level: LogLevel,
    /// The module that logged it; for other libraries, with the name of the library.
    #[schema(value_type = String, max_length = 64)]
    pub target: Box<str>,
    /// The message, with its fields as `name=value`. It may have several lines. It contains no control characters other
    /// than line feeds.
    #[schema(value_type = String, max_length = 2048)]
    pub message: Box<str>,
    /// Whether the message was longer, and its end was left out.
    pub truncated: bool,
}

/// Which lines to read.
#[derive(Debug, Clone, Copy)]
pub struct LineQuery {
    /// Lines of this level, and more serious ones.
    pub level: LogLevel,
    /// Only lines with a higher number, the oldest first; `None` for the latest lines.
    pub after: Option<u64>,
    /// Maximum number of lines.
    pub limit: usize,
}

/// The lines that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinePart {
    /// The lines, the oldest first.
    pub lines: Vec<LogLine>,
    /// The `after` of the query for the lines that follow.
    pub next_after: u64,
    /// How many lines after `after` are not kept any more, whatever their level.
    pub missed: u64,
    /// When the service began to log, which distinguishes its runs: numbers begin again after a restart.
    pub began_at: Timestamp,
}

/// The last lines. Cheap to clone; clones share the lines. A layer of the subscriber, which adds the lines.
#[derive(Debug, Clone)]
pub struct RecentLines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began_at: Timestamp,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the last line.
    last: u64,
    /// The oldest first. Their numbers are consecutive.
    lines: VecDeque<LogLine>,
}

impl Default for RecentLines {
    fn default() -> Self {
        Self(Arc::new(Shared { began_at: clock::now(), ring: Mutex::default() }))
    }
}

impl RecentLines {
    /// Returns the lines that match. A query for lines after a number that does not exist yet is one from before a
    /// restart, and returns the latest lines.
    pub fn read(&self, LineQuery { level, after, limit }: LineQuery) -> LinePart {
        let ring = self.ring();
        let (last, began_at) = (ring.last, self.0.began_at);
        let Some(after) = after.filter(|after| *after <= last) else {
            let latest = ring.lines.iter().rev().filter(|line| line.level <= level).take(limit);
            let mut lines: Vec<_> = latest.cloned().collect();
            lines.reverse();
            return LinePart { lines, next_after: last, missed: 0, began_at };
        };
        let before = last - ring.lines.len() as u64;
        let newer = ring.lines.iter().filter(|line| line.number > after && line.level <= level);
        let lines: Vec<_> = newer.take(limit).cloned().collect();
        let is_full = lines.len() == limit;
        let next_after = lines.last().filter(|_| is_full).map_or(last, |line| line.number);
        LinePart { lines, next_after, missed: before.saturating_sub(after), began_at }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for RecentLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Bounded::of(MAX_MESSAGE_BYTES);
        // Fails only if the value of a field cannot be formatted. What was written until then is kept.
        let _incomplete = DefaultFields::new().format_fields(Writer::new(&mut text), event);
        let metadata = event.metadata();
        let mut target = Bounded::of(MAX_TARGET_BYTES);
        let name = TargetOfLibrary::of(event).unwrap_or_else(|| short(metadata.target()).to_owned());
        let _never_fails = fmt::Write::write_str(&mut target, &name);
        let (at, level) = (clock::now(), LogLevel::from(*metadata.level()));
        let mut ring = self.ring();
        ring.last += 1;
        if ring.lines.len() == MAX_LINES {
            ring.lines.pop_front();
        }
        let line = LogLine {
            number: ring.last,
            at,
            level,
            target: target.text.into(),
            message: text.text.into(),
            truncated: text.is_cut,
        };
        ring.lines.push_back(line);
    }
}

/// Returns a target without the name of this program's crates.
fn short(target: &str) -> &str {
    let of_own = OWN_CRATES.iter().find_map(|name| target.strip_prefix(name)?.strip_prefix("::"));
    of_own.unwrap_or(target)
}

/// The target of an event from a library that uses the crate `log`, which is in a field.
#[derive(Default)]
struct TargetOfLibrary(Option<String>);

impl TargetOfLibrary {
    fn of(event: &Event<'_>) -> Option<String> {
        if event.metadata().target() != "log" {
            return None;
        }
        let mut found = Self::default();
        event.record(&mut found);
        found.0
    }
}

impl Visit for TargetOfLibrary {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// A text up to a number of bytes. What does not fit is left out, and control characters are written as `\u{…}`.
struct Bounded {
    text: String,
    max: usize,
    is_cut: bool,
}

impl Bounded {
    fn of(max: usize) -> Self {
        Self { text: String::new(), max, is_cut: false }
    }

    fn push(&mut self, c: char) {
        self.is_cut |= self.text.len() + c.len_utf8() > self.max;
        if !self.is_cut {
            self.text.push(c);
        }
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.is_cut {
                break;
            }
            if c == '\n' || is_harmless(c) {
                self.push(c);
            } else {
                c.escape_unicode().for_each(|c| self.push(c));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    use liveobject_actors::domain::causes::with_causes;

    use super::*;

    /// Returns the lines of what `act` logs.
    fn logged(act: impl FnOnce()) -> RecentLines {
        let lines = RecentLines::default();
        with_default(registry().with(lines.clone()), act);
        lines
    }

    fn query(level: LogLevel, after: Option<u64>, limit: usize) -> LineQuery {
        LineQuery { level, after, limit }
    }

    fn numbers(part: &LinePart) -> Vec<u64> {
        part.lines.iter().map(|line| line.number).collect()
    }

    /// Returns the only line of what `act` logs.
    fn line(act: impl FnOnce()) -> LogLine {
        let lines = logged(act).read(query(LogLevel::Trace, None, 10)).lines;
        let [line] = <[LogLine; 1]>::try_from(lines).unwrap();
        line
    }

    #[test]
    fn a_line_has_a_level_a_short_target_and_its_fields() {
        let error = std::io::Error::other("no route");
        let logged = line(|| {
            tracing::warn!(
                target: "liveobject_actors::supervisor", error = %with_causes(&error), broker = "nas:1883",
                "disconnected"
            );
        });
        assert_eq!((logged.number, logged.level, logged.truncated), (1, LogLevel::Warn, false));
        assert_eq!(&*logged.target, "supervisor");
        assert_eq!(&*logged.message, "disconnected error=no route broker=\"nas:1883\"");
    }

    #[test]
    fn targets_of_other_libraries_keep_their_name() {
        for (target, expected) in [
            ("liveobject::http::auth", "http::auth"),
            ("liveobject", "liveobject"),
            ("liveobjects::x", "liveobjects::x"),
            ("sqlx::query", "sqlx::query"),
        ] {
            assert_eq!(short(target), expected);
        }
    }

    #[test]
    fn a_message_contains_nothing_that_a_terminal_interprets() {
        // The formatter of fields escapes some of them itself, depending on the kind of the field.
        let evil = "a\u{1b}[31m\u{9b}2J\u{7}b\u{202e}\u{200b}";
        let logged = line(|| tracing::info!(text = evil, shown = %evil, "first\nsecond {evil}"));
        assert!(logged.message.chars().all(|c| c == '\n' || is_harmless(c)), "{:?}", logged.message);
        assert!(logged.message.starts_with("first\nsecond"), "{:?}", logged.message);
    }

    #[test]
    fn a_long_message_is_cut_and_marked() {
        for text in ["x".repeat(100_000), "ä".repeat(50_000), "\u{1b}".repeat(50_000)] {
            let logged = line(|| tracing::info!("{text}"));
            assert!(logged.truncated);
            assert!((MAX_MESSAGE_BYTES - 8..=MAX_MESSAGE_BYTES).contains(&logged.message.len()));
        }
        let fits = "x".repeat(MAX_MESSAGE_BYTES);
        let logged = line(|| tracing::info!("{fits}"));
        assert_eq!((&*logged.message, logged.truncated), (fits.as_str(), false));
    }

    #[test]
    fn only_the_last_lines_are_kept_and_what_is_missing_is_reported() {
        let lines = logged(|| (0..MAX_LINES + 7).for_each(|number| tracing::info!(number)));
        let all = lines.read(query(LogLevel::Info, None, usize::MAX));
        assert_eq!((all.lines.len(), all.missed), (MAX_LINES, 0));
        assert_eq!((all.lines[0].number, all.next_after), (8, 1007));
        let after = lines.read(query(LogLevel::Info, Some(2), 3));
        assert_eq!((numbers(&after), after.missed, after.next_after), (vec![8, 9, 10], 5, 10));
    }

    #[test]
    fn a_level_includes_the_more_serious_ones() {
        let lines = logged(|| {
            tracing::debug!("1");
            tracing::info!("2");
            tracing::warn!("3");
            tracing::error!("4");
            tracing::trace!("5");
        });
        let of = |level| numbers(&lines.read(query(level, None, 10)));
        assert_eq!(of(LogLevel::Error), [4]);
        assert_eq!(of(LogLevel::Warn), [3, 4]);
        assert_eq!(of(LogLevel::Info), [2, 3, 4]);
        assert_eq!(of(LogLevel::Trace), [1, 2, 3, 4, 5]);
        let newest = lines.read(query(LogLevel::Warn, None, 1));
        assert_eq!((numbers(&newest), newest.next_after), (vec![4], 5));
    }

    #[test]
    fn lines_are_followed_without_reading_any_twice() {
        let lines = logged(|| (0..5).for_each(|number| tracing::info!(number)));
        let first = lines.read(query(LogLevel::Info, Some(0), 2));
        assert_eq!((numbers(&first), first.next_after), (vec![1, 2], 2));
        let second = lines.read(query(LogLevel::Info, Some(2), 10));
        assert_eq!((numbers(&second), second.next_after), (vec![3, 4, 5], 5));
        // Lines of other levels need not be examined again.
        let none = lines.read(query(LogLevel::Error, Some(0), 10));
        assert_eq!((numbers(&none), none.next_after, none.missed), (vec![], 5, 0));
        // A number from before a restart.
        assert_eq!(numbers(&lines.read(query(LogLevel::Info, Some(6), 2))), [4, 5]);
    }
}
