//! `key rotate`: a new key for every secret, and no secret is lost when the command is killed.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use liveobject_test_support::Service;
use tokio::time::{Instant, sleep};

use crate::helpers::{Dice, TIMEOUT, connected_with_login, event, mode, names, service, stop};

const KILLS: usize = 20;

fn key_files(directory: &Path) -> Vec<String> {
    names(directory).into_iter().filter(|name| name.starts_with("identity")).collect()
}

#[tokio::test]
async fn a_rotated_key_decrypts_the_password_and_the_old_key_is_gone() {
    let (_broker, mut service) = connected_with_login(service()).await;
    stop(&mut service).await;
    let file = service.data_dir().join("identity.age");
    let before = fs::read(&file).expect("the file can be read");
    let finished = service.run(&["key", "rotate"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.stdout.contains("re-encrypted 1 secret with it"), "{finished:?}");
    assert_ne!(fs::read(&file).expect("the file can be read"), before);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(key_files(service.data_dir()), ["identity.age"]);
    service.start().await;
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn a_key_is_not_rotated_while_the_service_runs() {
    let (_broker, service) = connected_with_login(service()).await;
    let file = service.data_dir().join("identity.age");
    let before = fs::read(&file).expect("the file can be read");
    let finished = service.run(&["key", "rotate"]).await;
    assert_eq!(finished.code, 1, "{finished:?}");
    for part in
        ["another liveobject process is using the data directory", &service.data_dir().display().to_string()]
    {
        assert!(finished.stderr.contains(part), "{finished:?}");
    }
    assert_eq!(fs::read(&file).expect("the file can be read"), before);
    let _ = service.post_event(&event("undisturbed")).await.expect(202);
    service.wait_until_delivered("undisturbed", TIMEOUT).await;
}

fn spawn_rotation(service: &Service) -> Child {
    Command::new(env!("CARGO_BIN_EXE_liveobject"))
        .args(["key", "rotate"])
        .env("LIVEOBJECT__DATA_DIR", service.data_dir())
        .current_dir(service.data_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command can be run")
}

/// Measures how long one rotation takes on this machine.
async fn measure_rotation(service: &Service) -> Duration {
    let start = Instant::now();
    let mut command = spawn_rotation(service);
    while command.try_wait().expect("a child process can be waited for").is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn a_rotation_that_is_killed_at_any_moment_leaves_a_password_that_can_be_decrypted() {
    let mut dice = Dice::new("rotation");
    let (_broker, mut service) = connected_with_login(service()).await;
    stop(&mut service).await;
    let whole = measure_rotation(&service).await;
    let (mut unfinished, mut strays) = (0, 0);
    for _ in 0..KILLS {
        let mut command = spawn_rotation(&service);
        // The rotation itself is at the end. The first part only opens the database.
        sleep(whole.mul_f64(0.4) + dice.shorter_than(whole.mul_f64(0.6))).await;
        command.kill().expect("a child process can be killed");
        let status = command.wait().expect("a child process can be waited for");
        unfinished += usize::from(!status.success());
        strays += usize::from(key_files(service.data_dir()).len() > 1);
        service.start().await;
        service.wait_connected(TIMEOUT).await;
        assert_eq!(key_files(service.data_dir()), ["identity.age"]);
        service.kill9().await;
    }
    println!(
        "one rotation takes {whole:?}; of {KILLS} kills, \
         {unfinished} interrupted a rotation and {strays} left two keys"
    );
    assert!(unfinished > 0, "every rotation finished before it was killed");
}
