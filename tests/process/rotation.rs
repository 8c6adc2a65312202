//! `key rotate`: a new key for every secret, whenever it is killed.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use liveobject_test_support::{Mosquitto, Service};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::helpers::{Dice, SOON, event, mode, names, service};

const PASSWORD: &str = "correct horse battery staple";
const KILLS: usize = 20;

async fn connected() -> (Mosquitto, Service) {
    let broker = Mosquitto::builder().user("ann", PASSWORD).start().await;
    let service = service().start().await;
    let settings = json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "username": "ann", "password": PASSWORD,
    });
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_connected(SOON).await;
    (broker, service)
}

async fn stop(service: &mut Service) {
    service.sigterm();
    assert_eq!(service.wait().await, 0);
}

fn keys(directory: &Path) -> Vec<String> {
    names(directory).into_iter().filter(|name| name.starts_with("identity")).collect()
}

#[tokio::test]
async fn a_rotated_key_reads_the_password_and_the_old_one_is_gone() {
    let (_broker, mut service) = connected().await;
    stop(&mut service).await;
    let file = service.data_dir().join("identity.age");
    let before = fs::read(&file).expect("it can be read");
    let finished = service.run(&["key", "rotate"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.stdout.contains("re-encrypted 1 secret with it"), "{finished:?}");
    assert_ne!(fs::read(&file).expect("it can be read"), before);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(keys(service.data_dir()), ["identity.age"]);
    service.start().await;
    service.wait_connected(SOON).await;
}

#[tokio::test]
async fn a_key_is_not_rotated_under_a_running_service() {
    let (_broker, service) = connected().await;
    let file = service.data_dir().join("identity.age");
    let before = fs::read(&file).expect("it can be read");
    let finished = service.run(&["key", "rotate"]).await;
    assert_eq!(finished.code, 1, "{finished:?}");
    for part in ["another liveobject uses the data directory", &service.data_dir().display().to_string()] {
        assert!(finished.stderr.contains(part), "{finished:?}");
    }
    assert_eq!(fs::read(&file).expect("it can be read"), before);
    let _ = service.post_event(&event("undisturbed")).await.expect(202);
    service.wait_until_delivered("undisturbed", SOON).await;
}

fn rotate(service: &Service) -> Child {
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

/// How long one rotation takes here.
async fn duration(service: &Service) -> Duration {
    let start = Instant::now();
    let mut command = rotate(service);
    while command.try_wait().expect("it can be waited for").is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn a_rotation_that_is_killed_at_any_moment_leaves_a_password_that_can_be_read() {
    let mut dice = Dice::new("rotation");
    let (_broker, mut service) = connected().await;
    stop(&mut service).await;
    let whole = duration(&service).await;
    let (mut unfinished, mut strays) = (0, 0);
    for _ in 0..KILLS {
        let mut command = rotate(&service);
        // The interesting part is at the end: what comes before only opens the database.
        sleep(whole.mul_f64(0.4) + dice.shorter_than(whole.mul_f64(0.6))).await;
        command.kill().expect("it can be killed");
        let status = command.wait().expect("it can be waited for");
        unfinished += usize::from(!status.success());
        strays += usize::from(keys(service.data_dir()).len() > 1);
        service.start().await;
        service.wait_connected(SOON).await;
        assert_eq!(keys(service.data_dir()), ["identity.age"]);
        service.kill9().await;
    }
    println!(
        "{whole:?} a rotation; of {KILLS} killed ones {unfinished} were unfinished, {strays} between two keys"
    );
    assert!(unfinished > 0, "no kill came in time");
}
