//! The configuration of a [`Mosquitto`], and the files that contain it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Listener, Mosquitto, program};

/// More messages than any test queues.
const MAX_QUEUED: u32 = 10_000_000;

/// The log types that are enabled by default; [`MosquittoBuilder::log_packets`] enables all.
const DEFAULT_LOG_TYPES: [&str; 6] =
    ["error", "warning", "notice", "information", "subscribe", "unsubscribe"];

/// Settings for starting a [`Mosquitto`].
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch in the broker's own configuration")]
pub struct MosquittoBuilder {
    users: Vec<(String, String)>,
    pub(super) acl: Option<String>,
    allow_anonymous: bool,
    persistence: bool,
    save_every_change: bool,
    log_packets: bool,
    max_queued_messages: u32,
    lines: Vec<String>,
    pub(super) listeners: Vec<Listener>,
    openssl: Option<String>,
}

impl Default for MosquittoBuilder {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            acl: None,
            allow_anonymous: true,
            persistence: true,
            save_every_change: false,
            log_packets: false,
            max_queued_messages: MAX_QUEUED,
            lines: Vec::new(),
            listeners: Vec::new(),
            openssl: None,
        }
    }
}

impl MosquittoBuilder {
    /// Adds a user. The first user also disables anonymous access, unless [`Self::allow_anonymous`] is called
    /// afterwards.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self.allow_anonymous = false;
        self
    }

    /// Sets whether clients may connect without a user name.
    #[must_use]
    pub fn allow_anonymous(mut self, allow: bool) -> Self {
        self.allow_anonymous = allow;
        self
    }

    /// Sets the ACL file, such as `user ann\ntopic readwrite liveobject/#`. Lines before the first `user`
    /// apply to anonymous clients. MQTT 5 publishers receive a refusal (reason 0x87); messages that a
    /// subscriber is not allowed to read are silently dropped.
    #[must_use]
    pub fn acl(mut self, rules: &str) -> Self {
        self.acl = Some(rules.to_owned());
        self
    }

    /// Sets whether retained messages and sessions are stored in a file across restarts (default: true).
    #[must_use]
    pub fn persistence(mut self, persistence: bool) -> Self {
        self.persistence = persistence;
        self
    }

    /// Writes the persistent state about once a second after a change, so that a killed broker loses at most
    /// the last second. The broker still acknowledges before it writes: a message that a subscriber misses
    /// after a kill may have been lost by the broker, not by the publisher.
    #[must_use]
    pub fn save_every_change(self) -> Self {
        self.line("autosave_on_changes true").line("autosave_interval 1").persistent()
    }

    /// Logs every packet. This is slow under load; the default logs connections, subscriptions and errors.
    #[must_use]
    pub fn log_packets(mut self) -> Self {
        self.log_packets = true;
        self
    }

    /// Limits the unacknowledged messages of each client, in each direction. MQTT 5 clients receive the limit
    /// as the Receive Maximum.
    #[must_use]
    pub fn receive_maximum(self, messages: u16) -> Self {
        self.line(&format!("max_inflight_messages {messages}"))
    }

    /// Sets the highest QoS that publishers may use.
    #[must_use]
    pub fn max_qos(self, qos: u8) -> Self {
        self.line(&format!("max_qos {qos}"))
    }

    /// Delivers with the subscriber's QoS even if the publisher's is lower. A QoS 2 subscriber then sees no
    /// duplicates created by the broker, but no longer sees the QoS that was published.
    #[must_use]
    pub fn upgrade_outgoing_qos(self) -> Self {
        self.line("upgrade_outgoing_qos true")
    }

    /// Limits the payload size in bytes. Publishers do not learn the limit in advance: a larger message is
    /// refused with reason 0x95, which MQTT 5 does not define for PUBACK, so a strict client closes the
    /// connection.
    #[must_use]
    pub fn message_size_limit(self, bytes: u32) -> Self {
        self.line(&format!("message_size_limit {bytes}"))
    }

    /// Limits the packet size in bytes. MQTT 5 clients receive the limit as the Maximum Packet Size.
    #[must_use]
    pub fn max_packet_size(self, bytes: u32) -> Self {
        self.line(&format!("max_packet_size {bytes}"))
    }

    /// Limits the messages queued for a slow or absent subscriber (default: 10 million). 0 means no limit,
    /// but makes mosquitto 2.0.11 disconnect every client whose message it refuses.
    #[must_use]
    pub fn max_queued_messages(mut self, messages: u32) -> Self {
        self.max_queued_messages = messages;
        self
    }

    /// Adds a line to the configuration file.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Adds a listener on its own port: see [`Mosquitto::listener`].
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Adds OpenSSL settings for TLS beyond mosquitto's own, such as `MaxProtocol = TLSv1.2` (see
    /// `config(5ssl)`).
    #[must_use]
    pub fn openssl(mut self, lines: &str) -> Self {
        self.openssl = Some(lines.to_owned());
        self
    }

    /// Starts the broker on a free port.
    ///
    /// # Panics
    ///
    /// Panics with the broker's log if it does not accept connections within 10 s.
    pub async fn start(self) -> Mosquitto {
        Mosquitto::start_with(self).await
    }

    fn persistent(mut self) -> Self {
        self.save_every_change = true;
        self.persistence = true;
        self
    }

    pub(super) fn write_config(&self, dir: &Path, port: u16, ports: &[u16]) -> PathBuf {
        let file = dir.join("mosquitto.conf");
        fs::write(&file, self.config(dir, port, ports)).expect("mosquitto's configuration can be written");
        self.write_acl(dir);
        file
    }

    /// Writes the file for [`MosquittoBuilder::openssl`].
    pub(super) fn write_openssl(&self, dir: &Path) -> Option<PathBuf> {
        let lines = self.openssl.as_ref()?;
        let file = dir.join("openssl.cnf");
        let text = format!(
            "openssl_conf = main\n[main]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n[tls]\n{lines}\n"
        );
        fs::write(&file, text).expect("OpenSSL's configuration can be written");
        Some(file)
    }

    pub(super) fn write_acl(&self, dir: &Path) {
        if let Some(acl) = &self.acl {
            fs::write(dir.join("acl"), acl).expect("mosquitto's ACL file can be written");
        }
    }

    pub(super) fn set_password(&mut self, name: &str, password: &str) {
        let user = self.users.iter_mut().find(|(its_name, _)| its_name == name);
        password.clone_into(&mut user.expect("mosquitto was started with this user").1);
    }

    pub(super) fn write_users(&self, dir: &Path) {
        let file = dir.join("passwords");
        if !self.users.is_empty() {
            fs::write(&file, "").expect("mosquitto's password file can be written");
        }
        for (name, password) in &self.users {
            let output = Command::new(program("mosquitto_passwd"))
                .arg("-b")
                .args([file.as_os_str(), name.as_ref(), password.as_ref()])
                .output()
                .expect("mosquitto_passwd can be run");
            assert!(output.status.success(), "mosquitto_passwd failed: {output:?}");
        }
    }

    fn config(&self, dir: &Path, port: u16, ports: &[u16]) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        };
        // As root, mosquitto would switch to a user that cannot read this directory.
        line(format_args!("user root"));
        line(format_args!("log_dest stderr"));
        line(format_args!("log_timestamp_format %Y-%m-%dT%H:%M:%S"));
        let types: &[&str] = if self.log_packets { &["all"] } else { &DEFAULT_LOG_TYPES };
        for kind in types {
            line(format_args!("log_type {kind}"));
        }
        line(format_args!("max_queued_messages {}", self.max_queued_messages));
        line(format_args!("persistence {}", self.persistence));
        line(format_args!("persistence_location {}/", dir.display()));
        if !self.save_every_change {
            line(format_args!("autosave_interval 0"));
        }
        line(format_args!("listener {port} 127.0.0.1"));
        line(format_args!("allow_anonymous {}", self.allow_anonymous));
        if !self.users.is_empty() {
            line(format_args!("password_file {}/passwords", dir.display()));
        }
        if self.acl.is_some() {
            line(format_args!("acl_file {}/acl", dir.display()));
        }
        for extra in &self.lines {
            line(format_args!("{extra}"));
        }
        for (listener, port) in self.listeners.iter().zip(ports) {
            for own in listener.write(dir, *port) {
                line(format_args!("{own}"));
            }
        }
        text
    }
}
