//! `liveobject demo`: everything on one terminal, with nothing installed.
//!
//! The real service with a temporary data directory, an MQTT broker in this process, three simulated cameras whose
//! pictures go through a real motion classifier, and a subscriber that prints what arrives, the announcements for Home
//! Assistant among it. Halfway the broker is stopped
//! for some seconds, to show that the events wait and then arrive.

#![expect(clippy::print_stdout, reason = "the demo tells its story on the terminal")]

mod blob;
mod broker;
mod camera;
mod classifier;
mod console;
mod ledger;
mod motion;
mod retain;
mod scene;
mod shape;
mod story;
mod subscriber;
mod watcher;
mod words;

use std::{net::TcpListener, path::Path, time::Duration};

use actix::{Actor as _, Arbiter};
use serde_json::json;

use self::{broker::Broker, camera::Camera, classifier::Classifier, ledger::Ledger, subscriber::Subscriber};
use crate::{
    app::{App, Signals},
    cli::Exit,
    config::{Config, FirstSettings, Log, LogFormat},
    telemetry,
};

const PREFERRED_PORT: u16 = 8080;

/// Runs the demo, until Ctrl-C or for so long.
pub async fn run(duration: Option<Duration>) -> anyhow::Result<Exit> {
    let dir = tempfile::tempdir()?;
    let mut broker = Broker::start()?;
    let config = config(dir.path(), broker.port())?;
    telemetry::init(&config.log)?;
    let app = App::start(&config).await?;
    introduce(&app, broker.port());

    let ledger = Ledger::default();
    let subscriber = Subscriber::new(broker.port(), ledger.clone()).start();
    subscriber::wait_until_subscribed(&subscriber).await?;
    let arbiters = start_cameras(&app, &ledger);

    let handle = app.service.handle();
    let mut signals = Signals::new()?;
    let story = async {
        tokio::select! {
            _ = signals.next() => println!("\nStopping."),
            () = story::tell(duration, &mut broker, &handle) => {}
        }
        for arbiter in &arbiters {
            arbiter.stop();
        }
        story::wait_until_delivered(&mut broker, &handle, &ledger).await;
        signals
    };
    let exit = app.run_until(story).await?;
    println!("\n{ledger}");
    Ok(if ledger.lost() == 0 { exit } else { Exit::Failed })
}

fn config(data_dir: &Path, broker_port: u16) -> anyhow::Result<Config> {
    let mqtt = json!({"enabled": true, "broker_host": "127.0.0.1", "broker_port": broker_port});
    let mut config = Config {
        data_dir: data_dir.to_owned(),
        mqtt: Some(FirstSettings::check(mqtt)?),
        ..Config::default()
    };
    let is_free = TcpListener::bind(("127.0.0.1", PREFERRED_PORT)).is_ok();
    let port = if is_free { PREFERRED_PORT } else { 0 };
    config.http.bind = vec![([127, 0, 0, 1], port).into()];
    // The story is told on the terminal; the log would only repeat it.
    config.log = Log { format: LogFormat::Text, filter: "error,rmqtt=off".to_owned() };
    Ok(config)
}

fn introduce(app: &App, broker_port: u16) {
    let (url, token) = (&app.public_url, app.token.expose());
    println!(
        "liveobject {}: three simulated cameras, a broker, and the real service.",
        env!("CARGO_PKG_VERSION")
    );
    println!();
    println!("  page    {}", app.sign_in_link());
    println!("  API     {url}/api/v1   (all of it: {url}/openapi.json)");
    println!("  token   {token}");
    println!("  broker  mqtt://127.0.0.1:{broker_port}");
    println!();
    println!("Send an event of your own from another terminal:");
    println!();
    println!("  curl {url}/api/v1/events -H 'Authorization: Bearer {token}' \\");
    println!("    -d '{{\"camera_id\": \"my_camera\", \"description\": \"Hello from curl\"}}'");
    println!();
    println!("What a subscriber of liveobject/# and homeassistant/device/# receives:");
    println!();
}

/// Each camera has a thread of its own: its pictures do not hold the service up.
fn start_cameras(app: &App, ledger: &Ledger) -> Vec<Arbiter> {
    Camera::ALL
        .into_iter()
        .map(|camera| {
            let arbiter = Arbiter::new();
            let (publish, ledger) = (app.service.handle().publish, ledger.clone());
            Classifier::start_in_arbiter(&arbiter.handle(), move |_| {
                Classifier::new(camera, publish, ledger)
            });
            arbiter
        })
        .collect()
}
