//! The log of a service whose standard error is connected to the journal. A file takes the journal's place: systemd
//! identifies the connection by its device and inode, which a file has as well.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_liveobject");

/// Runs `serve`, which logs, and then fails because its port is in use.
/// Returns its log. `stream` is the value of `JOURNAL_STREAM` for its standard error.
fn log_of_a_failed_start(format: &str, stream: impl FnOnce(&Path) -> String) -> String {
    let dir = TempDir::new().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let path = dir.path().join("log.txt");
    let log = File::create(&path).expect("the log can be created");
    let mut command = Command::new(BINARY);
    command.arg("serve").current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.env("LIVEOBJECT__HTTP__BIND", taken.local_addr().expect("an address").to_string());
    command.env("LIVEOBJECT__LOG__FORMAT", format);
    command.env("JOURNAL_STREAM", stream(&path));
    let ended = command.status().expect("the program can be started");
    assert_eq!(ended.code(), Some(1));
    fs::read_to_string(&path).expect("the log can be read")
}

fn stream(path: &Path) -> String {
    let metadata = path.metadata().expect("the file exists");
    format!("{}:{}", metadata.dev(), metadata.ino())
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time_of_their_own() {
    let log = log_of_a_failed_start("text", stream);
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with("<6> INFO liveobject::commands: configuration read "), "{log}");
    assert!(lines.last().is_some_and(|last| last.starts_with("<3>liveobject: cannot listen on ")), "{log}");
    assert!(lines.iter().all(|line| line.starts_with('<')), "{log}");
}

#[test]
fn lines_for_anything_else_and_in_json_have_no_priority() {
    for other in ["", "1:1"] {
        let log = log_of_a_failed_start("text", |_| other.to_owned());
        assert!(!log.contains("<6>") && !log.contains("<3>"), "{log}");
        assert!(log.starts_with("20"), "each line has a time: {log}");
    }
    let log = log_of_a_failed_start("json", stream);
    assert!(log.starts_with('{'), "{log}");
}
