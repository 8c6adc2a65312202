//! `liveobject --version`, and the part of the build script that determines what it prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Compiles this part of the build script into this directory.
fn build_script(dir: &Path) -> PathBuf {
    let (source, program) = (dir.join("script.rs"), dir.join("script"));
    let part = concat!(env!("CARGO_MANIFEST_DIR"), "/build/version.rs");
    let text = format!("#[path = {part:?}]\nmod version;\n\nfn main() {{\n    version::set();\n}}\n");
    fs::write(&source, text).expect("the file can be written");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc).args(["--edition", "2024", "-o"]).arg(&program).arg(source).output();
    let compiled = compiled.expect("the compiler can be started");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program
}

/// Runs the build script for the sources in this directory, and returns its lines.
fn run(script: &Path, sources: &Path, profile: &str, more: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(script);
    command.current_dir(sources).env("CARGO_MANIFEST_DIR", sources).env("CARGO_PKG_VERSION", "1.2.3");
    command.env("PROFILE", profile).env_remove("LIVEOBJECT_REVISION").env_remove("CARGO_FEATURE_DEMO");
    let output = command.envs(more.iter().copied()).output().expect("the script can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

fn version(lines: &[String]) -> &str {
    let prefix = "cargo::rustc-env=LIVEOBJECT_VERSION=";
    lines.iter().find_map(|line| line.strip_prefix(prefix)).expect("the version is set")
}

/// Runs git in this directory, and returns its output.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .env_remove("GIT_DIR")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(arguments);
    let output = command.current_dir(directory).output().expect("git is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn the_version_names_the_revision_in_release_builds_from_a_repository() {
    let dir = TempDir::new().expect("a directory");
    let script = build_script(dir.path());
    let sources = dir.path().join("sources");
    fs::create_dir(&sources).expect("a directory");
    assert_eq!(version(&run(&script, &sources, "release", &[])), "1.2.3", "the sources are from an archive");

    git(&sources, &["init", "--quiet"]);
    git(&sources, &["commit", "--quiet", "--allow-empty", "--message", "first"]);
    let revision = git(&sources, &["rev-parse", "HEAD"])[..12].to_owned();
    let release = run(&script, &sources, "release", &[("CARGO_FEATURE_DEMO", "1")]);
    assert_eq!(version(&release), format!("1.2.3 ({revision}, demo)"));
    assert!(release.contains(&"cargo::rerun-if-changed=.git/logs/HEAD".to_owned()), "{release:?}");

    let debug = run(&script, &sources, "debug", &[]);
    assert_eq!(version(&debug), "1.2.3");
    assert!(!debug.iter().any(|line| line.contains(".git")), "commits must not compile it again: {debug:?}");

    let nested = sources.join("nested");
    fs::create_dir(&nested).expect("a directory");
    assert_eq!(version(&run(&script, &nested, "release", &[])), "1.2.3", "the repository is another one");
    let given = run(&script, &nested, "debug", &[("LIVEOBJECT_REVISION", "abc1234")]);
    assert_eq!(version(&given), "1.2.3 (abc1234)");
}

#[test]
fn the_program_prints_its_version_and_features() {
    let output = Command::new(env!("CARGO_BIN_EXE_liveobject")).arg("--version").output();
    let text = String::from_utf8(output.expect("the program can be started").stdout).expect("text");
    assert!(text.starts_with(concat!("liveobject ", env!("CARGO_PKG_VERSION"))), "{text}");
    assert_eq!(text.contains("demo)"), cfg!(feature = "demo"), "{text}");
    assert_eq!(text.lines().count(), 1);
}
