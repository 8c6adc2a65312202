//! What a message says, in a few words for people. Pure.

use std::borrow::Cow;

use serde::Deserialize;

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// The words; whatever the payload contains is in them as it was.
    pub text: String,
    /// How to show them.
    pub tone: Tone,
    /// Remarks.
    pub marks: Vec<&'static str>,
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// An event: what people look for.
    Event,
    /// State, or discovery.
    State,
    /// Anything else.
    Other,
}

/// The payloads that are known by their fields.
#[derive(Deserialize)]
#[serde(untagged)]
enum Known<'a> {
    Event {
        #[serde(borrow)]
        camera_name: Cow<'a, str>,
        #[serde(borrow)]
        description: Cow<'a, str>,
        confidence: u8,
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
    /// There is none of an entity that is to go.
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

impl Words {
    /// What this payload says.
    pub fn of(payload: &[u8]) -> Self {
        if let Ok(known) = serde_json::from_slice::<Known<'_>>(payload) {
            return known.words();
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
    fn words(self) -> Words {
        let (mut tone, mut marks) = (Tone::State, Vec::new());
        let text = match self {
            Self::Event { camera_name, description, confidence, objects_detected, late, replay } => {
                tone = Tone::Event;
                let remarks = [(late, "late"), (replay, "replay")].into_iter();
                marks = remarks.filter_map(|(is_so, mark)| is_so.then_some(mark)).collect();
                let separator = if objects_detected.is_empty() { "" } else { ", " };
                let objects = objects_detected.join(", ");
                format!("{camera_name}: {description} ({confidence} %{separator}{objects})")
            }
            Self::Counts { events_today, events_this_week } => {
                format!("{events_today} today, {events_this_week} this week")
            }
            Self::Status { camera_name, status } => format!("{camera_name} is {status}"),
            Self::Activity { camera_id, state } => format!("activity of {camera_id}: {state}"),
            Self::LastEvent { camera_name, description_snippet } => {
                format!("{camera_name}: {description_snippet}")
            }
            Self::Outbox { pending, dead } => format!("{pending} waiting, {dead} dead"),
            Self::Discovery { device, components } => {
                let names: Vec<_> = components.into_values().filter_map(|component| component.name).collect();
                format!("Home Assistant, here is {}: {}", device.name, names.join(", "))
            }
        };
        Words { text, tone, marks }
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

    fn said(payload: &str) -> (String, Tone) {
        let Words { text, tone, .. } = Words::of(payload.as_bytes());
        (text, tone)
    }

    #[test]
    fn states_and_discovery_are_told_in_words() {
        for (payload, words) in [
            (
                r#"{"camera_id":"a","camera_name":"Door","events_today":3,"events_this_week":9}"#,
                "3 today, 9 this week",
            ),
            (
                r#"{"camera_id":"a","camera_name":"Door","status":"online","source_type":"x"}"#,
                "Door is online",
            ),
            (r#"{"camera_id":"a","state":"ON","last_event_at":null}"#, "activity of a: ON"),
            (
                r#"{"camera_id":"a","camera_name":"Door","event_id":"e","description_snippet":"A person"}"#,
                "Door: A person",
            ),
            (r#"{"pending":2,"dead":0}"#, "2 waiting, 0 dead"),
            (
                r#"{"device":{"name":"Door"},"components":{"a":{"name":"Detection"},"b":{"platform":"event"},"c":{"name":"Status"}}}"#,
                "Home Assistant, here is Door: Detection, Status",
            ),
        ] {
            assert_eq!(said(payload), (words.to_owned(), Tone::State));
        }
    }
}
