//! The baseline: a bare publisher that uses the same MQTT client. It stores nothing, but it waits for the
//! broker's acknowledgements and matches their packet ids.

use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, PublishOptions,
    mqttbytes::{QoS, v5::Packet},
};
use tokio::time::Instant;

use crate::events;

/// The service's batch size.
const BATCH: usize = 64;

/// A connected publisher.
pub struct Publisher {
    client: AsyncClient,
    events: EventLoop,
    window: usize,
    /// Whether each packet id is in flight.
    in_flight: Vec<bool>,
}

/// Returns the options of a client of the broker on this port, without Nagle's algorithm.
pub fn options(client_id: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, ("127.0.0.1", port));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    options
}

impl Publisher {
    pub async fn connect(port: u16, window: u16) -> Self {
        let mut options = options("bare", port);
        options.set_clean_start(true);
        options.set_max_request_batch(BATCH);
        options.set_read_batch_size(BATCH);
        options.set_outgoing_inflight_upper_limit(window);
        let (client, mut events) = AsyncClient::builder(options).capacity(usize::from(window) * 2).build();
        while !matches!(
            events.poll().await.expect("the broker accepts the connection"),
            Event::Incoming(Packet::ConnAck(_))
        ) {}
        Self { client, events, window: window.into(), in_flight: vec![false; 65_536] }
    }

    fn publish(&self, number: usize, qos: QoS) {
        let (topic, payload) = (events::topic(number), events::bare_payload(number));
        let sent = self.client.try_publish(topic, payload, PublishOptions::new(qos));
        sent.expect("the queue is twice as long as the window");
    }

    /// Publishes this many events as fast as possible. Returns the time until the last one was acknowledged,
    /// or written in the case of QoS 0.
    pub async fn publish_all(&mut self, count: usize, qos: QoS) -> Duration {
        let started = Instant::now();
        let (mut submitted, mut done) = (0, 0);
        while done < count {
            // The window is refilled in batches, because single events would also be written one by one.
            if submitted - done <= self.window.saturating_sub(BATCH) {
                let free = self.window - (submitted - done);
                for number in submitted..(submitted + free).min(count) {
                    self.publish(number, qos);
                }
                submitted = (submitted + free).min(count);
            }
            done += usize::from(self.next().await);
        }
        started.elapsed()
    }

    /// Waits for the next event of the connection. Returns whether it completes a message.
    async fn next(&mut self) -> bool {
        match self.events.poll().await.expect("the connection is stable") {
            Event::Outgoing(Outgoing::Publish(0)) => true,
            Event::Outgoing(Outgoing::Publish(id)) => {
                self.in_flight[usize::from(id)] = true;
                false
            }
            Event::Incoming(Packet::PubAck(ack)) => self.complete(ack.pkid),
            Event::Incoming(Packet::PubComp(comp)) => self.complete(comp.pkid),
            _ => false,
        }
    }

    /// Marks a packet id as no longer in flight. Returns whether it was in flight.
    fn complete(&mut self, id: u16) -> bool {
        std::mem::take(&mut self.in_flight[usize::from(id)])
    }

    /// Publishes these events at a steady pace, one per `every`. Returns the time at which each was sent.
    pub async fn publish_paced(&mut self, numbers: std::ops::Range<usize>, every: Duration) -> Vec<Instant> {
        let mut sent_at = Vec::new();
        let mut clock = tokio::time::interval(every);
        let (mut done, count) = (0, numbers.len());
        let mut numbers = numbers;
        while done < count {
            tokio::select! {
                _ = clock.tick(), if !numbers.is_empty() => {
                    sent_at.push(Instant::now());
                    self.publish(numbers.next().expect("the range is not empty"), QoS::AtLeastOnce);
                }
                is_complete = self.next() => done += usize::from(is_complete),
            }
        }
        sent_at
    }
}
