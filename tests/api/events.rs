//! Publishing events, the errors for each invalid field, and reading events.

use liveobject_actors::{
    PublishError,
    domain::{event_log::QueryError, store_fault::StoreFault},
};
use liveobject_test_support::{JPEG, with_form};
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Answer, TestApp};

const EVENTS: &str = "/api/v1/events";
const BATCH: &str = "/api/v1/events/batch";

fn event(id: &str) -> Value {
    json!({"event_id": id, "camera_id": "front_door", "description": "Person at the door", "confidence": 91})
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_event_is_accepted_once() {
    let app = TestApp::start();
    let first = app.post(EVENTS, &event("a")).await.expect(202);
    assert_eq!(first, json!({"event_id": "a", "seq": 1, "duplicate": false}));
    let again = app.post(EVENTS, &event("a")).await.expect(202);
    assert_eq!(again, json!({"event_id": "a", "seq": 1, "duplicate": true}));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_invalid_field_of_an_event_is_reported() {
    let app = TestApp::start();
    let bad =
        json!({"camera_id": "front door", "confidence": 101, "objects_detected": "person", "colour": "red"});
    let mut faults = app.post(EVENTS, &bad).await.faults();
    faults.sort_unstable();
    assert_eq!(faults, ["camera_id", "colour", "confidence", "description", "objects_detected"]);
    assert_eq!(app.post(EVENTS, &json!([])).await.faults(), [""]);
    assert!(app.script().accepted.is_empty());
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn events_are_accepted_as_common_programs_write_them() {
    let app = TestApp::start();
    let event = r#"{"camera_id": "gate", "description": "Two\nlines", "confidence": 91.0,
        "timestamp": "2026-05-01T12:00:00+0200"}"#;
    for (path, body) in [(EVENTS, format!("\u{feff}{event}")), (BATCH, format!("\u{feff}[{event}]\r\n"))] {
        Answer::send(app.request(Method::POST, path).body(body)).await.expect(202);
    }
    let faults = app.post(EVENTS, &json!({"camera_id": "gate", "description": "a\u{0}b"})).await.faults();
    assert_eq!(faults, ["description"]);
    let faults = app.put("/api/v1/cameras/gate", &json!({"source_type": "rt\u{1b}sp"})).await.faults();
    assert_eq!(faults, ["source_type"]);
    assert_eq!(app.script().accepted.len(), 2);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_hostile_event_gets_a_response_of_limited_size() {
    let app = TestApp::start();
    let mut fields: serde_json::Map<_, _> = (0..3000).map(|i| (format!("f{i}"), Value::Null)).collect();
    fields.insert("ü".repeat(5000), Value::Null);
    let answer = app.post(EVENTS, &Value::Object(fields)).await;
    assert_eq!(answer.faults().len(), 101);
    assert!(answer.text.len() < 64 << 10, "{} bytes", answer.text.len());
    assert!(answer.text.contains("more errors"), "{}", answer.text);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_batch_is_accepted_in_order() {
    let app = TestApp::start();
    let batch: Vec<_> = (0..1000).map(|i| event(&format!("e{i}"))).collect();
    let answer = app.post(BATCH, &json!(batch)).await.expect(202);
    let accepted = answer["accepted"].as_array().unwrap();
    assert_eq!(accepted.len(), 1000);
    assert_eq!(accepted[999], json!({"event_id": "e999", "seq": 1000, "duplicate": false}));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_batch_with_one_invalid_event_is_refused_as_a_whole() {
    let app = TestApp::start();
    let bad = json!({"camera_id": "front_door", "description": "x", "confidence": 101});
    let faults = app.post(BATCH, &json!([event("a"), event("b"), bad, 7])).await.faults();
    assert_eq!(faults, ["[2].confidence", "[3]"]);
    assert!(app.script().accepted.is_empty());
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_batch_contains_1_to_1000_events() {
    let app = TestApp::start();
    assert_eq!(app.post(BATCH, &json!([])).await.faults(), [""]);
    assert_eq!(app.post(BATCH, &json!(event("a"))).await.faults(), [""]);
    assert_eq!(app.post(BATCH, &json!(vec![event("a"); 1001])).await.faults(), [""]);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_request_during_a_temporary_failure_gets_503_with_retry_after() {
    let app = TestApp::start();
    let full = PublishError::Full { pending: 10, max_pending: 10 };
    for (error, seconds) in [
        (full, "5"),
        (PublishError::Busy, "1"),
        (PublishError::Storage(StoreFault::DiskFull), "5"),
        (PublishError::Stopping, "5"),
    ] {
        app.script().publish_error = Some(error);
        for answer in [app.post(EVENTS, &event("a")).await, app.post(BATCH, &json!([event("a")])).await] {
            answer.problem(503);
            assert_eq!(answer.header("retry-after"), seconds);
            assert!(!answer.text.contains(&StoreFault::DiskFull.to_string()), "{}", answer.text);
        }
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn events_are_listed_newest_first_in_pages() {
    let app = TestApp::start();
    app.post(BATCH, &json!([event("a"), event("b"), event("c")])).await.expect(202);
    let page = app.get(&format!("{EVENTS}?limit=2")).await.expect(200);
    let ids = |page: &Value| -> Vec<_> {
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["event_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&page), ["c", "b"]);
    assert_eq!(page["next_before"], 2);
    let rest = app.get(&format!("{EVENTS}?limit=2&before=2")).await.expect(200);
    assert_eq!(ids(&rest), ["a"]);
    assert_eq!(rest["next_before"], Value::Null);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_event_is_returned_as_published_with_its_delivery_state() {
    let app = TestApp::start();
    app.post(EVENTS, &event("cam:7.a")).await.expect(202);
    let found = app.get(&format!("{EVENTS}/cam:7.a")).await.expect(200);
    assert_eq!(found["description"], "Person at the door");
    assert_eq!((&found["seq"], &found["camera_name"]), (&json!(1), &json!("front_door")));
    assert!(found["received_at"].as_str().unwrap().ends_with('Z'), "{found}");
    assert_eq!(
        found["delivery"],
        json!({"state": "pending", "delivered_at": null, "late": false, "heard": null, "reason": null})
    );
    let document = app.get("/openapi.json").await.expect(200);
    let schema = &document["components"]["schemas"]["EventRecord"];
    for name in found.as_object().unwrap().keys() {
        assert!(schema["properties"][name].is_object(), "{name} is not documented");
    }
    for name in schema["required"].as_array().unwrap() {
        assert!(found.get(name.as_str().unwrap()).is_some(), "{name} is missing");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_fields_of_an_event_are_in_the_order_in_which_they_are_published() {
    let app = TestApp::start();
    let event = json!({"event_id": "a", "camera_id": "door", "description": "x", "provider_used": "y"});
    app.post(EVENTS, &event).await.expect(202);
    let names = [
        "event_id",
        "camera_id",
        "camera_name",
        "description",
        "objects_detected",
        "confidence",
        "source_type",
        "smart_detection_type",
        "timestamp",
        "thumbnail_url",
        "seq",
        "provider_used",
        "received_at",
        "delivery",
    ];
    for path in [EVENTS.to_owned(), format!("{EVENTS}/a")] {
        let text = app.get(&path).await.text;
        let places = names.map(|name| text.find(&format!("\"{name}\":")).expect(name));
        assert!(places.is_sorted(), "{text}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_unknown_event_gets_404() {
    let app = TestApp::start();
    for id in ["nothing", "a%20b", "%00", "%FF", &"x".repeat(129)] {
        app.get(&format!("{EVENTS}/{id}")).await.problem(404);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn events_are_selected_by_words_objects_cameras_and_time() {
    let app = TestApp::start();
    let query =
        "camera_id=b,a&object=Person&q=red%20ca&from=2026-05-01T00:00:00%2B02:00&to=2026-05-02T00:00:00Z";
    app.get(&format!("{EVENTS}?{query}")).await.expect(200);
    let filter = app.script().listed.clone().unwrap().filter;
    let cameras: Vec<_> = filter.cameras.iter().map(|id| id.as_str().to_owned()).collect();
    assert_eq!((cameras, filter.object.as_deref()), (vec!["a".to_owned(), "b".to_owned()], Some("person")));
    let text = filter.text.unwrap();
    assert_eq!(
        (text.words.into_iter().collect::<Vec<_>>(), text.prefix),
        (vec!["red".to_owned()], "ca".to_owned())
    );
    assert_eq!((filter.to.unwrap() - filter.from.unwrap()).num_hours(), 26);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn events_are_counted_in_steps() {
    let app = TestApp::start();
    let density = format!("{EVENTS}/density");
    let period = "from=2026-05-01T00:00:00Z&to=2026-05-01T02:00:00Z";
    assert_eq!(
        app.get(&format!("{density}?{period}&before=9")).await.expect(200),
        json!({
            "from": "2026-05-01T00:00:00Z", "to": "2026-05-01T02:00:00Z", "step": 3600,
            "events": [1, 0], "next_before": 9,
        })
    );
    assert_eq!(app.get(&density).await.faults(), ["from", "to"]);
    let invalid = format!("{density}?{period}&step=1&q=-&camera_id=,&object=&before=0&limit=1");
    let faults = ["step", "q", "camera_id", "object", "before", "limit"];
    assert_eq!(app.get(&invalid).await.faults(), faults);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_invalid_query_parameter_is_reported() {
    let app = TestApp::start();
    let query = "camera_id=a/b&state=lost&before=0&limit=501&colour=red&limit=1";
    let faults = app.get(&format!("{EVENTS}?{query}")).await.faults();
    assert_eq!(faults, ["camera_id", "state", "before", "limit", "colour", "limit"]);
    assert!(app.script().listed.is_none());
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_query_while_the_database_is_unavailable_gets_503_without_the_cause() {
    let app = TestApp::start();
    app.script().query_error = Some(QueryError(StoreFault::Locked));
    for path in [EVENTS.to_owned(), format!("{EVENTS}/a")] {
        let answer = app.get(&path).await;
        answer.problem(503);
        assert_eq!(answer.header("retry-after"), "5");
        assert!(!answer.text.contains("locked"), "{}", answer.text);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_event_that_is_accepted_can_be_addressed() {
    let app = TestApp::start();
    let event = |id: &str| json!({"event_id": id, "camera_id": "a", "description": "x"});
    for id in [".", ".."] {
        assert_eq!(app.post(EVENTS, &event(id)).await.faults(), ["event_id"], "{id}");
        assert_eq!(app.post("/api/v1/events/batch", &json!([event(id)])).await.faults(), ["[0].event_id"]);
    }
    for id in ["batch", "...", ".a", "retry", "a:b"] {
        app.post(EVENTS, &event(id)).await.expect(202);
        let found = app.get(&format!("{EVENTS}/{id}")).await.expect(200);
        assert_eq!(found["event_id"], id);
    }
    app.stop().await;
}

const JPEG_BASE64: &str = "/9j/4AAEAQH/wAALCAABAAEBAREA/9oACAEBAAA/AH//AP/Z";

fn form(app: &TestApp, parts: &[(&str, &[u8])]) -> reqwest::RequestBuilder {
    with_form(app.request(Method::POST, EVENTS), parts)
}

fn with_picture(id: &str, picture: impl Into<Value>) -> Value {
    let mut event = event(id);
    event["thumbnail"] = picture.into();
    event
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_event_is_accepted_with_its_picture_as_a_form_and_in_json() {
    let app = TestApp::start();
    let text = event("form").to_string();
    Answer::send(form(&app, &[("event", text.as_bytes()), ("thumbnail", JPEG)])).await.expect(202);
    let broken =
        JPEG_BASE64.as_bytes().chunks(20).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\r\n");
    let accepted = [
        ("plain", JPEG_BASE64.to_owned()),
        ("url", format!("data:image/jpeg;base64,{JPEG_BASE64}")),
        ("lines", broken),
    ];
    for (id, picture) in &accepted {
        app.post(EVENTS, &with_picture(id, picture.as_str())).await.expect(202);
    }
    app.post(EVENTS, &with_picture("null", Value::Null)).await.expect(202);
    app.post(BATCH, &json!([event("first"), with_picture("second", JPEG_BASE64)])).await.expect(202);
    let without = form(&app, &[("event", event("alone").to_string().as_bytes())]);
    Answer::send(without).await.expect(202);
    {
        let script = app.script();
        let pictures: Vec<_> =
            script.thumbnails.iter().map(|(id, image)| (id.as_str(), image.as_ref() == JPEG)).collect();
        let expected = ["form", "plain", "url", "lines", "second"].map(|id| (id, true));
        assert_eq!(pictures, expected);
        assert_eq!(script.accepted.len(), 8);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_event_with_an_invalid_picture_is_refused_with_all_its_faults() {
    let app = TestApp::start();
    for picture in [json!("GIF89a"), json!("R0lGODlh"), json!(""), json!(7), json!("data:image/jpeg,x")] {
        assert_eq!(app.post(EVENTS, &with_picture("a", picture.clone())).await.faults(), ["thumbnail"]);
        let batch = json!([event("b"), with_picture("c", picture)]);
        assert_eq!(app.post(BATCH, &batch).await.faults(), ["[1].thumbnail"]);
    }
    let mut invalid = with_picture("a", "R0lGODlh");
    invalid["confidence"] = 101.into();
    assert_eq!(app.post(EVENTS, &invalid).await.faults(), ["confidence", "thumbnail"]);
    let text = event("a").to_string();
    let text = text.as_bytes();
    let (large_picture, large_event) =
        ([JPEG, &vec![0; 2 * 1024 * 1024]].concat(), vec![b' '; 64 * 1024 + 1]);
    for (parts, fault) in [
        (vec![("thumbnail", JPEG)], "event"),
        (vec![("event", text), ("thumbnail", b"GIF89a")], "thumbnail"),
        (vec![("event", text), ("thumbnail", &large_picture)], "thumbnail"),
        (vec![("event", &large_event)], "event"),
        (vec![("event", text), ("image", JPEG)], "image"),
        (vec![("event", text), ("event", text)], "event"),
    ] {
        assert_eq!(Answer::send(form(&app, &parts)).await.faults(), [fault]);
    }
    assert!(app.script().accepted.is_empty());
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_size_of_an_event_and_of_its_picture_is_limited() {
    let app = TestApp::start();
    let image = [JPEG, &vec![0; 2 * 1024 * 1024 - JPEG.len()]].concat();
    let text = event("a").to_string();
    let parts: [(&str, &[u8]); 2] = [("event", text.as_bytes()), ("thumbnail", &image)];
    Answer::send(form(&app, &parts)).await.expect(202);
    let mut large = with_picture("b", JPEG_BASE64);
    large["description"] = "x".repeat(64 * 1024).into();
    app.post(EVENTS, &large).await.problem(413);
    assert_eq!(app.post(BATCH, &json!([large])).await.faults(), ["[0]"]);
    app.post(EVENTS, &with_picture("b", "A".repeat(3 * 1024 * 1024))).await.problem(413);
    let malformed = app.request(Method::POST, EVENTS).header("Content-Type", "multipart/form-data");
    Answer::send(malformed.body("x")).await.problem(400);
    let unfinished = "--cut\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n{";
    let unfinished = app.request(Method::POST, EVENTS).body(unfinished);
    let unfinished = unfinished.header("Content-Type", "multipart/form-data; boundary=cut");
    Answer::send(unfinished).await.problem(400);
    assert_eq!(app.script().accepted.len(), 1);
    app.stop().await;
}
