//! Summarizes the payload of an MQTT message in a few words.

use std::borrow::Cow;

use serde::Deserialize;

/// The summary of a payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// The text. May contain any character of the payload.
    pub text: String,
    /// The kind of message.
    pub tone: Tone,
    /// Marks to show after the text.
    pub marks: Vec<&'static str>,
}

/// The kind of a message, which determines its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// An event.
    Event,
    /// State or discovery.
    State,
    /// Anything else.
    Other,
}

/// The payloads of liveobject, recognized by their fields.
#[derive(Deserialize)]
#[serde(untagged)]
enum Known<'a> {
    Event {
        #[serde(borrow)]
        camera_name: Cow<'a, str>,
        #[serde(borrow)]
        description: Cow<'a, str>,
        confidence: Option<u8>,
        #[serde(default)]
        objects_detected: Vec<Cow<'a, str>>,
        #[serde(default)]
        late: bool,
        #[serde(default)]
        replay: bool,
    },
    Counts {
        events_today: u64,
        events_this_week: u64,
    },
    Status {
        #[serde(borrow)]
        camera_name: Cow<'a, str>,
        #[serde(borrow)]
        status: Cow<'a, str>,
    },
    Activity {
        #[serde(borrow)]
        camera_id: Cow<'a, str>,
        #[serde(borrow)]
        state: Cow<'a, str>,
    },
    LastEvent {
        #[serde(borrow)]
        camera_name: Cow<'a, str>,
        #[serde(borrow)]
        description_snippet: Cow<'a, str>,
    },
    Outbox {
        pending: u64,
        dead: u64,
    },
    Discovery {
        device: Device<'a>,
        components: std::collections::BTreeMap<Cow<'a, str>, Component<'a>>,
    },
}

#[derive(Deserialize)]
struct Device<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Component<'a> {
    /// Absent if the entity is being removed.
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

impl Summary {
    /// Summarizes a payload.
    pub fn of(payload: &[u8]) -> Self {
        if let Ok(known) = serde_json::from_slice::<Known<'_>>(payload) {
            return known.summary();
        }
        let text = match payload {
            [] => "(empty)".to_owned(),
            [0xff, 0xd8, 0xff, ..] => format!("(JPEG picture, {})", size(payload.len())),
            [0x89, b'P', b'N', b'G', ..] => format!("(PNG picture, {})", size(payload.len())),
            _ => match std::str::from_utf8(payload) {
                Ok(text) => text.to_owned(),
                Err(_) => format!("({} of data)", size(payload.len())),
            },
        };
        Self { text, tone: Tone::Other, marks: Vec::new() }
    }
}

impl Known<'_> {
    fn summary(self) -> Summary {
        let (mut tone, mut marks) = (Tone::State, Vec::new());
        let text = match self {
            Self::Event { camera_name, description, confidence, objects_detected, late, replay } => {
                tone = Tone::Event;
                let flags = [(late, "late"), (replay, "replay")].into_iter();
                marks = flags.filter_map(|(is_set, mark)| is_set.then_some(mark)).collect();
                let confidence = confidence.map(|percent| format!("{percent}%"));
                let facts: Vec<_> = confidence
                    .iter()
                    .map(String::as_str)
                    .chain(objects_detected.iter().map(Cow::as_ref))
                    .collect();
                let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
                format!("{camera_name}: {description}{facts}")
            }
            Self::Counts { events_today, events_this_week } => {
                format!("events today: {events_today}, this week: {events_this_week}")
            }
            Self::Status { camera_name, status } => format!("{camera_name} is {status}"),
            Self::Activity { camera_id, state } => format!("motion at {camera_id}: {state}"),
            Self::LastEvent { camera_name, description_snippet } => {
                format!("last event at {camera_name}: {description_snippet}")
            }
            Self::Outbox { pending, dead } => format!("{pending} queued, {dead} failed"),
            Self::Discovery { device, components } => {
                let names: Vec<_> = components.into_values().filter_map(|component| component.name).collect();
                format!("Home Assistant discovery of {}: {}", device.name, names.join(", "))
            }
        };
        Summary { text, tone, marks }
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        _ => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summarize(payload: &str) -> (String, Tone) {
        let Summary { text, tone, .. } = Summary::of(payload.as_bytes());
        (text, tone)
    }

    #[test]
    fn an_event_without_a_confidence_is_summarized_without_one() {
        let event = |objects: &str| {
            let fields = r#""camera_name":"Door","description":"Seen","confidence":null"#;
            summarize(&format!(r#"{{{fields},"objects_detected":{objects}}}"#))
        };
        assert_eq!(event(r#"["person"]"#), ("Door: Seen (person)".to_owned(), Tone::Event));
        assert_eq!(event("[]"), ("Door: Seen".to_owned(), Tone::Event));
    }

    #[test]
    fn state_and_discovery_are_summarized() {
        for (payload, summary) in [
            (
                r#"{"camera_id":"a","camera_name":"Door","events_today":3,"events_this_week":9}"#,
                "events today: 3, this week: 9",
            ),
            (
                r#"{"camera_id":"a","camera_name":"Door","status":"online","source_type":"x"}"#,
                "Door is online",
            ),
            (r#"{"camera_id":"a","state":"ON","last_event_at":null}"#, "motion at a: ON"),
            (
                r#"{"camera_id":"a","camera_name":"Door","event_id":"e","description_snippet":"A person"}"#,
                "last event at Door: A person",
            ),
            (r#"{"pending":2,"dead":0}"#, "2 queued, 0 failed"),
            (
                r#"{"device":{"name":"Door"},"components":{"a":{"name":"Detection"},"b":{"platform":"event"},"c":{"name":"Status"}}}"#,
                "Home Assistant discovery of Door: Detection, Status",
            ),
        ] {
            assert_eq!(summarize(payload), (summary.to_owned(), Tone::State));
        }
    }
}
