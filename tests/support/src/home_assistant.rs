//! A stand-in for Home Assistant's Supervisor: the endpoint that returns the MQTT broker.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The token that the Supervisor accepts.
pub const SUPERVISOR_TOKEN: &str = "token-of-the-app-0123456789";

/// What the Supervisor answers.
#[derive(Clone, Debug)]
pub enum SupervisorReply {
    /// This broker.
    Service(Value),
    /// No app provides MQTT.
    NoService,
    /// These bytes.
    Bytes(Vec<u8>),
    /// It does not end its response.
    Endless,
    /// Nothing.
    Silence,
}

impl SupervisorReply {
    /// Returns the answer about a broker on this loopback port.
    #[must_use]
    pub fn broker(port: u16, username: &str, password: &str) -> Self {
        Self::Service(json!({
            "addon": "core_mosquitto", "host": "127.0.0.1", "port": port, "ssl": false, "username": username,
            "password": password, "protocol": "3.1.1",
        }))
    }
}

#[derive(Debug)]
struct State {
    reply: SupervisorReply,
    asked: usize,
}

/// The Supervisor. It stops when it is dropped.
#[derive(Debug)]
pub struct Supervisor {
    state: Arc<Mutex<State>>,
    _task: JoinSet<()>,
}

impl Supervisor {
    /// Starts it on this loopback port.
    ///
    /// # Panics
    ///
    /// Panics if the port is in use.
    pub async fn start(port: u16, reply: SupervisorReply) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free");
        let state = Arc::new(Mutex::new(State { reply, asked: 0 }));
        let mut task = JoinSet::new();
        let shared = Arc::clone(&state);
        task.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                clients.spawn(async move {
                    // A client that closes early is not an error of the test.
                    let _served = serve(client, &shared).await;
                });
            }
        });
        Self { state, _task: task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the answer.
    pub fn set_reply(&self, reply: SupervisorReply) {
        self.state().reply = reply;
    }

    /// Returns how often it was asked with the correct token.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state().asked
    }
}

async fn serve(mut client: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request);
    let is_correct = request.starts_with("GET /services/mqtt HTTP/1.")
        && request.contains(&format!("\r\nAuthorization: Bearer {SUPERVISOR_TOKEN}\r\n"));
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked += usize::from(is_correct);
        state.reply.clone()
    };
    let response = |status: &str, body: Value| {
        let body = body.to_string();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let bytes = match reply {
        _ if !is_correct => response("401 Unauthorized", json!({})),
        SupervisorReply::Service(service) => response("200 OK", json!({ "result": "ok", "data": service })),
        SupervisorReply::NoService => {
            response("400 Bad Request", json!({ "result": "error", "message": "not enabled" }))
        }
        SupervisorReply::Bytes(bytes) => bytes,
        SupervisorReply::Endless => loop {
            client.write_all(&[b' '; 4096]).await?;
        },
        SupervisorReply::Silence => {
            client.read_buf(&mut Vec::new()).await?;
            return Ok(());
        }
    };
    client.write_all(&bytes).await?;
    client.shutdown().await
}
