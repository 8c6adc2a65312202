//! Asks Home Assistant's Supervisor for the MQTT broker.

use std::{convert::Infallible, io, time::Duration};

use liveobject_actors::{
    Handle,
    domain::settings::provided::{ProvidedBroker, Provision},
    messages::{config::ProvideBroker, supervisor::GetStatus},
};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::schedule::Schedule;
use crate::{config::Config, http_1_0};

/// How long the Supervisor may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of its response in bytes.
const MAX_RESPONSE: usize = 64 * 1024;
/// How often the schedule is checked.
const POLL: Duration = Duration::from_secs(1);

/// Asks the Supervisor for the broker, and again when it may have changed. The answer is kept in memory only.
#[derive(Debug)]
pub struct BrokerInquiry {
    /// `host:port` of the Supervisor.
    supervisor: String,
    token: Option<SecretString>,
}

impl BrokerInquiry {
    /// Returns the inquiry, or `None` if the broker is chosen in the settings.
    pub fn of(config: &Config) -> Option<Self> {
        let home_assistant = &config.home_assistant;
        config.mqtt_source.is_supervisor().then(|| Self {
            supervisor: home_assistant.supervisor.clone(),
            token: home_assistant.token.clone(),
        })
    }

    /// Asks once. Takes five seconds at most.
    pub async fn ask(&self) -> Provision {
        let Some(token) = &self.token else {
            let reason =
                "cannot be asked, because SUPERVISOR_TOKEN is not set (only apps of Home Assistant have it)";
            return Provision::Unknown(reason.to_owned());
        };
        let reason = match timeout(TIMEOUT, self.get(token)).await {
            Ok(Ok(response)) => return read(&response).unwrap_or_else(Provision::Unknown),
            Ok(Err(error)) => format!("cannot be reached at {} ({error})", self.supervisor),
            Err(_) => format!("has not answered within {} s", TIMEOUT.as_secs()),
        };
        Provision::Unknown(reason)
    }

    /// Returns the response. One that is too long is cut one byte above [`MAX_RESPONSE`].
    async fn get(&self, token: &SecretString) -> io::Result<Zeroizing<Vec<u8>>> {
        let (token, accept) = (token.expose_secret(), "Accept: application/json\r\n");
        let request = http_1_0::head("GET /services/mqtt", &self.supervisor, Some(token), accept);
        let mut stream = TcpStream::connect(&self.supervisor).await?;
        stream.write_all(request.as_bytes()).await?;
        // The buffer has its full size from the beginning, so that growing leaves no copy of a password behind.
        let mut response = Zeroizing::new(Vec::with_capacity(MAX_RESPONSE + 1));
        stream.take(MAX_RESPONSE as u64 + 1).read_to_end(&mut response).await?;
        Ok(response)
    }

    /// Asks now, and again whenever it is necessary. Reports each answer to the service.
    pub async fn run(self, service: Handle) -> Infallible {
        let mut schedule = Schedule::default();
        loop {
            let provision = self.ask().await;
            schedule.asked(&provision, Instant::now());
            // If the actor has ended, the process is stopping.
            let _stopping = service.provide_broker.send(ProvideBroker(provision)).await;
            loop {
                sleep(POLL).await;
                let Ok(status) = service.status.send(GetStatus).await else { continue };
                if schedule.is_due(&status, Instant::now()) {
                    break;
                }
            }
        }
    }
}

/// The Supervisor's envelope of every response.
#[derive(Deserialize)]
struct Envelope {
    result: String,
    data: Option<Map<String, Value>>,
}

/// Reads a response. The error completes a sentence that begins with "Home Assistant's Supervisor".
fn read(response: &[u8]) -> Result<Provision, String> {
    if response.len() > MAX_RESPONSE {
        return Err(format!("has sent a response of more than {MAX_RESPONSE} bytes"));
    }
    let Some((status, body)) = http_1_0::parse(response) else {
        return Err("has sent a response that is not HTTP".to_owned());
    };
    let body = serde_json::from_slice::<Envelope>(body);
    match (status, body) {
        (200, Ok(Envelope { data: Some(service), .. })) => match ProvidedBroker::read(service) {
            Ok(broker) => Ok(broker.map_or(Provision::None, Provision::Broker)),
            Err(error) => Err(format!("has reported a broker that cannot be used ({error})")),
        },
        // The Supervisor responds in this way if no app provides MQTT.
        (400, Ok(Envelope { result, .. })) if result == "error" => Ok(Provision::None),
        (401 | 403, _) => Err(format!("does not accept the token of the app (status {status})")),
        (200, _) => Err("has sent a response that cannot be read".to_owned()),
        _ => Err(format!("has sent an unexpected response (status {status})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: &str, body: &str) -> Result<Provision, String> {
        read(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n{body}").as_bytes())
    }

    #[test]
    fn only_a_definite_answer_of_the_supervisor_counts() {
        let ok =
            r#"{"result":"ok","data":{"host":"core-mosquitto","port":1883,"username":"a","password":"b"}}"#;
        assert!(
            matches!(response("200 OK", ok), Ok(Provision::Broker(broker)) if broker.address() == "core-mosquitto:1883")
        );
        assert_eq!(response("400 Bad Request", r#"{"result":"error","message":"x"}"#), Ok(Provision::None));
        assert_eq!(response("200 OK", r#"{"result":"ok","data":{}}"#), Ok(Provision::None));
        for (status, body, part) in [
            ("400 Bad Request", "<html>", "status 400"),
            ("401 Unauthorized", "", "the token"),
            ("403 Forbidden", "{}", "the token"),
            ("502 Bad Gateway", r#"{"result":"error"}"#, "status 502"),
            ("200 OK", "[1", "cannot be read"),
            ("200 OK", r#"{"result":"ok"}"#, "cannot be read"),
            ("200 OK", r#"{"result":"ok","data":{"host":"a b","password":"hunter2"}}"#, "cannot be used"),
        ] {
            let reason = response(status, body).unwrap_err();
            assert!(reason.contains(part) && !reason.contains("hunter2"), "{status}: {reason}");
        }
        assert!(read(b"220 smtp\r\n\r\n").unwrap_err().contains("not HTTP"));
        assert!(read(&vec![b'x'; MAX_RESPONSE + 1]).unwrap_err().contains("more than"));
    }
}
