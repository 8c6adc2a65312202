//! Logging: filter, format, and panics as log lines.
//!
//! Lines go to standard error; see [`journal`] if that is systemd's journal. Libraries that use the `log` crate are
//! included. Libraries that log too much, or only repeat what this program logs, are reduced to the levels in `QUIET`,
//! unless the filter names them. The last lines are also kept in memory; see [`recent`].

pub mod journal;
pub mod recent;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    sync::OnceLock,
    thread,
};

use liveobject_actors::domain::causes::with_causes;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
    fmt::{FormatEvent, FormatFields, MakeWriter, SubscriberBuilder},
    layer::SubscriberExt as _,
    registry::Registry,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use self::{journal::JournalFormat, recent::RecentLines};

/// What is logged, and in which format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// A level, and levels of single modules: `info,liveobject_actors=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".to_owned() }
    }
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// Libraries that would log too much, with the level that each is reduced to.
const QUIET: [(&str, LevelFilter); 9] = [
    // The actor that owns the connection logs each failure once.
    ("rumqttc", LevelFilter::ERROR),
    // The demo stops its broker on purpose.
    ("rmqtt", LevelFilter::ERROR),
    // These log each statement and each migration.
    ("sqlx", LevelFilter::WARN),
    // Remarks of the database server, about which nothing can be done here. What fails is an error.
    ("sqlx::postgres::notice", LevelFilter::ERROR),
    ("sea_orm", LevelFilter::WARN),
    ("sea_orm_migration", LevelFilter::WARN),
    // Logs each invalid request as an error, so that any client could fill the log.
    ("actix_http", LevelFilter::OFF),
    // These log the start and stop of each worker.
    ("actix_server", LevelFilter::WARN),
    ("mio", LevelFilter::WARN),
];

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up logging")]
pub struct TelemetryError(#[from] TryInitError);

/// Sets up logging for this process, panics included. Must be called only once.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let colors = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let recent = recent::recent_lines();
    let (subscriber, set_filter) = subscriber(log, colors, journal::is_connected(), io::stderr, recent);
    subscriber.try_init()?;
    // A second call has failed above.
    let _first = SET_FILTER.set(set_filter);
    log_panics();
    Ok(())
}

/// Changes the filter of this process. `text` is a valid filter. Does nothing before [`init`].
pub fn set_filter(text: &str) {
    if let Some(Err(error)) = SET_FILTER.get().map(|set| set(filter(text))) {
        tracing::warn!(error = %with_causes(&error), "the log filter was not changed");
    }
}

/// Checks a filter. Stricter than [`EnvFilter`], which takes a misspelt level for a target name and
/// then silences all other targets.
pub fn check_filter(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    for part in parts(text) {
        let is_good = match part.split_once('=') {
            None if !part.contains('[') => level(part).is_some(),
            _ => part.parse::<Directive>().is_ok(),
        };
        if !is_good {
            return Err(format!(
                "{part:?} is neither a level (error, warn, info, debug, trace, off) nor target=level"
            ));
        }
    }
    Ok(())
}

/// Changes the filter of a subscriber.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// A subscriber, and what changes its filter.
type Made = (Box<dyn Subscriber + Send + Sync>, SetFilter);

fn subscriber<W>(log: &Log, colors: bool, to_journal: bool, writer: W, recent: RecentLines) -> Made
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(colors)
        // With a closed standard error, reporting an error of the log itself would panic.
        .log_internal_errors(false);
    let filter = &log.filter;
    match log.format {
        LogFormat::Text if to_journal => made(builder.event_format(JournalFormat::default()), filter, recent),
        LogFormat::Text => made(builder.compact(), filter, recent),
        LogFormat::Json => made(builder.json().flatten_event(true).with_span_list(false), filter, recent),
    }
}

/// Builds a subscriber whose filter can be changed.
fn made<N, E, W>(builder: SubscriberBuilder<N, E, LevelFilter, W>, text: &str, recent: RecentLines) -> Made
where
    N: for<'w> FormatFields<'w> + Send + Sync + 'static,
    E: FormatEvent<Registry, N> + Send + Sync + 'static,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = builder.with_env_filter(filter(text)).with_filter_reloading();
    let filter = builder.reload_handle();
    (Box::new(builder.finish().with(recent)), Box::new(move |new| filter.reload(new)))
}

