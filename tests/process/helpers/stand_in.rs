//! An HTTP server that stands in for another program.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A response: its status with further header lines, and its body.
pub type Response = (&'static str, Vec<u8>);

type Respond = dyn Fn(&str) -> Response + Send + Sync;

/// A server on a loopback port that records the paths of all requests. It stops when it is dropped.
#[derive(Debug)]
pub struct StandIn {
    port: u16,
    paths: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl StandIn {
    /// Starts the server. A request with a path and query gets the response that `respond` returns for them.
    pub async fn start(port: u16, respond: impl Fn(&str) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let respond: Arc<Respond> = Arc::new(respond);
        let paths = Arc::<Mutex<Vec<String>>>::default();
        let mut task = JoinSet::new();
        let recorded = Arc::clone(&paths);
        task.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (recorded, respond) = (Arc::clone(&recorded), Arc::clone(&respond));
                clients.spawn(async move {
                    // A client that closes early is not an error of the test.
                    let _served = serve(client, &recorded, &*respond).await;
                });
            }
        });
        Self { port, paths, _task: task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the paths of the requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(client: TcpStream, recorded: &Mutex<Vec<String>>, respond: &Respond) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        client.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    client.read_exact(&mut vec![0; length]).await?;
    let (head, body) = respond(&path);
    recorded.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
        .into_bytes();
    client.write_all(&[head, body].concat()).await?;
    client.shutdown().await
}
