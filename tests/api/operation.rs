//! Health, metrics, and the OpenAPI document.

use std::time::Duration;

use liveobject_actors::domain::{event_log::QueryError, store_fault::StoreFault, token::Scope};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::helpers::{Answer, KNOWN_CAMERA, TestApp};

/// The server waits two seconds for the outbox; the rest is for a busy machine.
const READINESS_MAX: Duration = Duration::from_secs(4);

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_stopping_service_is_live_but_not_ready() {
    let app = TestApp::start();
    assert_eq!(app.get("/health/ready").await.expect(200), json!({"status": "ready"}));
    app.state.stop();
    let answer = app.get("/health/ready").await;
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(app.get("/health/live").await.expect(200), json!({"status": "live"}));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_service_whose_outbox_hangs_is_not_ready() {
    let app = TestApp::start();
    app.script().outbox_hangs = true;
    // The outbox never responds: any response at all shows that the server stops waiting for it.
    timeout(READINESS_MAX, app.get("/health/ready")).await.expect("a response in time").problem(503);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn requests_are_counted_by_route_pattern() {
    let app = TestApp::start();
    app.get("/api/v1/events/a").await.problem(404);
    app.get("/api/v1/events/b").await.problem(404);
    Answer::send(app.request(Method::DELETE, "/api/v1/events")).await.problem(405);
    app.get("/nothing/at/all").await.problem(404);
    app.get("/api/v1/nothing").await.problem(404);
    Answer::send(app.request(Method::from_bytes(b"BREW").unwrap(), "/health/live")).await.problem(405);
    let answer = app.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for labels in [
        r#"{method="GET",route="/api/v1/events/{event_id}",status="404"} 2"#,
        r#"{method="DELETE",route="/api/v1/events",status="405"} 1"#,
        r#"{method="GET",route="unmatched",status="404"} 2"#,
        r#"{method="other",route="/health/live",status="405"} 1"#,
    ] {
        let line = format!("liveobject_http_request_duration_seconds_count{labels}");
        assert!(answer.text.lines().any(|l| l == line), "{line} is missing in\n{}", answer.text);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn outages_are_reported_with_what_became_of_their_events() {
    let app = TestApp::start();
    let from = "2026-01-31T18:00:00Z";
    let list = app.get(&format!("/api/v1/outages?from={from}")).await.expect(200);
    let outage = json!({"id": 1, "kind": "broker_away", "reason": "refused", "from": from, "to": null,
        "events": 3, "waiting": 2, "late": 0, "dead": 0, "outcome": "waiting"});
    assert_eq!(list, json!({"recorded_from": from, "outages": [outage]}));
    app.get("/api/v1/outages?from=yesterday").await.problem(422);
    app.script().query_error = Some(QueryError(StoreFault::Locked));
    app.get("/api/v1/outages").await.problem(503);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_range_of_the_history_reports_what_is_not_known() {
    let app = TestApp::start();
    let history = app.get("/api/v1/history?range=24h").await.expect(200);
    assert_eq!(history["interval_seconds"], 300);
    let [unknown, known] = [0, 1].map(|i| history["points"][i].clone());
    assert_eq!((&unknown["state"], &unknown["events"]), (&json!("not_running"), &json!(null)));
    assert_eq!((&known["state"], &known["events"], &known["dead"]), (&json!("known"), &json!(3), &json!(0)));
    app.get("/api/v1/history?range=1y").await.problem(422);
    // Without a range, the response is that of earlier releases.
    assert_eq!(app.get("/api/v1/history").await.expect(200)["interval_seconds"], 15);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_service_reports_its_version_addresses_and_storage() {
    let app = TestApp::with_public_url("http://cams.lan");
    let service = app.get("/api/v1/service").await.expect(200);
    assert!(service["version"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION")), "{service}");
    assert_eq!((&service["urls"][0], &service["local_only"]), (&json!("http://cams.lan"), &json!(false)));
    assert!(service["uptime_seconds"].is_u64(), "{service}");
    assert_eq!(service["database"], json!({ "engine": "sqlite", "name": "/data/liveobject.db" }));
    assert_eq!((&service["database_bytes"], &service["disk_free_bytes"]), (&json!(null), &json!(null)));
    assert_eq!(service["nodes"], json!([]));
    let events = json!({"count": 0, "oldest_at": "1970-01-01T00:00:00Z", "retention_days": 7});
    assert_eq!(service["events"], events);
    assert_eq!(service["pictures"], json!({"count": 2, "bytes": 3000, "max_bytes": 2_147_483_648_u64}));
    for link in ["documentation_url", "changelog_url"] {
        assert!(service[link].as_str().unwrap().starts_with("https://"), "{service}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn what_cannot_be_read_about_the_service_is_null_and_the_rest_is_reported() {
    let app = TestApp::start();
    app.script().query_error = Some(QueryError(StoreFault::Locked));
    let service = app.get("/api/v1/service").await.expect(200);
    assert_eq!((&service["events"]["count"], &service["events"]["oldest_at"]), (&json!(null), &json!(null)));
    assert_eq!((&service["events"]["retention_days"], &service["pictures"]["count"]), (&json!(7), &json!(2)));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_service_reports_who_the_caller_is() {
    let app = TestApp::start();
    let service = app.get("/api/v1/service").await.expect(200);
    assert_eq!(service["caller"], json!({"kind": "administrator", "name": null, "scopes": ["admin"]}));
    let token = app.token_for(&[Scope::Read, Scope::EventsWrite]);
    let request = app.anonymous(Method::GET, "/api/v1/service").bearer_auth(token);
    let service = Answer::send(request).await.expect(200);
    let scopes = json!(["events:write", "read"]);
    assert_eq!(service["caller"], json!({"kind": "token", "name": "one", "scopes": scopes}));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_user_of_home_assistant_has_no_token() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let service = Answer::send(app.anonymous(Method::GET, "/api/v1/service")).await.expect(200);
    assert_eq!(service["caller"], json!({"kind": "home_assistant", "name": null, "scopes": ["admin"]}));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_documented_route_is_served() {
    let app = TestApp::start();
    let document = app.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    let document = document.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let version = app.page_version().await;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let path = path.replace("{event_id}", "a").replace("{camera_id}", KNOWN_CAMERA);
            let path =
                path.replace("{name}", "a").replace("{file}", "main.js").replace("{version}", &version);
            // The replay of the test application.
            let path = path.replace("{id}", "7");
            app.post("/api/v1/events", &json!({"event_id": "a", "camera_id": "a", "description": "x"})).await;
            // Sent as the page does, because only the page may sign in and out. Only the status: a stream's
            // body never ends.
            let call = app.request(method.clone(), &path).header("Sec-Fetch-Site", "same-origin");
            let status = call.send().await.unwrap().status().as_u16();
            assert!(![401, 403, 404, 405, 500].contains(&status), "{method} {path}: {status}");
            let documented = &item[method.as_str().to_ascii_lowercase()]["responses"][status.to_string()];
            assert!(documented.is_object(), "{method} {path}: {status} is not documented");
        }
    }
    app.stop().await;
}