/// Returns the filter for `text`, with the libraries in [`QUIET`] reduced unless `text` names them.
fn filter(text: &str) -> EnvFilter {
    let general = parts(text).filter_map(level).next_back();
    let is_below = |target: &str, module: &str| {
        target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let is_named = |library: &str| {
        parts(text).any(|part| {
            let target = part.split(['=', '[']).next().unwrap_or_default();
            is_below(target, library) || is_below(library, target)
        })
    };
    let quiet = QUIET.iter().filter(|(library, _)| !is_named(library)).filter_map(|(library, level)| {
        // Never raise a library above the general level.
        let level = general.filter(|general| general > level).map(|_| *level)?;
        format!("{library}={level}").parse().ok()
    });
    let requested = parts(text).filter_map(|part| part.parse().ok());
    let nothing = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).parse_lossy("");
    quiet.chain(requested).fold(nothing, EnvFilter::add_directive)
}

fn parts(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn level(part: &str) -> Option<LevelFilter> {
    part.parse().ok()
}

/// Installs a panic hook that logs each panic as one line and prints nothing else.
fn log_panics() {
    panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let current = thread::current();
    // Captured only if RUST_BACKTRACE is set.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic = panic.payload_as_str().unwrap_or("(no message)"),
        location,
        thread = current.name().unwrap_or("unnamed"),
        backtrace,
        "panicked"
    );
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        panic::catch_unwind,
        path::Path,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tracing::subscriber::with_default;

    use super::{
        recent::{LineQuery, LogLevel},
        *,
    };

    /// Returns what `act` logs with this filter, as JSON.
    fn logged(filter: &str, act: impl FnOnce()) -> Vec<Value> {
        let log = Log { format: LogFormat::Json, filter: filter.to_owned() };
        written(&log, act).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn written(log: &Log, act: impl FnOnce()) -> String {
        written_to(false, log, act)
    }

    fn written_to(to_journal: bool, log: &Log, act: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let writer = buffer.clone();
        with_default(
            subscriber(log, false, to_journal, move || writer.clone(), RecentLines::default()).0,
            act,
        );
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_format_contains_the_causes_of_an_error() {
        #[derive(Debug, thiserror::Error)]
        #[error("the picture cannot be written")]
        struct Outer(#[source] io::Error);

        let act = || {
            let error = Outer(io::Error::other("the disk is full"));
            tracing::error!(error = %with_causes(&error), "failed");
        };
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = written(&Log { format, ..Log::default() }, act);
            assert!(text.contains("the picture cannot be written: the disk is full"), "{text}");
        }
    }

    #[test]
    fn every_error_is_logged_with_its_causes() {
        fn check(directory: &Path) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    check(&path);
                    continue;
                }
                let code = fs::read_to_string(&path).unwrap_or_default();
                for bare in
                    [concat!("%", "error"), concat!("?", "error,"), concat!("as &dyn std::error", "::Error")]
                {
                    assert!(!code.contains(bare), "{}: {bare}: log `%with_causes(&error)`", path.display());
                }
                for call in code.split("tracing::").skip(1).filter_map(|rest| rest.split(");").next()) {
                    let is_bare = call.split(['(', ',']).any(|argument| argument.trim() == "error");
                    assert!(!is_bare, "{}: {call}: log `error = %with_causes(&error)`", path.display());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        check(&root.join("src"));
        check(&root.join("actors/src"));
    }

    fn levels_of_rumqttc(filter: &str) -> Vec<String> {
        let lines = logged(filter, || {
            tracing::error!(target: "rumqttc::state", "x");
            tracing::warn!(target: "rumqttc::state", "x");
            tracing::debug!(target: "rumqttc::state", "x");
        });
        lines.iter().map(|line| line["level"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn noisy_libraries_are_quiet_unless_the_filter_names_them() {
        assert_eq!(levels_of_rumqttc("info"), ["ERROR"]);
        assert_eq!(levels_of_rumqttc("trace"), ["ERROR"]);
        assert_eq!(levels_of_rumqttc("info,rumqttc=debug"), ["ERROR", "WARN", "DEBUG"]);
        assert_eq!(levels_of_rumqttc("info, rumqttc::state=warn"), ["ERROR", "WARN"]);
        assert_eq!(levels_of_rumqttc("off"), [""; 0]);
        assert_eq!(levels_of_rumqttc("liveobject=info"), [""; 0]);
    }

    #[test]
    fn notices_of_the_database_server_are_logged_only_on_request() {
        let count = |filter: &str| {
            let lines = logged(filter, || {
                tracing::warn!(target: "sqlx::postgres::notice", "a notice");
                tracing::warn!(target: "sqlx::query", "slow");
            });
            lines.len()
        };
        assert_eq!(["info", "info,sqlx=warn", "info,sqlx::postgres=info"].map(count), [1, 2, 2]);
    }

    #[test]
    fn a_quiet_library_is_never_louder_than_the_rest() {
        let lines = logged("error", || tracing::warn!(target: "sqlx::query", "slow"));
        assert!(lines.is_empty());
    }

    #[test]
    fn each_part_of_the_filter_applies_to_its_target() {
        let lines = logged("warn,liveobject::a=debug", || {
            tracing::info!(target: "liveobject::b", "filtered out");
            tracing::debug!(target: "liveobject::a", "logged");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "logged");
    }

    #[test]
    fn invalid_filters_are_refused() {
        for good in [
            "info",
            "off",
            "WARN",
            "info,sqlx=debug",
            " info , a::b=trace ",
            "[request{id=5}]=debug",
            "a[b]=info",
        ] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["", " ", "wran", "liveobject", "info;debug", "a=loud", "info,b c=[", "a=b=c"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_is_flat_json_or_compact_text() {
        let act = || tracing::info!(address = "127.0.0.1:8080", "listening");
        let line = &logged("info", act)[0];
        assert_eq!(line["message"], "listening");
        assert_eq!(line["address"], "127.0.0.1:8080");
        assert_eq!(line["level"], "INFO");
        let text = written(&Log { format: LogFormat::Text, filter: "info".to_owned() }, act);
        assert!(text.trim_end().ends_with("listening address=\"127.0.0.1:8080\""), "{text}");
    }

    #[test]
    fn lines_for_the_journal_have_a_priority_and_no_time() {
        let log = Log { format: LogFormat::Text, filter: "trace".to_owned() };
        let text = written_to(true, &log, || {
            tracing::error!(target: "a", "first\nsecond");
            tracing::warn!(target: "a", number = 1, "warned");
            tracing::info!(target: "a", "informed");
            tracing::debug!(target: "a", "debugged");
            tracing::trace!(target: "a", "traced");
        });
        let expected = "<3>ERROR a: first\n<3>second\n<4> WARN a: warned number=1\n<6> INFO a: informed\n\
                        <7>DEBUG a: debugged\n<7>TRACE a: traced\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_filter_can_be_changed() {
        let log = Log { format: LogFormat::Json, filter: "warn".to_owned() };
        let (subscriber, set_filter) = subscriber(&log, false, false, io::sink, RecentLines::default());
        with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::INFO));
            set_filter(filter("debug,liveobject=trace")).unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            assert!(!tracing::enabled!(target: "sqlx::query", tracing::Level::INFO));
        });
    }

    #[test]
    fn the_recent_lines_are_those_of_the_log_and_no_others() {
        let log = Log { format: LogFormat::Text, filter: "info,rumqttc=warn".to_owned() };
        let recent = RecentLines::default();
        let (subscriber, set_filter) = subscriber(&log, true, false, io::sink, recent.clone());
        with_default(subscriber, || {
            tracing::debug!("hidden by the level");
            tracing::warn!(target: "sqlx", "logged");
            tracing::info!(target: "rumqttc", "hidden by the target");
            set_filter(filter("debug")).unwrap();
            tracing::debug!(password = tracing::field::Empty, "logged with the new filter");
        });
        let query = LineQuery { level: LogLevel::Trace, after: None, limit: 10 };
        let messages: Vec<_> = recent.read(query).lines.into_iter().map(|line| line.message).collect();
        assert_eq!(messages, ["logged".into(), "logged with the new filter".into()] as [Box<str>; 2]);
    }

    #[test]
    fn a_panic_is_one_error_line_with_its_location() {
        let before = panic::take_hook();
        log_panics();
        let lines = logged("info", || {
            let number = 7;
            catch_unwind(|| panic!("broken {number}")).unwrap_err();
        });
        panic::set_hook(before);
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"panicked".into()));
        assert_eq!(line["panic"], "broken 7");
        assert!(line["location"].as_str().unwrap().contains("telemetry/mod.rs:"));
        assert!(line["thread"].as_str().unwrap().contains("a_panic_is_one_error_line"));
    }
}
