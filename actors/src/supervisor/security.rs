//! What is to be said of the connection's security: certificates that end soon, and one that nobody verifies. Pure: time is
//! given.

use chrono::TimeDelta;

use crate::{
    domain::{
        certificate::{self, Certificate},
        clock::Timestamp,
        settings::MqttSettings,
        status::Warning,
    },
    metrics::Metrics,
};

/// So long before its end a certificate is warned of.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(14);

/// How the connection is secured, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Security {
    is_insecure: bool,
    /// When our certificate ends.
    client_ends: Option<Timestamp>,
    /// When the broker's ends, as it was shown at the newest connection.
    broker_ends: Option<Timestamp>,
}

impl Security {
    /// What is known before a connection.
    pub fn of(settings: &MqttSettings) -> Self {
        if !(settings.enabled && settings.use_tls) {
            return Self::default();
        }
        let chain = settings.client_certificate.as_ref().and_then(|pem| certificate::certificates(pem).ok());
        let ours = chain.and_then(|chain| Certificate::read(chain.first()?));
        Self {
            is_insecure: settings.tls_insecure,
            client_ends: ours.map(|ours| ours.not_after),
            broker_ends: None,
        }
    }

    /// A connection came up.
    pub fn connected(&mut self, broker_ends: Option<Timestamp>) {
        self.broker_ends = broker_ends;
    }

    /// What is not as it should be.
    pub fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        let insecure = self.is_insecure.then(|| Warning {
            kind: "tls_insecure",
            message: "The broker's certificate is not verified: anybody on the way can read the password and the events. Give \
                      ca_certificate, and set tls_insecure to false."
                .to_owned(),
        });
        let broker = expires(
            "The broker's certificate, as it was shown at the last connection,",
            self.broker_ends,
            now,
        );
        let client = expires("Our client certificate", self.client_ends, now);
        insecure.into_iter().chain(broker).chain(client).collect()
    }

    /// The ends as they are measured; what is not known is not there.
    pub fn measure(&self, metrics: &Metrics) {
        metrics.set_certificate_ends("broker", self.broker_ends);
        metrics.set_certificate_ends("client", self.client_ends);
    }
}

fn expires(whose: &str, end: Option<Timestamp>, now: Timestamp) -> Option<Warning> {
    let end = end?;
    let left = end - now;
    if left > EXPIRES_SOON {
        return None;
    }
    let day = certificate::date(end);
    let message = match left.num_days() {
        _ if left < TimeDelta::zero() => {
            format!("{whose} expired on {day}: the next connection will fail. Renew it.")
        }
        0 => format!("{whose} expires within a day ({day}). Renew it, or connections will fail."),
        1 => format!("{whose} expires in 1 day ({day}). Renew it, or connections will fail."),
        days => format!("{whose} expires in {days} days ({day}). Renew it, or connections will fail."),
    };
    Some(Warning { kind: "certificate_expires", message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    fn told(end: TimeDelta) -> Option<String> {
        let now = clock::now();
        let mut security = Security::default();
        security.connected(Some(now + end));
        security.warnings(now).pop().map(|warning| warning.message)
    }

    #[test]
    fn a_certificate_is_warned_of_from_fourteen_days_before_its_end() {
        assert_eq!(told(TimeDelta::days(14) + TimeDelta::seconds(1)), None);
        assert!(told(TimeDelta::days(14)).unwrap().contains("in 14 days"));
        assert!(told(TimeDelta::hours(25)).unwrap().contains("in 1 day ("));
        assert!(told(TimeDelta::hours(5)).unwrap().contains("within a day"));
        assert!(told(TimeDelta::seconds(-1)).unwrap().contains("expired on"));
    }

    #[test]
    fn an_unverified_broker_is_always_told_and_plain_text_knows_no_certificates() {
        let settings =
            MqttSettings { enabled: true, use_tls: true, tls_insecure: true, ..MqttSettings::defaults("c") };
        let kinds = |settings: &MqttSettings| {
            let warnings = Security::of(settings).warnings(clock::now());
            warnings.into_iter().map(|warning| warning.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&settings), ["tls_insecure"]);
        assert!(kinds(&MqttSettings { enabled: false, ..settings.clone() }).is_empty());
    }
}
