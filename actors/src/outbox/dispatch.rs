//! Decides how an event is sent: topic, QoS, retain, expiry, and whether it is late. No clock, no I/O.

use crate::{
    domain::{
        clock::{LogTime, Moment},
        event::marked_late,
        event_log::StoredEvent,
        settings::MqttSettings,
    },
    messages::connection::Outgoing,
};

/// What to do with the next event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Send this message.
    Send(Outgoing),
    /// It has waited longer than `message_expiry_seconds`.
    Expired,
}

/// Returns how to send the event with these settings, if it has been waiting since `waiting_since`; `late` is
/// whether to send it to the `history` topic. An event that has been waiting for an unknown time does not expire.
pub fn plan(
    event: &StoredEvent,
    waiting_since: LogTime,
    late: bool,
    settings: &MqttSettings,
    now: Moment,
) -> Plan {
    let expiry_seconds = match settings.message_expiry_seconds {
        0 => None,
        expiry => {
            let waited = now.age(waiting_since).unwrap_or_default().as_secs();
            match u64::from(expiry).checked_sub(waited).and_then(|left| u32::try_from(left).ok()) {
                Some(left) if left > 0 => Some(left),
                _ => return Plan::Expired,
            }
        }
    };
    let prefix = &settings.topic_prefix;
    let (topic, payload, retain) = if late {
        (prefix.history(&event.camera_id), marked_late(event.payload.to_vec()).into(), false)
    } else {
        (prefix.event(&event.camera_id), event.payload.clone(), settings.retain_messages)
    };
    let (seq, qos, asked) = (event.seq, settings.qos, None);
    Plan::Send(Outgoing { seq, topic, payload, qos, retain, expiry_seconds, asked })
}

#[cfg(test)]
mod tests {
    // A test named `invariant_N_…` proves an invariant of docs/architecture.md.
    use std::time::Duration;

    use super::*;
    use bytes::Bytes;
    use chrono::TimeDelta;

    use crate::domain::{
        clock,
        delivery::{EventTimes, is_late},
        ids::{CameraId, Seq},
    };

    const NOON: i64 = 1_780_000_000_000_000;

    fn event(occurred: i64, received: i64) -> StoredEvent {
        StoredEvent {
            seq: Seq(7),
            camera_id: CameraId::parse("door").unwrap(),
            times: EventTimes {
                occurred_at: clock::from_micros(NOON + occurred * 1_000_000),
                received_at: clock::from_micros(NOON + received * 1_000_000),
                accepted: LogTime(NOON + received * 1_000_000),
            },
            payload: Bytes::from_static(br#"{"seq":7}"#),
        }
    }

    fn moment(seconds: u64) -> Moment {
        Moment::at(clock::from_micros(NOON) + Duration::from_secs(seconds))
    }

    fn settings() -> MqttSettings {
        MqttSettings { retain_messages: true, ..MqttSettings::defaults("c") }
    }

    fn sent(event: &StoredEvent, settings: &MqttSettings, after: u64) -> Plan {
        planned(event, event.times.accepted, settings, moment(after))
    }

    fn planned(event: &StoredEvent, waiting_since: LogTime, settings: &MqttSettings, now: Moment) -> Plan {
        plan(event, waiting_since, is_late(settings, event.times, now), settings, now)
    }

    fn topic(plan: &Plan) -> (&str, bool, &[u8]) {
        match plan {
            Plan::Send(outgoing) => (&outgoing.topic, outgoing.retain, &outgoing.payload),
            Plan::Expired => ("expired", false, b""),
        }
    }

    #[test]
    fn invariant_10_a_late_event_goes_to_history_and_is_marked() {
        let plan = sent(&event(0, 0), &settings(), 301);
        assert_eq!(
            topic(&plan),
            ("liveobject/camera/door/history", false, br#"{"seq":7,"late":true}"#.as_slice())
        );
    }

    #[test]
    fn an_event_that_is_not_late_goes_to_the_event_topic_unchanged() {
        let plan = sent(&event(0, 0), &settings(), 300);
        assert_eq!(topic(&plan), ("liveobject/camera/door/event", true, br#"{"seq":7}"#.as_slice()));
    }

    #[test]
    fn the_earlier_of_the_two_timestamps_decides() {
        assert!(topic(&sent(&event(-400, 0), &settings(), 1)).0.ends_with("history"), "old when it arrived");
        assert!(
            topic(&sent(&event(3600, 0), &settings(), 301)).0.ends_with("history"),
            "the clock of the source is ahead"
        );
    }

    #[test]
    fn a_limit_of_zero_means_never_late() {
        let settings = MqttSettings { late_after_seconds: 0, ..settings() };
        assert!(topic(&sent(&event(0, 0), &settings, 1_000_000)).0.ends_with("event"));
    }

    #[test]
    fn invariant_10_setting_the_clock_makes_no_event_late_or_live() {
        let event = event(0, 0);
        for (after, late) in [(299, false), (301, true)] {
            for hours in [-720, -1, 0, 1, 720] {
                let wall = clock::from_micros(NOON) + TimeDelta::hours(hours);
                let now = Moment { wall, ..moment(after) };
                let is_late = is_late(&settings(), event.times, now);
                assert_eq!(is_late, late, "{after} s, {hours} h");
            }
        }
    }

    #[test]
    fn invariant_10_an_event_of_unknown_age_is_late_and_does_not_expire() {
        let settings = MqttSettings { message_expiry_seconds: 60, ..settings() };
        let event = event(0, 0);
        let rebooted = Moment { boot_began: LogTime(NOON + 1), ..moment(100) };
        let ahead = Moment { log: LogTime(NOON - 1), ..moment(0) };
        for now in [rebooted, ahead] {
            let plan = planned(&event, event.times.accepted, &settings, now);
            assert!(topic(&plan).0.ends_with("history"), "{now:?}");
        }
    }

    #[test]
    fn the_expiry_counts_from_acceptance() {
        let settings = MqttSettings { message_expiry_seconds: 60, ..settings() };
        let expiry = |after| match sent(&event(-30, 0), &settings, after) {
            Plan::Send(outgoing) => outgoing.expiry_seconds,
            Plan::Expired => None,
        };
        assert_eq!(expiry(0), Some(60));
        assert_eq!(expiry(59), Some(1));
        assert_eq!(sent(&event(-30, 0), &settings, 60), Plan::Expired);
    }

    #[test]
    fn the_expiry_of_a_retry_counts_from_the_request_but_its_lateness_does_not() {
        let settings = MqttSettings { message_expiry_seconds: 60, ..settings() };
        let event = event(0, 0);
        let planned = |after: u64| planned(&event, moment(3600).log, &settings, moment(3600 + after));
        assert_eq!(topic(&planned(1)).0, "liveobject/camera/door/history");
        assert_eq!(planned(60), Plan::Expired);
    }
}
