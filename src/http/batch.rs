//! Reads a batch of events. Reports every error of every event, or returns all events.

use std::fmt;

use liveobject_actors::{FieldError, Invalid, PublishEvent};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    body::{EVENT_BYTES, without_bom},
    problem::{self, Problem},
    submission,
};

/// Maximum number of events in a batch.
pub(super) const MAX_EVENTS: usize = 1000;

/// Reads a JSON array of events. Parses one event at a time, so that a batch needs little more memory than
/// its text.
pub(super) fn parse(body: &[u8]) -> Result<Vec<PublishEvent>, Problem> {
    let body = without_bom(body);
    let Texts { first, count } = match serde_json::from_slice(body) {
        Ok(texts) => texts,
        Err(e) => return Err(not_an_array(body, e)),
    };
    if !(1..=MAX_EVENTS).contains(&count) {
        return Err(Invalid::one("", format!("{count} events, must be 1 to {MAX_EVENTS}")).into());
    }
    let mut events = Vec::with_capacity(count);
    // A batch of nothing but faults can have hundreds of thousands of them.
    let (mut faults, mut more) = (Vec::new(), 0);
    for (i, text) in first.into_iter().enumerate() {
        match event(text)? {
            Ok(event) if faults.is_empty() => events.push(event),
            // The batch is refused.
            Ok(_) => {}
            Err(Invalid(errors)) => {
                events = Vec::new();
                let room = problem::MAX_ERRORS - faults.len();
                more += errors.len().saturating_sub(room);
                faults
                    .extend(errors.into_iter().take(room).map(|error| prefix(i, problem::shortened(error))));
            }
        }
    }
    if faults.is_empty() { Ok(events) } else { Err(Problem::invalid(faults, more)) }
}

/// Distinguishes a body that is not an array from one that is not JSON.
fn not_an_array(body: &[u8], error: serde_json::Error) -> Problem {
    let not_json =
        if error.is_data() { serde_json::from_slice::<IgnoredAny>(body).err() } else { Some(error) };
    not_json.map_or_else(|| Invalid::one("", "expected a JSON array of events").into(), Problem::not_json)
}

/// Reads one event, with the same maximum size as for a single event.
fn event(text: &RawValue) -> Result<Result<PublishEvent, Invalid>, Problem> {
    let text = text.get();
    let bytes = submission::bytes_without_picture(text.as_bytes())?;
    if bytes > EVENT_BYTES {
        return Ok(Err(Invalid::one("", format!("{bytes} bytes, must be at most {EVENT_BYTES}"))));
    }
    let value = serde_json::from_str(text).map_err(Problem::not_json)?;
    Ok(submission::from_json(value))
}

/// Prefixes the field with the position of the event in the batch.
fn prefix(i: usize, FieldError { field, message }: FieldError) -> FieldError {
    let field = if field.is_empty() { format!("[{i}]") } else { format!("[{i}].{field}") };
    FieldError { field, message }
}

/// The JSON of the first [`MAX_EVENTS`] elements of an array, and the number of all elements.
struct Texts<'a> {
    first: Vec<&'a RawValue>,
    count: usize,
}

impl<'de> Deserialize<'de> for Texts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ArrayVisitor)
    }
}

struct ArrayVisitor;

impl<'de> Visitor<'de> for ArrayVisitor {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut texts = Texts { first: Vec::new(), count: 0 };
        while let Some(text) = seq.next_element()? {
            texts.count += 1;
            if texts.count <= MAX_EVENTS {
                texts.first.push(text);
            }
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, body::to_bytes};
    use futures_util::FutureExt;
    use serde_json::{Value, json};

    use super::*;

    fn refused(body: &str) -> (u16, Vec<(String, String)>) {
        let response = parse(body.as_bytes()).unwrap_err().error_response();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body()).now_or_never().unwrap().unwrap();
        let problem: Value = serde_json::from_slice(&bytes).unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        (status, errors.iter().map(|e| (text(&e["field"]), text(&e["message"]))).collect())
    }

    #[test]
    fn every_error_of_every_event_is_reported() {
        let good = json!({"camera_id": "a", "description": "x"});
        let bad = json!({"camera_id": "a/b", "description": "x", "confidence": 101});
        let (status, errors) = refused(&json!([good, bad, 7]).to_string());
        assert_eq!(status, 422);
        let mut fields: Vec<_> = errors.iter().map(|(field, _)| field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["[1].camera_id", "[1].confidence", "[2]"]);
    }

    #[test]
    fn a_batch_has_1_to_1000_events() {
        let event = json!({"camera_id": "a", "description": "x"});
        assert_eq!(parse(json!(vec![&event; 1000]).to_string().as_bytes()).unwrap().len(), 1000);
        let whole = |message: &str| (422, vec![(String::new(), message.to_owned())]);
        assert_eq!(refused(&json!(vec![&event; 1001]).to_string()), whole("1001 events, must be 1 to 1000"));
        assert_eq!(refused("[]"), whole("0 events, must be 1 to 1000"));
        assert_eq!(refused("{}"), whole("expected a JSON array of events"));
    }

    #[test]
    fn a_batch_of_nothing_but_faults_keeps_a_bounded_number_of_them() {
        let fields: serde_json::Map<_, _> =
            (0..2000).map(|i| (format!("{i}{}", "x".repeat(20)), json!(1))).collect();
        let batch = json!(vec![fields; 100]).to_string();
        let problem = parse(batch.as_bytes()).unwrap_err();
        assert_eq!(problem.number_of_errors(), problem::MAX_ERRORS + 1);
        let (status, errors) = refused(&batch);
        let last = &errors[problem::MAX_ERRORS].1;
        // Two required fields are missing in each event.
        assert_eq!((status, last.as_str()), (422, "and 200100 more errors"));
    }

    #[test]
    fn invalid_json_is_a_400_and_not_a_422() {
        for text in ["", "[", "{", "7x", "[{]", "[1,]", r#"["\q"]"#, "[]x"] {
            assert_eq!(refused(text), (400, vec![]), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_ignored() {
        assert_eq!(
            parse("\u{feff}[{\"camera_id\": \"a\", \"description\": \"x\"}]".as_bytes()).unwrap().len(),
            1
        );
        assert_eq!(refused("[\u{feff}{}]"), (400, vec![]), "it is only ignored at the beginning");
    }

    #[test]
    fn an_event_must_not_be_larger_in_a_batch_than_alone() {
        let event = json!({"camera_id": "a", "description": "x".repeat(EVENT_BYTES)});
        let (status, errors) = refused(&json!([event]).to_string());
        assert_eq!((status, errors[0].0.as_str()), (422, "[0]"));
    }
}
