//! An MQTT subscriber: prints the events, or all messages of liveobject, including Home Assistant discovery, and
//! records the events.

use std::time::Duration;

use actix::{Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler, StreamHandler};
use anyhow::Context as _;
use chrono::Local;
use futures_util::stream;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, Publish, SubscribeFilter},
    },
};
use serde::Deserialize;

use super::{console::Style, ledger::Ledger};
use crate::output::{self, demo_line};

const TOPICS: [&str; 2] = ["liveobject/#", "homeassistant/device/#"];

/// Shorter than the service's shortest backoff, so that the subscriber reconnects first after an outage.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);

const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The demo's subscriber.
pub struct Subscriber {
    port: u16,
    ledger: Ledger,
    client: Option<AsyncClient>,
    subscribed: bool,
    style: Style,
}

impl Subscriber {
    /// Returns a subscriber for the broker on this port. It connects when the actor starts.
    pub fn new(port: u16, ledger: Ledger, shows_all: bool) -> Self {
        let style = Style { shows_all, has_color: output::has_color() };
        Self { port, ledger, client: None, subscribed: false, style }
    }

    fn print(&self, message: &Publish) {
        let topic = String::from_utf8_lossy(&message.topic);
        if let Some(line) = self.style.line(Local::now(), &topic, &message.payload, message.retain) {
            demo_line(format_args!("  {line}"));
        }
        if let Ok(Arrival { seq, late }) = serde_json::from_slice(&message.payload) {
            self.ledger.record_arrived(seq, late);
        }
    }
}

/// The fields of an event that the ledger needs.
#[derive(Deserialize)]
struct Arrival {
    seq: i64,
    #[serde(default)]
    late: bool,
}

/// Returns the events of the connection. The stream never ends; after an error it reconnects.
fn events(event_loop: EventLoop) -> impl stream::Stream<Item = Result<Event, ConnectionError>> {
    stream::unfold(Box::new(event_loop), |mut event_loop| async {
        let event = event_loop.poll().await;
        if event.is_err() {
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
        Some((event, event_loop))
    })
}

impl Actor for Subscriber {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let mut options = MqttOptions::new("demo-subscriber", ("127.0.0.1", self.port));
        options.set_clean_start(true);
        let (client, event_loop) = AsyncClient::builder(options).capacity(16).build();
        self.client = Some(client);
        ctx.add_stream(events(event_loop));
    }
}

impl StreamHandler<Result<Event, ConnectionError>> for Subscriber {
    fn handle(&mut self, event: Result<Event, ConnectionError>, ctx: &mut Self::Context) {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let filters = TOPICS.map(|topic| SubscribeFilter::new(topic, QoS::ExactlyOnce));
                let subscribed = self.client.as_ref().map(|client| client.try_subscribe_many(filters));
                if !matches!(subscribed, Some(Ok(()))) {
                    tracing::error!("the demo subscriber cannot subscribe");
                    ctx.stop();
                }
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => self.subscribed = true,
            Ok(Event::Incoming(Packet::Publish(message))) => self.print(&message),
            Ok(_) => {}
            Err(_) => self.subscribed = false,
        }
    }
}

/// From `wait_until_subscribed`: returns whether the subscription is active.
#[derive(actix::Message)]
#[rtype(result = "bool")]
struct IsSubscribed;

impl Handler<IsSubscribed> for Subscriber {
    type Result = bool;

    fn handle(&mut self, _: IsSubscribed, _: &mut Self::Context) -> bool {
        self.subscribed
    }
}

/// Waits until the broker has granted the subscription.
pub async fn wait_until_subscribed(subscriber: &Addr<Subscriber>) -> anyhow::Result<()> {
    let granted = async {
        while !subscriber.send(IsSubscribed).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, actix::MailboxError>(())
    };
    tokio::time::timeout(SUBSCRIBE_TIMEOUT, granted)
        .await
        .context("the demo broker does not respond to the subscriber")??;
    Ok(())
}
