//! A subscriber as any other: prints every message of liveobject as it comes, Home Assistant's discovery among them, and notes which events did.

use std::{io::IsTerminal as _, time::Duration};

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

use super::{console, ledger::Ledger};

const TOPICS: [&str; 2] = ["liveobject/#", "homeassistant/device/#"];

/// Shorter than the service's shortest wait: after an outage, the subscriber is there first.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);

const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub struct Subscriber {
    port: u16,
    ledger: Ledger,
    client: Option<AsyncClient>,
    subscribed: bool,
    color: bool,
}

impl Subscriber {
    /// Subscribes to the broker on this port.
    pub fn new(port: u16, ledger: Ledger) -> Self {
        Self { port, ledger, client: None, subscribed: false, color: std::io::stdout().is_terminal() }
    }

    fn print(&self, message: &Publish) {
        let topic = String::from_utf8_lossy(&message.topic);
        println!("  {}", console::line(Local::now(), &topic, &message.payload, message.retain, self.color));
        if let Ok(Told { seq, late }) = serde_json::from_slice(&message.payload) {
            self.ledger.arrived(seq, late);
        }
    }
}

/// What the ledger needs to know of an event.
#[derive(Deserialize)]
struct Told {
    seq: i64,
    #[serde(default)]
    late: bool,
}

/// Polls for ever; the client reconnects by itself.
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
                    tracing::error!("the demo's subscriber could not subscribe");
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

/// Is the subscriber there?
#[derive(actix::Message)]
#[rtype(result = "bool")]
struct IsSubscribed;

impl Handler<IsSubscribed> for Subscriber {
    type Result = bool;

    fn handle(&mut self, _: IsSubscribed, _: &mut Self::Context) -> bool {
        self.subscribed
    }
}

/// Returns when the broker has granted the subscription.
pub async fn wait_until_subscribed(subscriber: &Addr<Subscriber>) -> anyhow::Result<()> {
    let granted = async {
        while !subscriber.send(IsSubscribed).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, actix::MailboxError>(())
    };
    tokio::time::timeout(SUBSCRIBED_WITHIN, granted)
        .await
        .context("the demo's broker does not answer its subscriber")??;
    Ok(())
}
