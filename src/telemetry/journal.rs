//! Lines for systemd's journal: each begins with its priority, which the journal removes, and has no time, which the
//! journal adds.

use std::{
    fmt::{self, Write as _},
    io,
    os::fd::AsFd,
};

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Compact, Format, Writer},
    },
    registry::LookupSpan,
};

/// The priority of an error, as in `syslog(3)`.
pub const ERROR: u8 = 3;
/// The priority of a warning.
pub const WARNING: u8 = 4;

/// Returns whether standard error is connected to the journal: systemd names the device and the inode of the
/// connection in `JOURNAL_STREAM`. Standard error may have been redirected since.
pub fn is_connected() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    is_stream(&stream, io::stderr())
}

fn is_stream(stream: &str, file: impl AsFd) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else { return false };
    fstat(file).is_ok_and(|file| (file.st_dev, file.st_ino) == (device, inode))
}

/// Adds the priority to each line.
pub fn with_priority(priority: u8, text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        let _infallible = writeln!(lines, "<{priority}>{line}");
    }
    lines
}

/// The compact format with priorities.
#[derive(Debug)]
pub struct JournalFormat(Format<Compact, ()>);

impl Default for JournalFormat {
    fn default() -> Self {
        Self(Format::default().compact().without_time())
    }
}

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&with_priority(priority(*event.metadata().level()), &text))
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => WARNING,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_stream_is_recognized_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let (device, inode) = (metadata.dev(), metadata.ino());
        assert!(is_stream(&format!("{device}:{inode}"), &file));
        for other in
            [format!("{device}:{}", inode + 1), format!("{}:{inode}", device + 1), String::new(), ":".into()]
        {
            assert!(!is_stream(&other, &file), "{other}");
        }
    }
}
