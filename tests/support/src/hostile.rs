//! A broker that breaks the protocol: it attacks each connection with the attack that is configured at that
//! moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long the broker keeps reading from a connection that stays open.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A repeated attack ends when the client disconnects, or at this duration or size, whichever comes first.
const REPEAT_LIMIT: Duration = Duration::from_secs(3);
const REPEAT_LIMIT_BYTES: usize = 256 * 1024 * 1024;

/// An attack on a client.
#[derive(Clone, Debug)]
pub struct Attack {
    /// The name that a failed test reports.
    pub name: &'static str,
    /// Whether to accept the login first.
    pub after_login: bool,
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// What to do after sending them.
    pub then: Then,
}

/// What follows the bytes of an [`Attack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Close the connection.
    Close,
    /// Keep the connection open and send nothing more.
    Stay,
    /// Send the bytes again and again.
    Repeat,
    /// Send the bytes one by one, with pauses.
    Drip,
}

/// A hostile broker. It accepts connections until it is dropped.
#[derive(Debug)]
pub struct HostileBroker {
    port: u16,
    attack: Arc<Mutex<Attack>>,
    attacked: watch::Receiver<usize>,
    _task: JoinSet<()>,
}

impl HostileBroker {
    /// Starts a broker that uses this attack first.
    pub async fn start(attack: Attack) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let attack = Arc::new(Mutex::new(attack));
        let (sender, attacked) = watch::channel(0);
        let mut task = JoinSet::new();
        let current = Arc::clone(&attack);
        task.spawn(async move {
            let (mut clients, sender) = (JoinSet::new(), Arc::new(sender));
            while let Ok((client, _)) = listener.accept().await {
                let attack = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let sender = Arc::clone(&sender);
                clients.spawn(async move {
                    // A client that gives up on the connection is the expected outcome.
                    let _ended = serve(client, attack, &sender).await;
                });
            }
        });
        Self { port, attack, attacked, _task: task }
    }

    /// Returns the port on which the broker listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the attack for future connections.
    pub fn set_attack(&self, attack: Attack) {
        *self.attack.lock().unwrap_or_else(PoisonError::into_inner) = attack;
    }

    /// Returns how many clients were attacked after they had sent a CONNECT.
    #[must_use]
    pub fn attacked(&self) -> usize {
        *self.attacked.borrow()
    }
}

async fn serve(
    mut client: TcpStream,
    attack: Attack,
    attacked: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let read = client.read(&mut buffer).await?;
    let Some(connack_bytes) = connack(&buffer[..read]) else { return Ok(()) };
    if attack.after_login {
        client.write_all(connack_bytes).await?;
    }
    attacked.send_modify(|count| *count += 1);
    match attack.then {
        Then::Close => {
            client.write_all(&attack.bytes).await?;
            return client.shutdown().await;
        }
        Then::Stay => client.write_all(&attack.bytes).await?,
        Then::Repeat => {
            let rounds = REPEAT_LIMIT_BYTES / attack.bytes.len().max(1);
            let flood = async {
                for _ in 0..rounds {
                    client.write_all(&attack.bytes).await?;
                }
                Ok::<(), std::io::Error>(())
            };
            timeout(REPEAT_LIMIT, flood).await.unwrap_or(Ok(()))?;
        }
        Then::Drip => {
            for byte in attack.bytes {
                client.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let drain = async { while client.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    let _finished = timeout(LISTEN_TIMEOUT, drain).await;
    Ok(())
}

/// Returns the CONNACK that accepts this CONNECT in its version, or `None` if the bytes are not a CONNECT.
fn connack(connect: &[u8]) -> Option<&'static [u8]> {
    let name = connect.windows(4).position(|part| part == b"MQTT")?;
    match connect.get(name + 4)? {
        5 => Some(&[0x20, 3, 0, 0, 0]),
        _ => Some(&[0x20, 2, 0, 0]),
    }
}
