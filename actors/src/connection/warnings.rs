//! Warnings about the broker: settings that it does not support, and topics that it does not allow.

use std::collections::BTreeMap;

use super::client::Limits;
use crate::domain::{
    delivery::DeadReason,
    settings::MqttSettings,
    status::{Warning, WarningKind},
    topic_use::{self, Rejection, TopicUse},
};

/// Maximum number of refused topics that are remembered. Topics of a family count as one.
const MAX_REFUSALS: usize = 20;

/// The topics to which the broker does not let the service publish on this connection.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By family of topics: the first refused topic, and the reason.
    topics: BTreeMap<String, (String, DeadReason)>,
}

impl Refusals {
    /// Records a refusal. Returns whether the warnings have changed.
    pub fn refused(&mut self, topic: &str, reason: DeadReason, settings: &MqttSettings) -> bool {
        let name = topic_use::family(topic, settings);
        if self.topics.contains_key(&name) || self.topics.len() >= MAX_REFUSALS {
            return false;
        }
        self.topics.insert(name, (topic.to_owned(), reason));
        true
    }

    /// Records that the broker accepted a message on this topic. Returns whether the warnings have changed.
    pub fn accepted(&mut self, topic: &str) -> bool {
        let before = self.topics.len();
        if before > 0 {
            self.topics.retain(|_, (refused, _)| refused != topic);
        }
        self.topics.len() != before
    }

    /// Returns the current warnings: one for all topics that the same change would fix, since one mistake in the
    /// broker's access rules usually affects several.
    pub fn warnings(&self, settings: &MqttSettings) -> Vec<Warning> {
        let mut groups = BTreeMap::<_, Vec<&str>>::new();
        for (name, (_, reason)) in &self.topics {
            groups.entry((topic_use::group(name, settings), reason.as_str())).or_default().push(name);
        }
        let reasons = self.topics.values().map(|(_, reason)| (reason.as_str(), *reason));
        let reasons: BTreeMap<_, _> = reasons.collect();
        let warning = |((_, reason), mut topics): ((String, &str), Vec<&str>)| {
            // The most important ones first.
            topics.sort_by_key(|topic| TopicUse::of(topic, settings));
            let message = format!(
                "{} Then save the MQTT settings, even unchanged, so that the service reconnects and tries again.",
                topic_use::describe_all(Rejection::Refuses(reasons[reason]), &topics, settings)
            );
            Warning::new(WarningKind::TopicRefused, message)
        };
        groups.into_iter().map(warning).collect()
    }
}

/// Returns a warning for each setting that the broker does not support.
pub fn unsupported(settings: &MqttSettings, limits: Limits) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if settings.qos > limits.maximum_qos {
        let message = format!(
            "The broker supports QoS {0} at most. Events are sent with QoS {0} instead of QoS {1}.",
            limits.maximum_qos.level(),
            settings.qos.level()
        );
        warnings.push(Warning::new(WarningKind::QosLowered, message));
    }
    if !limits.retain_available {
        let message = "The broker does not support retained messages. Clients that subscribe later do not see the \
                       current state.";
        warnings.push(Warning::new(WarningKind::RetainUnavailable, message));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(refusals: &Refusals, settings: &MqttSettings) -> Vec<String> {
        refusals.warnings(settings).into_iter().map(|warning| warning.message).collect()
    }

    #[test]
    fn one_mistake_in_the_access_rules_gives_one_warning_with_one_fix() {
        let (settings, mut refusals) = (MqttSettings::defaults("c"), Refusals::default());
        let kinds =
            ["event", "history", "status", "last_event", "counts", "activity", "description", "thumbnail"];
        for kind in kinds {
            let topic = format!("liveobject/camera/door/{kind}");
            assert!(refusals.refused(&topic, DeadReason::NotAuthorized, &settings));
            assert!(!refusals.refused(&topic, DeadReason::NotAuthorized, &settings), "it is known");
        }
        let [message] = &messages(&refusals, &settings)[..] else { panic!("{refusals:?}") };
        assert_eq!(
            message,
            "The broker refuses messages on liveobject/camera/+/event, liveobject/camera/+/history, \
             liveobject/camera/+/activity, liveobject/camera/+/counts, liveobject/camera/+/description and 3 more \
             (not_authorized). Nobody receives these events. Home Assistant does not see these states. Let this user \
             publish to liveobject/camera/# (in Mosquitto's ACL file: \"topic write liveobject/camera/#\"). Then save \
             the MQTT settings, even unchanged, so that the service reconnects and tries again."
        );
        refusals.refused("liveobject/status", DeadReason::NotAuthorized, &settings);
        let [message] = &messages(&refusals, &settings)[..] else { panic!("{refusals:?}") };
        assert!(message.contains("publish to liveobject/# ") && message.contains("unavailable"), "{message}");
        assert!(message.contains("\"topic readwrite liveobject/#\""), "{message}");
        refusals.refused("homeassistant/device/x/config", DeadReason::NotAuthorized, &settings);
        refusals.refused("liveobject/outbox", DeadReason::PacketTooLarge, &settings);
        assert_eq!(messages(&refusals, &settings).len(), 3, "these need other changes");
        for kind in kinds {
            assert!(refusals.accepted(&format!("liveobject/camera/door/{kind}")));
        }
        assert_eq!(messages(&refusals, &settings).len(), 3);
        assert!(refusals.accepted("liveobject/status"));
        assert_eq!(messages(&refusals, &settings).len(), 2);
    }

    #[test]
    fn a_single_topic_is_described_as_in_the_connection_test() {
        let (settings, mut refusals) = (MqttSettings::defaults("c"), Refusals::default());
        refusals.refused("liveobject/camera/door/event", DeadReason::NotAuthorized, &settings);
        let refused = Rejection::Refuses(DeadReason::NotAuthorized);
        let described = topic_use::describe(refused, "liveobject/camera/+/event", &settings);
        assert!(messages(&refusals, &settings)[0].starts_with(&described));
    }
}
