//! Sets the text of `liveobject --version`: version, git revision and features.

use std::{env, path::Path, process::Command};

/// The variable that sets the revision, for builds without the git repository.
const REVISION: &str = "LIVEOBJECT_REVISION";
/// The number of digits of a revision. It is sufficient to stay unique, and fixed, so that the same revision always
/// results in the same program.
const DIGITS: &str = "--short=12";

/// Prints the instruction for cargo.
pub fn set() {
    println!("cargo::rerun-if-env-changed={REVISION}");
    let revision = env::var(REVISION).ok().filter(|revision| !revision.is_empty());
    let revision =
        revision.inspect(|given| assert!(is_plain(given), "{REVISION} is not a revision: {given}"));
    let demo = env::var_os("CARGO_FEATURE_DEMO").map(|_| "demo".to_owned());
    let details: Vec<String> = revision.or_else(of_repository).into_iter().chain(demo).collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=LIVEOBJECT_VERSION={version}{details}");
}

fn is_plain(revision: &str) -> bool {
    revision.len() <= 40
        && revision.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Returns the revision of the repository of these sources. `None` if they are not in one, for example because they are
/// from an archive, and in builds for development, which would be compiled again after each commit.
fn of_repository() -> Option<String> {
    if env::var("PROFILE").ok()? != "release" {
        return None;
    }
    // An archive may have been unpacked within another repository.
    let root = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()? != root {
        return None;
    }
    // This log changes with each commit and each checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", DIGITS, "HEAD"])
}

/// Returns the output of git, or `None` if it fails or is not installed.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
