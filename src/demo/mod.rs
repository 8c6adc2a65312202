//! `liveobject demo`: the whole service on one terminal, with nothing to install.
//!
//! The demo runs the real service with a temporary data directory, an MQTT broker in the same process, three
//! simulated cameras with a real motion classifier, and a subscriber that prints what it receives, including
//! Home Assistant discovery. After a while, it stops the broker for a few seconds, to show that events are
//! stored and delivered later.

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
mod summary;
mod watcher;

use std::{net::TcpListener, path::Path, time::Duration};

use actix::{Actor as _, Arbiter};
use anyhow::Context as _;
use liveobject_actors::Handle;
use serde_json::json;

use self::{broker::Broker, camera::Camera, classifier::Classifier, ledger::Ledger, subscriber::Subscriber};
use crate::{
    app::{App, Signals},
    cli::Exit,
    config::{Config, DEFAULT_PORT, InitialSettings},
    output::{self, demo_line},
    telemetry::{self, Log, LogFormat},
};

/// Runs the demo until Ctrl-C, or for `duration`. Prints the events, or all messages.
pub async fn run(duration: Option<Duration>, shows_all: bool) -> anyhow::Result<Exit> {
    let dir = tempfile::tempdir()?;
    let mut broker = Broker::start()?;
    let config = config(dir.path(), broker.port())?;
    telemetry::init(&config.log)?;
    let app = App::start(&config).await?;
    print_introduction(&app, broker.port(), shows_all);

    let ledger = Ledger::default();
    let subscriber = Subscriber::new(broker.port(), ledger.clone(), shows_all).start();
    subscriber::wait_until_subscribed(&subscriber).await?;
    let handle = app.service().context("the demo has its own database")?.handle();
    let arbiters = start_cameras(&handle, &ledger);

    let mut signals = Signals::new()?;
    let story = async {
        tokio::select! {
            _ = signals.stop() => demo_line(format_args!("\nStopping.")),
            () = output::closed() => {}
            () = story::run(duration, &mut broker, &handle) => {}
        }
        for arbiter in &arbiters {
            arbiter.stop();
        }
        story::wait_until_delivered(&mut broker, &handle, &ledger).await;
        signals
    };
    let exit = Box::pin(app.run_until(story)).await?;
    demo_line(format_args!("\nEvents: {ledger}"));
    Ok(if ledger.missing() == 0 { exit } else { Exit::Failed })
}

fn config(data_dir: &Path, broker_port: u16) -> anyhow::Result<Config> {
    let mqtt = json!({"enabled": true, "broker_host": "127.0.0.1", "broker_port": broker_port});
    let mut config = Config {
        data_dir: data_dir.to_owned(),
        mqtt: Some(InitialSettings::new(mqtt)?),
        ..Config::default()
    };
    let is_free = TcpListener::bind(("127.0.0.1", DEFAULT_PORT)).is_ok();
    let port = if is_free { DEFAULT_PORT } else { 0 };
    config.http.bind = vec![([127, 0, 0, 1], port).into()];
    // The terminal already shows what happens.
    config.log = Log { format: LogFormat::Text, filter: "error,rmqtt=off".to_owned() };
    Ok(config)
}

fn print_introduction(app: &App, broker_port: u16, shows_all: bool) {
    let (url, admin) = (app.public_url(), app.token().current());
    let token = admin.expose();
    demo_line(format_args!(
        "liveobject {}: the real service with three simulated cameras and a built-in MQTT broker.",
        env!("CARGO_PKG_VERSION")
    ));
    demo_line(format_args!(""));
    for (number, link) in app.sign_in_links().unwrap_or_default().0.iter().enumerate() {
        demo_line(format_args!("  {}  {link}", if number == 0 { "Page  " } else { "or    " }));
    }
    demo_line(format_args!("  API     {url}/api/v1   (described in {url}/openapi.json)"));
    demo_line(format_args!("  Token   {token}"));
    demo_line(format_args!("  Broker  mqtt://127.0.0.1:{broker_port}"));
    demo_line(format_args!(""));
    demo_line(format_args!("Press Ctrl-C to stop. To send your own event, run this in another terminal:"));
    demo_line(format_args!(""));
    demo_line(format_args!("  curl {url}/api/v1/events -H 'Authorization: Bearer {token}' \\"));
    demo_line(format_args!(
        "    -d '{{\"camera_id\": \"my_camera\", \"description\": \"Hello from curl\"}}'"
    ));
    demo_line(format_args!(""));
    if shows_all {
        demo_line(format_args!("MQTT messages on liveobject/# and homeassistant/device/#:"));
    } else {
        demo_line(format_args!(
            "Events that an MQTT subscriber receives (with --all, also all other messages):"
        ));
    }
    demo_line(format_args!(""));
}

/// Starts the cameras. Each has its own thread, so that its pictures do not slow down the service.
fn start_cameras(handle: &Handle, ledger: &Ledger) -> Vec<Arbiter> {
    Camera::ALL
        .into_iter()
        .map(|camera| {
            let arbiter = Arbiter::new();
            let (publish, ledger) = (handle.publish.clone(), ledger.clone());
            Classifier::start_in_arbiter(&arbiter.handle(), move |_| {
                Classifier::new(camera, publish, ledger)
            });
            arbiter
        })
        .collect()
}
