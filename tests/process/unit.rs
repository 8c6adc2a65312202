//! The systemd unit.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

const UNIT: &str = "packaging/systemd/liveobject.service";

/// Runs systemd-analyze, and returns whether it succeeded and what it printed. If it cannot be run, prints a line and
/// returns `None`.
fn analyze(arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            println!("SKIPPED: systemd-analyze cannot be run: {error}");
            None
        }
    }
}

#[test]
fn systemd_accepts_the_unit_and_rates_its_exposure_at_most_1_5() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT);
    let text = fs::read_to_string(&unit).expect("the unit can be read");
    let dir = TempDir::new().expect("a directory");
    let copy = dir.path().join("liveobject.service");
    fs::write(&copy, text.replace("/usr/bin/liveobject", env!("CARGO_BIN_EXE_liveobject"))).expect("a copy");
    let copy = copy.display().to_string();
    if let Some((accepted, output)) = analyze(&["verify", "--man=no", &copy]) {
        assert!(accepted && output.is_empty(), "{output}");
    }
    if let Some((low, output)) = analyze(&["security", "--offline=true", "--threshold=15", &copy]) {
        assert!(low, "{output}");
    }
}

#[test]
fn the_unit_does_not_restart_the_service_after_faults_that_a_restart_cannot_fix() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT);
    let text = fs::read_to_string(&unit).expect("the unit can be read");
    assert!(text.lines().any(|line| line == "RestartPreventExitStatus=2 78"), "{text}");
}
