//! A standby answers everything through the active node.

use liveobject_test_support::{Api, Postgres, Service, free_port, wait_until};
use reqwest::{
    Method,
    header::{HOST, ORIGIN},
};
use serde_json::{Value, json};

use crate::helpers::{Pair, TIMEOUT, event, service, stop, try_get};

const URL: &str = "LIVEOBJECT__DATABASE__URL";
const NODE_NAME: &str = "LIVEOBJECT__DATABASE__NODE_NAME";
const NODE_URL: &str = "LIVEOBJECT__DATABASE__NODE_URL";

fn database() -> String {
    let postgres = Postgres::shared();
    postgres.url(&postgres.create_database())
}

/// Starts two nodes. The first one is active.
async fn two_nodes() -> (Service, Service) {
    let url = database();
    let active = service().env(URL, &url).env(NODE_NAME, "attic").start().await;
    let standby = service().env(URL, &url).env(NODE_NAME, "garage").start().await;
    let ready = standby.without_token().get("/health/ready").await.expect(200);
    assert_eq!(ready, json!({ "status": "standby", "active": "attic" }));
    (active, standby)
}

/// Returns the value of a metric of a node.
pub async fn metric(node: &Service, name: &str) -> String {
    let metrics = node.without_token().get("/metrics").await.expect(200);
    let text = metrics.as_str().expect("it is text");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

#[tokio::test]
async fn a_standby_forwards_requests_with_the_token_of_the_caller() {
    let (mut active, mut standby) = two_nodes().await;
    let mut stream = standby.stream("").await;
    let receipt = standby.post_event(&event("a")).await.expect(202);
    assert_eq!((&receipt["seq"], &receipt["duplicate"]), (&json!(1), &json!(false)));
    let again = active.post_event(&event("a")).await.expect(202);
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));
    stream.wait_for("the event", TIMEOUT, |message| message.data["event_id"] == "a").await;

    let token =
        standby.post("/api/v1/tokens", &json!({ "name": "reader", "scopes": ["read"] })).await.expect(201);
    let reader = standby.with_token(token["token"].as_str().unwrap());
    assert_eq!(reader.get("/api/v1/events/a").await.expect(200)["event_id"], "a");
    let _ = reader.post_event(&event("b")).await.expect(403);
    let _ = standby.with_token("wrong").get("/api/v1/events").await.expect(401);
    let _ = standby.without_token().get("/api/v1/events").await.expect(401);
    let page = standby.without_token().get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));

    let mut nodes = standby.get("/api/v1/service").await.expect(200)["nodes"].clone();
    wait_until("both nodes have beaten twice", TIMEOUT, async || {
        nodes = standby.get("/api/v1/service").await.expect(200)["nodes"].clone();
        nodes[1]["state"] == "standby"
    })
    .await;
    let shown = |node: &Value| json!([node["name"], node["url"], node["state"]]);
    let url = |node: &Service| format!("http://127.0.0.1:{}", node.port());
    assert_eq!(shown(&nodes[0]), json!(["attic", url(&active), "active"]));
    assert_eq!(shown(&nodes[1]), json!(["garage", url(&standby), "standby"]));

    let health = standby.run(&["health"]).await;
    assert_eq!((health.code, health.stdout.trim()), (0, "this node is on standby; attic is the active node"));

    assert_eq!(metric(&active, "liveobject_log_owned{log=\"0\"}").await, "1");
    assert_eq!(metric(&standby, "liveobject_log_owned{log=\"0\"}").await, "0");
    assert_eq!(metric(&active, "liveobject_lease_trusted").await, "1");
    assert_eq!(metric(&active, "liveobject_takeovers_total").await, "1");
    wait_until("the standby has seen both", TIMEOUT, async || {
        metric(&standby, "liveobject_nodes_alive").await == "2"
    })
    .await;
    assert!(metric(&standby, "liveobject_forwarded_total").await.parse::<u32>().unwrap() >= 8);
    stop(&mut standby).await;
    stop(&mut active).await;
}

#[tokio::test]
async fn other_websites_cannot_use_a_standby_and_clients_cannot_pretend_to_be_a_node() {
    let (mut active, mut standby) = two_nodes().await;
    let status = async |node: &Service, headers: &[(&str, String)]| {
        let mut request = node.without_token().request(Method::GET, "/session");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        Api::try_send(request).await.unwrap().status
    };
    let (host, origin) = (HOST.as_str(), ORIGIN.as_str());
    let own = format!("http://127.0.0.1:{}", standby.port());
    assert_eq!(status(&standby, &[]).await, 200);
    assert_eq!(status(&standby, &[(origin, own)]).await, 200);
    assert_eq!(status(&standby, &[(origin, "http://evil.example".to_owned())]).await, 403);
    assert_eq!(status(&standby, &[(host, "evil.example".to_owned())]).await, 403);
    // The active node believes the headers only if they come from a node.
    let forged = uuid::Uuid::new_v4().to_string();
    let evil = [
        ("liveobject-node", forged),
        ("x-forwarded-host", "evil.example".to_owned()),
        (origin, "http://evil.example".to_owned()),
    ];
    assert_eq!(status(&active, &evil).await, 403);
    stop(&mut standby).await;
    stop(&mut active).await;
}

#[tokio::test]
async fn requests_are_forwarded_over_tls_if_the_certificate_is_valid() {
    let (pair, url, port) = (Pair::new(), database(), free_port());
    let certificate = pair.renew();
    let node_url = format!("https://localhost:{port}");
    let mut active =
        service().config(&pair.config()).port(port).env(URL, &url).env(NODE_URL, &node_url).build();
    active.spawn();
    wait_until("the active node responds", TIMEOUT, async || {
        try_get(port, &certificate, "/health/ready", "")
            .await
            .is_ok_and(|answer| answer.text.contains("ready"))
    })
    .await;
    let trusting = service().env(URL, &url).env("SSL_CERT_FILE", pair.certificate.display()).start().await;
    assert_eq!(trusting.post_event(&event("a")).await.expect(202)["seq"], 1);

    let suspicious = service().env(URL, &url).env("SSL_CERT_FILE", "/dev/null").start().await;
    let problem = suspicious.post_event(&event("b")).await.expect(503);
    assert!(
        problem["detail"].as_str().unwrap().contains("cannot be reached at https://localhost"),
        "{problem}"
    );
    for mut node in [suspicious, trusting, active] {
        stop(&mut node).await;
    }
}
