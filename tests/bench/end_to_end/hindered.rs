//! Whether those who are slow slow others: how many events a second are accepted beside them, and how fast the API
//! answers.

use liveobject_test_support::{Acks, ScriptedBroker};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use crate::{
    service::Running,
    stats::{median, rate},
};

/// Connections of clients that begin a request and never end it, and of streams that nobody reads.
const STUCK: usize = 50;

/// Events a second, accepted by single calls.
#[derive(Debug, Default)]
pub struct Hindered {
    /// Nobody is slow.
    pub free: Vec<f64>,
    /// Beside clients that are stuck within their request.
    pub stuck_clients: Vec<f64>,
    /// Beside streams that nobody reads.
    pub unread_streams: Vec<f64>,
    /// With a broker that acknowledges one event a second.
    pub slow_broker: Vec<f64>,
}

/// Measures each, `rounds` times, one after the other.
pub async fn measure(count: usize, rounds: usize) -> Hindered {
    let mut hindered = Hindered::default();
    for _ in 0..rounds {
        let broker = ScriptedBroker::start().await;
        hindered.free.push(accepted(count, &broker, async |_| Vec::new()).await);
        hindered.stuck_clients.push(accepted(count, &broker, stuck_clients).await);
        hindered.unread_streams.push(accepted(count, &broker, unread_streams).await);
        broker.set_acks(Acks::Withhold);
        hindered.slow_broker.push(accepted(count, &broker, async |_| Vec::new()).await);
    }
    hindered
}

impl Hindered {
    /// The share of the free speed that is left.
    pub fn shares(&self) -> [(&'static str, f64); 3] {
        let free = median(&self.free);
        [
            ("stuck_clients", median(&self.stuck_clients) / free),
            ("unread_streams", median(&self.unread_streams) / free),
            ("slow_broker", median(&self.slow_broker) / free),
        ]
    }
}

async fn accepted(
    count: usize,
    broker: &ScriptedBroker,
    hinder: impl AsyncFn(&Running) -> Vec<TcpStream>,
) -> f64 {
    let running = Running::start().await;
    running.connect(broker.port(), 1).await;
    let _open = hinder(&running).await;
    let started = Instant::now();
    running.post_singles(count).await;
    rate(count, started.elapsed())
}

async fn stuck_clients(running: &Running) -> Vec<TcpStream> {
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 500\r\n\r\n{{\"camera_id\":",
        running.service.token()
    );
    open(running, &head).await
}

async fn unread_streams(running: &Running) -> Vec<TcpStream> {
    let head = format!(
        "GET /api/v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n\r\n",
        running.service.token()
    );
    open(running, &head).await
}

async fn open(running: &Running, request: &str) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..STUCK {
        let mut stream = TcpStream::connect(("127.0.0.1", running.service.port())).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        streams.push(stream);
    }
    streams
}
