//! A broker that breaks the protocol: each connection is answered with the misdeed that is set at that moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a connection that stays open is listened to.
const LISTENS: Duration = Duration::from_secs(10);

/// Something that repeats goes on until the client has enough, or so long and so much.
const REPEATS: Duration = Duration::from_secs(3);
const REPEATS_BYTES: usize = 256 * 1024 * 1024;

/// What is done to a client.
#[derive(Clone, Debug)]
pub struct Misdeed {
    /// What it is called in a failed test.
    pub name: &'static str,
    /// Whether the login is accepted first.
    pub after_login: bool,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// What comes then.
    pub then: Then,
}

/// What follows upon the bytes of a [`Misdeed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The connection is closed.
    Close,
    /// It stays open, and nothing is answered.
    Stay,
    /// The bytes are sent again and again.
    Repeat,
    /// The bytes are sent one by one, with pauses.
    Drip,
}

/// Accepts until it is dropped.
#[derive(Debug)]
pub struct Hostile {
    port: u16,
    misdeed: Arc<Mutex<Misdeed>>,
    done: watch::Receiver<usize>,
    _task: JoinSet<()>,
}

impl Hostile {
    /// A broker that begins with this.
    pub async fn start(misdeed: Misdeed) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let misdeed = Arc::new(Mutex::new(misdeed));
        let (sender, done) = watch::channel(0);
        let mut task = JoinSet::new();
        let current = Arc::clone(&misdeed);
        task.spawn(async move {
            let (mut clients, sender) = (JoinSet::new(), Arc::new(sender));
            while let Ok((client, _)) = listener.accept().await {
                let misdeed = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let sender = Arc::clone(&sender);
                clients.spawn(async move {
                    // A client that has enough of it is what is wanted.
                    let _ended = serve(client, misdeed, &sender).await;
                });
            }
        });
        Self { port, misdeed, done, _task: task }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the next connections are answered with.
    pub fn set(&self, misdeed: Misdeed) {
        *self.misdeed.lock().unwrap_or_else(PoisonError::into_inner) = misdeed;
    }

    /// How often a misdeed was done to a client that had asked for a login.
    #[must_use]
    pub fn done(&self) -> usize {
        *self.done.borrow()
    }
}

async fn serve(mut client: TcpStream, misdeed: Misdeed, done: &watch::Sender<usize>) -> std::io::Result<()> {
    let mut told = [0; 4096];
    let read = client.read(&mut told).await?;
    let Some(accepts) = connack(&told[..read]) else { return Ok(()) };
    if misdeed.after_login {
        client.write_all(accepts).await?;
    }
    done.send_modify(|count| *count += 1);
    match misdeed.then {
        Then::Close => {
            client.write_all(&misdeed.bytes).await?;
            return client.shutdown().await;
        }
        Then::Stay => client.write_all(&misdeed.bytes).await?,
        Then::Repeat => {
            let rounds = REPEATS_BYTES / misdeed.bytes.len().max(1);
            let flood = async {
                for _ in 0..rounds {
                    client.write_all(&misdeed.bytes).await?;
                }
                Ok::<(), std::io::Error>(())
            };
            timeout(REPEATS, flood).await.unwrap_or(Ok(()))?;
        }
        Then::Drip => {
            for byte in misdeed.bytes {
                client.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let listens = async { while client.read(&mut told).await.is_ok_and(|n| n > 0) {} };
    let _enough = timeout(LISTENS, listens).await;
    Ok(())
}

/// What accepts this CONNECT, in its version; `None` when it is none.
fn connack(connect: &[u8]) -> Option<&'static [u8]> {
    let name = connect.windows(4).position(|part| part == b"MQTT")?;
    match connect.get(name + 4)? {
        5 => Some(&[0x20, 3, 0, 0, 0]),
        _ => Some(&[0x20, 2, 0, 0]),
    }
}
