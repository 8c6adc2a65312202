//! An additional listener of a broker, alongside its plain one: TLS, WebSockets, or both.

use std::fs;
use std::path::Path;

use crate::pki::Identity;

/// The configuration of an additional listener.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    identity: Option<Identity>,
    clients: Option<String>,
    is_websocket: bool,
    lines: Vec<String>,
}

impl Listener {
    /// Returns a TLS listener that presents this certificate.
    #[must_use]
    pub fn tls(identity: &Identity) -> Self {
        Self { identity: Some(identity.clone()), ..Self::default() }
    }

    /// Returns a WebSocket listener without TLS.
    #[must_use]
    pub fn websockets() -> Self {
        Self::default().and_websockets()
    }

    /// Enables WebSockets.
    #[must_use]
    pub fn and_websockets(mut self) -> Self {
        self.is_websocket = true;
        self
    }

    /// Requires client certificates issued by this authority (PEM).
    #[must_use]
    pub fn for_clients_of(mut self, authority: &str) -> Self {
        self.clients = Some(authority.to_owned());
        self
    }

    /// Adds a line to the listener's configuration.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Writes the files that the listener needs, and returns its configuration lines.
    pub(super) fn write(&self, dir: &Path, port: u16) -> Vec<String> {
        let mut lines = vec![format!("listener {port} 127.0.0.1")];
        let mut file = |key: &str, name: &str, text: &str| {
            let file = dir.join(format!("{port}.{name}"));
            fs::write(&file, text).expect("a file for mosquitto can be written");
            lines.push(format!("{key} {}", file.display()));
        };
        if let Some(Identity { certificate, key }) = &self.identity {
            file("certfile", "crt", certificate);
            file("keyfile", "key", key);
        }
        if let Some(clients) = &self.clients {
            file("cafile", "ca", clients);
            lines.push("require_certificate true".to_owned());
        }
        if self.is_websocket {
            lines.push("protocol websockets".to_owned());
        }
        lines.extend(self.lines.iter().cloned());
        lines
    }
}
