//! What was found, and which of it is shown.

use liveobject_actors::domain::{
    mqtt_version::Version,
    probe_report::{LoginReport, TestStage},
    status::FailureKind,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{BrokerAddress, merge::Broker};

/// How a broker was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BrokerSource)]
pub enum Source {
    /// `[mqtt] candidates` of the configuration.
    Configured,
    /// The loopback address of the machine on which the service runs.
    ThisMachine,
    /// A name that brokers often have, such as `mosquitto`.
    UsualName,
    /// Announced as a broker by multicast DNS.
    Announced,
    /// On the machine that is announced as Home Assistant by multicast DNS.
    HomeAssistant,
}

/// The result of the test of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BrokerState)]
pub enum CandidateState {
    /// The broker accepts clients without a user name.
    Accepted,
    /// The broker requires a user name and a password.
    LoginRequired,
    /// The TLS connection failed, for example because the certificate is not trusted.
    TlsFailed,
    /// The server responds, but the test failed for another reason.
    Failed,
    /// The server is not an MQTT broker.
    NotMqtt,
    /// No server responds.
    Unreachable,
}

/// A broker that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BrokerCandidate)]
pub struct Candidate {
    /// The value for the setting `broker_host`.
    pub broker_host: String,
    /// The value for the setting `broker_port`.
    #[schema(minimum = 1, maximum = 65535)]
    pub broker_port: u16,
    /// The value for the setting `use_tls`.
    pub use_tls: bool,
    /// All names and addresses under which it was found. Announced names are what the network reports, which nobody
    /// has verified.
    #[schema(min_items = 1)]
    pub names: Vec<String>,
    /// How it was found.
    #[schema(min_items = 1)]
    pub found_by: Vec<Source>,
    /// The result of the test.
    pub state: CandidateState,
    /// The result in one sentence or more; for a failure, the cause and how to fix it.
    pub message: String,
    /// The MQTT version, if the broker accepted the login.
    #[schema(required = true, value_type = Option<Version>)]
    pub protocol: Option<&'static str>,
    /// The stages that were tested, up to the login.
    pub stages: Vec<TestStage>,
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
#[schema(as = BrokerCandidates)]
pub struct Found {
    /// The brokers, the most useful one first.
    pub candidates: Vec<Candidate>,
    /// How many places were not tested because there were too many.
    #[schema(minimum = 0)]
    pub left_out: usize,
}

impl Candidate {
    pub(super) fn new(broker: &Broker, address: &BrokerAddress, report: LoginReport) -> Self {
        let state = state(&report);
        let message = match (state, &report.failure) {
            (CandidateState::LoginRequired, _) => "Requires a user name and a password.".to_owned(),
            (CandidateState::Unreachable, _) if is_only_a_guess(&broker.sources, Source::HomeAssistant) => {
                format!(
                    "Home Assistant is announced here, but no MQTT broker responds at {address}. Install the app \
                     \"Mosquitto broker\" in Home Assistant, or enter the address of your broker."
                )
            }
            (_, Some(failure)) => failure.message.clone(),
            (_, None) => "Accepts clients without a user name.".to_owned(),
        };
        Self {
            broker_host: address.host.clone(),
            broker_port: address.port,
            use_tls: address.use_tls,
            names: broker.names.clone(),
            found_by: broker.sources.clone(),
            state,
            message,
            protocol: report.protocol,
            stages: report.stages,
        }
    }

    /// Returns the address.
    pub fn address(&self) -> BrokerAddress {
        let Self { broker_host, broker_port, use_tls, .. } = self;
        BrokerAddress { host: broker_host.clone(), port: *broker_port, use_tls: *use_tls }
    }

    fn is_broker(&self) -> bool {
        self.state <= CandidateState::Failed
    }

    /// Returns whether somebody named this address as that of a broker.
    fn is_named(&self) -> bool {
        self.found_by.iter().any(|source| matches!(source, Source::Configured | Source::Announced))
    }
}

fn is_only_a_guess(sources: &[Source], with: Source) -> bool {
    let is_named = |source| matches!(source, &Source::Configured | &Source::Announced);
    sources.contains(&with) && !sources.iter().any(is_named)
}

fn state(report: &LoginReport) -> CandidateState {
    match report.failure.as_ref().map(|failure| failure.kind) {
        None => CandidateState::Accepted,
        Some(_) if !report.is_reachable() => CandidateState::Unreachable,
        Some(FailureKind::BadCredentials | FailureKind::NotAuthorized) => CandidateState::LoginRequired,
        Some(FailureKind::Tls) => CandidateState::TlsFailed,
        Some(FailureKind::Protocol) => CandidateState::NotMqtt,
        Some(_) => CandidateState::Failed,
    }
}

/// Returns the candidates that are shown, the most useful one first. An address that was only a guess is left out if no
/// broker is there. The machine of Home Assistant is shown if there is no other broker: it probably needs one.
pub(super) fn select(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let is_home_assistant = |candidate: &Candidate| {
        !candidate.use_tls && is_only_a_guess(&candidate.found_by, Source::HomeAssistant)
    };
    let has_broker = candidates.iter().any(Candidate::is_broker);
    let hint = candidates.iter().position(is_home_assistant).filter(|_| !has_broker);
    let shown = candidates
        .into_iter()
        .enumerate()
        .filter(|(i, candidate)| candidate.is_broker() || candidate.is_named() || hint == Some(*i));
    let mut shown: Vec<_> = shown.map(|(_, candidate)| candidate).collect();
    shown.sort_by_key(|candidate| candidate.state);
    shown
}

#[cfg(test)]
mod tests {
    use liveobject_actors::domain::{probe_report::Stage, status::Failure};

    use super::*;
    use crate::finder::merge::Other;

    fn report(kind: Option<FailureKind>, reachable: bool) -> LoginReport {
        let connected =
            TestStage { name: Stage::Connect, ok: Some(reachable), duration_ms: 1, detail: String::new() };
        let failure = kind.map(|kind| Failure::new(kind, "Broken; mend it."));
        LoginReport { protocol: None, stages: vec![connected], failure }
    }

    fn candidate(source: Source, address: &str, kind: Option<FailureKind>, reachable: bool) -> Candidate {
        let address = BrokerAddress::parse(address).unwrap();
        let broker = Other { address: address.clone(), label: None, source }.broker();
        Candidate::new(&broker, &address, report(kind, reachable))
    }

    #[test]
    fn the_state_tells_apart_what_the_user_must_do() {
        for (kind, reachable, state) in [
            (None, true, CandidateState::Accepted),
            (Some(FailureKind::BadCredentials), true, CandidateState::LoginRequired),
            (Some(FailureKind::NotAuthorized), true, CandidateState::LoginRequired),
            (Some(FailureKind::Tls), true, CandidateState::TlsFailed),
            (Some(FailureKind::Protocol), true, CandidateState::NotMqtt),
            (Some(FailureKind::Closed), true, CandidateState::Failed),
            (Some(FailureKind::Timeout), true, CandidateState::Failed),
            (Some(FailureKind::Refused), false, CandidateState::Unreachable),
        ] {
            assert_eq!(candidate(Source::Announced, "a", kind, reachable).state, state, "{kind:?}");
        }
    }

    #[test]
    fn guesses_without_a_broker_are_not_shown_but_named_places_are() {
        let refused = Some(FailureKind::Refused);
        let shown = select(vec![
            candidate(Source::ThisMachine, "127.0.0.1", refused, false),
            candidate(Source::UsualName, "mqtt", Some(FailureKind::Protocol), true),
            candidate(Source::Announced, "10.0.0.1", refused, false),
            candidate(Source::Configured, "10.0.0.2", refused, false),
            candidate(Source::HomeAssistant, "10.0.0.4", refused, false),
            candidate(Source::UsualName, "mosquitto", Some(FailureKind::BadCredentials), true),
            candidate(Source::Announced, "10.0.0.3", None, true),
        ]);
        let hosts: Vec<&str> = shown.iter().map(|candidate| candidate.broker_host.as_str()).collect();
        assert_eq!(hosts, ["10.0.0.3", "mosquitto", "10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn home_assistant_without_a_broker_is_shown_once_with_what_to_do() {
        let refused = Some(FailureKind::Refused);
        let shown = select(vec![
            candidate(Source::HomeAssistant, "ha.local", refused, false),
            candidate(Source::HomeAssistant, "ha.local:8883", refused, false),
            candidate(Source::HomeAssistant, "other.local", refused, false),
        ]);
        let [only] = shown.as_slice() else { panic!("{shown:?}") };
        assert!(only.message.contains("Mosquitto broker"), "{}", only.message);
    }
}
