//! A standby answers everything through the active node.

use liveobject_test_support::{Api, Postgres, Service, free_port, wait_until};
use reqwest::{
    Method,
    header::{HOST, ORIGIN},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::helpers::{Pair, TIMEOUT, event, service, stop, try_get};

const URL: &str = "LIVEOBJECT__DATABASE__URL";
const NODE_NAME: &str = "LIVEOBJECT__DATABASE__NODE_NAME";
const NODE_URL: &str = "LIVEOBJECT__DATABASE__NODE_URL";
const IDENTITY: &str = "LIVEOBJECT_IDENTITY_FILE";

fn database() -> String {
    let postgres = Postgres::shared();
    postgres.url(&postgres.create_database())
}

/// Starts two nodes with the same identity. The first one is active.
async fn two_nodes() -> (Service, Service) {
    two_nodes_on(&database()).await
}

async fn two_nodes_on(url: &str) -> (Service, Service) {
    let active = service().env(URL, url).env(NODE_NAME, "attic").start().await;
    let identity = active.data_dir().join("identity.age");
    let standby = service().env(URL, url).env(NODE_NAME, "garage").env(IDENTITY, identity.display());
    let standby = standby.start().await;
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

/// Returns the status of the response to a request with these headers.
async fn status(node: &Service, headers: &[(&str, String)]) -> u16 {
    let mut request = node.without_token().request(Method::GET, "/session");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Api::try_send(request).await.expect("a response").status
}

#[tokio::test]
async fn other_websites_cannot_use_a_standby_and_clients_cannot_pretend_to_be_a_node() {
    let postgres = Postgres::shared();
    let name = postgres.create_database();
    let (mut active, mut standby) = two_nodes_on(&postgres.url(&name)).await;
    let (host, origin) = (HOST.as_str(), ORIGIN.as_str());
    let own = format!("http://127.0.0.1:{}", standby.port());
    assert_eq!(status(&standby, &[]).await, 200);
    assert_eq!(status(&standby, &[(origin, own)]).await, 200);
    assert_eq!(status(&standby, &[(origin, "http://evil.example".to_owned())]).await, 403);
    assert_eq!(status(&standby, &[(host, "evil.example".to_owned())]).await, 403);
    let evil = [
        ("x-forwarded-host", "evil.example".to_owned()),
        ("forwarded", "host=evil.example".to_owned()),
        (origin, "http://evil.example".to_owned()),
    ];
    assert_eq!(status(&standby, &evil).await, 403, "a standby does not pass these on");
    // The active node believes the headers only if they come from a node. What is in the database is no proof.
    let boot = postgres.execute(&name, "SELECT boot FROM liveobject.node WHERE name = 'garage'");
    for forged in [uuid::Uuid::new_v4().to_string(), boot.clone(), format!("{boot}.{}", "0".repeat(64))] {
        let evil = [evil.as_slice(), &[("liveobject-node", forged.clone())]].concat();
        assert_eq!(status(&active, &evil).await, 403, "{forged}");
    }
    stop(&mut standby).await;
    stop(&mut active).await;
}

#[tokio::test]
async fn a_node_with_another_identity_forwards_without_a_proof() {
    let url = database();
    let mut active = service().env(URL, &url).start().await;
    let mut standby = service().env(URL, &url).start().await;
    assert_eq!(standby.post_event(&event("a")).await.expect(202)["seq"], 1);
    let own = format!("http://127.0.0.1:{}", standby.port());
    assert_eq!(status(&standby, &[(ORIGIN.as_str(), own)]).await, 200);
    stop(&mut standby).await;
    stop(&mut active).await;
}

#[tokio::test]
async fn requests_that_a_suspended_node_has_are_answered_when_the_standby_takes_over() {
    let (mut active, mut standby) = two_nodes().await;
    let mut stream = standby.stream("").await;
    active.freeze();
    let sent = standby.post_event(&event("a")).await;
    assert_eq!((sent.status, sent.header("retry-after")), (503, "1"), "{}", sent.body);
    assert_eq!(sent.body["detail"], "another node owns the event log; repeat the request");
    // An error would show that the stream was cut off.
    while stream.response.chunk().await.unwrap().is_some() {}
    wait_until("the standby has taken over", TIMEOUT, async || {
        standby.try_post("/api/v1/events", &event("a")).await.is_ok_and(|answer| answer.status == 202)
    })
    .await;
    active.thaw();
    stop(&mut standby).await;
    stop(&mut active).await;
}

#[tokio::test]
async fn requests_that_wait_for_the_active_node_are_answered_when_the_standby_stops() {
    let (mut active, mut standby) = two_nodes().await;
    active.freeze();
    let forwarded = metric(&standby, "liveobject_forwarded_total").await;
    let (api, id) = (standby.api(), event("a"));
    let request = async { api.post_event(&id).await };
    let stopping = async {
        wait_until("the request is under way", TIMEOUT, async || {
            metric(&standby, "liveobject_forwarded_total").await != forwarded
        })
        .await;
        stop(&mut standby).await;
    };
    let (sent, ()) = tokio::join!(request, stopping);
    assert_eq!((sent.status, sent.header("retry-after")), (503, "1"), "{}", sent.body);
    active.thaw();
    stop(&mut active).await;
}

/// Returns the first line of the response to a request with this first line.
async fn status_line(node: &Service, request: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", node.port())).await.expect("it listens");
    let head = format!("{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).await.expect("it reads");
    let mut response = String::new();
    BufReader::new(connection).read_line(&mut response).await.expect("a response");
    response
}

#[tokio::test]
async fn a_standby_refuses_the_methods_that_the_active_node_refuses() {
    let (mut active, mut standby) = two_nodes().await;
    for request in ["TRACE /session", "CONNECT /session", "BREW /session"] {
        for node in [&active, &standby] {
            let line = status_line(node, request).await;
            assert!(line.contains(" 405 "), "{request}: {line}");
        }
    }
    let line = status_line(&standby, "CONNECT example.org:443").await;
    assert!(line.contains(" 405 "), "{line}");
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
