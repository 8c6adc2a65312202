//! Warnings about the connection's security: certificates that expire soon, and a certificate that is not
//! verified. Pure: the time is an argument.

use chrono::TimeDelta;

use crate::{
    domain::{
        certificate::{self, Certificate},
        clock::Timestamp,
        settings::MqttSettings,
        status::{Warning, WarningKind, severity_of},
    },
    metrics::Metrics,
};

/// How long before its expiry a certificate causes a warning.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(14);

/// The known facts about the connection's security.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Security {
    is_insecure: bool,
    /// When our client certificate expires.
    client_expiry: Option<Timestamp>,
    /// When the broker's certificate expires, as presented on the latest connection.
    broker_expiry: Option<Timestamp>,
}

impl Security {
    /// Returns what the settings show, before any connection.
    pub fn from_settings(settings: &MqttSettings) -> Self {
        if !(settings.enabled && settings.use_tls) {
            return Self::default();
        }
        let chain = settings.client_certificate.as_ref().and_then(|pem| certificate::certificates(pem).ok());
        let ours = chain.and_then(|chain| Certificate::read(chain.first()?));
        Self {
            is_insecure: settings.tls_insecure,
            client_expiry: ours.map(|ours| ours.not_after),
            broker_expiry: None,
        }
    }

    /// Records the broker's certificate when a connection was established.
    pub fn connected(&mut self, broker_expiry: Option<Timestamp>) {
        self.broker_expiry = broker_expiry;
    }

    /// Returns the current warnings.
    pub fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        let insecure = self.is_insecure.then(|| {
            let message = "The broker's certificate is not verified: anyone on the network path can read the \
                           password and the events. Set ca_certificate, and set tls_insecure to false.";
            Warning::new(WarningKind::TlsInsecure, message)
        });
        let broker =
            expiry_warning("The broker's certificate (seen at the last connection)", self.broker_expiry, now);
        let client = expiry_warning("The client certificate", self.client_expiry, now);
        insecure.into_iter().chain(broker).chain(client).collect()
    }

    /// Sets the expiry metrics; removes those that are not known.
    pub fn update_metrics(&self, metrics: &Metrics) {
        metrics.set_certificate_ends("broker", self.broker_expiry);
        metrics.set_certificate_ends("client", self.client_expiry);
    }
}

fn expiry_warning(whose: &str, expiry: Option<Timestamp>, now: Timestamp) -> Option<Warning> {
    let expiry = expiry?;
    let left = expiry - now;
    if left > EXPIRES_SOON {
        return None;
    }
    let day = certificate::date(expiry);
    let days_left = left.num_days();
    let message = match days_left {
        _ if left < TimeDelta::zero() => {
            format!("{whose} expired on {day}. The next connection will fail; renew the certificate.")
        }
        0 => format!("{whose} expires within a day ({day}). Renew it before connections fail."),
        1 => format!("{whose} expires in 1 day ({day}). Renew it before connections fail."),
        days => format!("{whose} expires in {days} days ({day}). Renew it before connections fail."),
    };
    // It gets worse each time that the remaining days are halved, and when it has expired.
    let days_left = u64::try_from(days_left).unwrap_or(0);
    let severity = if left < TimeDelta::zero() { 6 } else { 5_u64.saturating_sub(severity_of(days_left)) };
    Some(Warning::new(WarningKind::CertificateExpires, message).with_severity(severity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    #[test]
    fn the_severity_grows_as_a_certificate_expires() {
        let now = clock::now();
        let mut security = Security::default();
        let mut severity = |left: TimeDelta| {
            security.connected(Some(now + left));
            security.warnings(now)[0].severity
        };
        let days =
            [13, 8, 7, 4, 3, 2, 1, 0].map(|days| severity(TimeDelta::days(days) + TimeDelta::hours(1)));
        assert_eq!(days, [1, 1, 2, 2, 3, 3, 4, 5]);
        assert_eq!(severity(TimeDelta::seconds(-1)), 6);
    }

    fn warning(expires_in: TimeDelta) -> Option<String> {
        let now = clock::now();
        let mut security = Security::default();
        security.connected(Some(now + expires_in));
        security.warnings(now).pop().map(|warning| warning.message)
    }

    #[test]
    fn a_certificate_causes_a_warning_from_fourteen_days_before_its_expiry() {
        assert_eq!(warning(TimeDelta::days(14) + TimeDelta::seconds(1)), None);
        assert!(warning(TimeDelta::days(14)).unwrap().contains("in 14 days"));
        assert!(warning(TimeDelta::hours(25)).unwrap().contains("in 1 day ("));
        assert!(warning(TimeDelta::hours(5)).unwrap().contains("within a day"));
        assert!(warning(TimeDelta::seconds(-1)).unwrap().contains("expired on"));
    }

    #[test]
    fn an_unverified_certificate_always_causes_a_warning_unless_the_connection_is_disabled() {
        let settings =
            MqttSettings { enabled: true, use_tls: true, tls_insecure: true, ..MqttSettings::defaults("c") };
        let kinds = |settings: &MqttSettings| {
            let warnings = Security::from_settings(settings).warnings(clock::now());
            warnings.into_iter().map(|warning| warning.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&settings), [WarningKind::TlsInsecure]);
        assert!(kinds(&MqttSettings { enabled: false, ..settings.clone() }).is_empty());
    }
}
