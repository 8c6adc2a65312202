//! The effect of slow clients and a slow broker on others: the number of events per second that the service
//! accepts from a normal client in the meantime.

use liveobject_test_support::{Acks, ScriptedBroker};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    events::SINGLES,
    service::Running,
    stats::{median, rate},
    tls::Links,
};

/// Number of connections that send half a request, or that request a stream and do not read it.
const STUCK: usize = 50;

/// Events per second that were accepted in single requests.
#[derive(Debug, Default)]
pub struct SlowPeers {
    /// Without slow clients or a slow broker.
    pub undisturbed: Vec<f64>,
    /// With clients that are stuck in the middle of a request.
    pub stuck_clients: Vec<f64>,
    /// With clients that request the stream and do not read it.
    pub unread_streams: Vec<f64>,
    /// With a broker that acknowledges nothing.
    pub slow_broker: Vec<f64>,
}

/// Measures all cases in turn, `rounds` times.
pub async fn measure(count: usize, rounds: usize) -> SlowPeers {
    let mut slow_peers = SlowPeers::default();
    for _ in 0..rounds {
        let broker = ScriptedBroker::start().await;
        slow_peers.undisturbed.push(accept_rate(count, &broker, async |_| Vec::new()).await);
        slow_peers.stuck_clients.push(accept_rate(count, &broker, stuck_clients).await);
        slow_peers.unread_streams.push(accept_rate(count, &broker, unread_streams).await);
        broker.set_acks(Acks::Withhold);
        slow_peers.slow_broker.push(accept_rate(count, &broker, async |_| Vec::new()).await);
    }
    slow_peers
}

impl SlowPeers {
    /// Returns the ratio of each rate to the undisturbed rate.
    pub fn ratios(&self) -> [(&'static str, f64); 3] {
        let undisturbed = median(&self.undisturbed);
        [
            ("stuck_clients", median(&self.stuck_clients) / undisturbed),
            ("unread_streams", median(&self.unread_streams) / undisturbed),
            ("slow_broker", median(&self.slow_broker) / undisturbed),
        ]
    }
}

async fn accept_rate(
    count: usize,
    broker: &ScriptedBroker,
    connect_slow_clients: impl AsyncFn(&Running<'_>) -> Vec<TcpStream>,
) -> f64 {
    let running = Running::connected(Links::to_port(broker.port()), 1).await;
    let _open = connect_slow_clients(&running).await;
    rate(count, running.post_from(SINGLES, count).await)
}

async fn stuck_clients(running: &Running<'_>) -> Vec<TcpStream> {
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 500\r\n\r\n{{\"camera_id\":",
        running.service.token()
    );
    open_connections(running, &head).await
}

async fn unread_streams(running: &Running<'_>) -> Vec<TcpStream> {
    let head = format!(
        "GET /api/v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n\r\n",
        running.service.token()
    );
    open_connections(running, &head).await
}

async fn open_connections(running: &Running<'_>, request: &str) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..STUCK {
        let stream = TcpStream::connect(("127.0.0.1", running.service.port())).await;
        let mut stream = stream.expect("the service listens");
        stream.write_all(request.as_bytes()).await.expect("the service reads");
        streams.push(stream);
    }
    streams
}
