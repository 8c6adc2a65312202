//! Forwarding between two real servers.

use std::net::{SocketAddr, TcpListener};

use actix_web::{App, HttpServer, ResponseError as _, dev::ServerHandle, web};
use awc::http::StatusCode;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;

/// A server that ends with the test.
struct Served {
    address: SocketAddr,
    handle: ServerHandle,
}

impl Served {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn stop(self) {
        self.handle.stop(false).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a test notices if its server has ended")]
fn serve(configure: impl Fn(&mut web::ServiceConfig) + Send + Clone + 'static) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Served { address, handle }
}

const CLIENT: [u8; 4] = [192, 0, 2, 7];

/// Forwards everything to this address, with a proof.
fn standby(active: SocketAddr) -> Served {
    standby_until(active, Some("secret"), &watch::Sender::new(None))
}

/// Forwards everything to this address, until `ended` is set.
fn standby_until(active: SocketAddr, proof: Option<&str>, ended: &watch::Sender<Option<Ended>>) -> Served {
    let target =
        Target { name: "a".to_owned(), url: format!("http://{active}"), proof: proof.map(str::to_owned) };
    let ended = ended.clone();
    serve(move |config| {
        let (target, ended) = (target.clone(), ended.clone());
        let handler = move |request: HttpRequest, payload: Payload| {
            let (target, mut ended) = (target.clone(), ended.subscribe());
            let ending: Ending =
                Box::pin(async move { ended.wait_for(Option::is_some).await.unwrap().unwrap() });
            async move {
                let forwarded = forward(&target, CLIENT.into(), &request, payload, ending).await;
                forwarded.unwrap_or_else(|problem| problem.error_response())
            }
        };
        config.default_service(web::to(handler));
    })
}

/// Responds with what it has received.
async fn echo(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let text = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
    HttpResponse::Created()
        .append_header(("Set-Cookie", "a=1"))
        .append_header(("Set-Cookie", "b=2"))
        .append_header(("X-Request-Id", "7"))
        .json(json!({
            "method": request.method().as_str(), "uri": request.uri().to_string(),
            "headers": headers, "text": text, "length": body.len(),
        }))
}

fn active() -> Served {
    serve(|config| {
        config.app_data(web::PayloadConfig::new(64 << 20)).default_service(web::to(echo));
    })
}

fn values<'a>(echoed: &'a Value, name: &str) -> Vec<&'a str> {
    let all = echoed["headers"].as_array().unwrap().iter();
    all.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap()).collect()
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_request_arrives_as_it_was_sent_with_its_client_and_host() {
    let (active, client) = (active(), Client::default());
    let standby = standby(active.address);
    let mut response = client
        .put(standby.url("/api/v1/x%2Fy?a=b%20c&d"))
        .insert_header(("Authorization", "Bearer t"))
        .insert_header(("X-Forwarded-For", "198.51.100.1"))
        .insert_header(("X-Forwarded-Host", "evil.example"))
        .insert_header(("X-Forwarded-Server", "evil.example"))
        .insert_header(("Forwarded", "for=198.51.100.1;host=evil.example"))
        .send_body("body")
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let cookies: Vec<_> = response.headers().get_all("set-cookie").map(|v| v.to_str().unwrap()).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(response.headers().get("x-request-id").unwrap(), "7");
    let echoed: Value = response.json().await.unwrap();
    assert_eq!((&echoed["method"], &echoed["uri"]), (&json!("PUT"), &json!("/api/v1/x%2Fy?a=b%20c&d")));
    assert_eq!((&echoed["text"], &echoed["length"]), (&json!("body"), &json!(4)));
    assert_eq!(values(&echoed, "authorization"), ["Bearer t"]);
    assert_eq!(values(&echoed, "host"), [active.address.to_string()]);
    assert_eq!(values(&echoed, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&echoed, "x-forwarded-host"), [standby.address.to_string()]);
    assert_eq!(values(&echoed, "x-forwarded-proto"), ["http"]);
    for claimed in ["x-forwarded-server", "forwarded"] {
        assert!(values(&echoed, claimed).is_empty(), "{claimed}: only what this node believes is passed on");
    }
    assert_eq!(values(&echoed, "liveobject-node"), ["secret"]);
    assert_eq!(values(&echoed, "content-length"), ["4"]);
    active.stop().await;
    standby.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn bodies_of_any_size_and_kind_are_forwarded() {
    let (active, client) = (active(), Client::default());
    let standby = standby(active.address);
    let large = vec![b'x'; 8 << 20];
    let mut response = client.post(standby.url("/")).send_body(large.clone()).await.unwrap();
    let echoed: Value = response.json().await.unwrap();
    assert_eq!(echoed["length"], large.len());
    let parts = stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(web::Bytes::from_static(b"chunk"))));
    let mut response = client.post(standby.url("/")).send_stream(parts).await.unwrap();
    let echoed: Value = response.json().await.unwrap();
    assert_eq!((&echoed["length"], values(&echoed, "content-length").len()), (&json!(500), 0));
    let mut response = client.get(standby.url("/")).send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["length"], 0);
    let mut head = client.head(standby.url("/")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::CREATED);
    assert!(head.headers().contains_key("content-length") && head.body().await.unwrap().is_empty());
    active.stop().await;
    standby.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_stream_arrives_while_it_goes_on_and_its_end_ends_both_connections() {
    let (sender, receiver) = mpsc::unbounded_channel::<web::Bytes>();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
    let active = serve(move |config| {
        let receiver = std::sync::Arc::clone(&receiver);
        config.default_service(web::to(move || {
            let mut receiver = receiver.lock().unwrap().take().unwrap();
            let parts = stream::poll_fn(move |cx| {
                receiver.poll_recv(cx).map(|part| part.map(Ok::<_, std::io::Error>))
            });
            async move { HttpResponse::Ok().content_type("text/event-stream").streaming(parts) }
        }));
    });
    let standby = standby(active.address);
    let mut response = Client::default().get(standby.url("/")).send().await.unwrap();
    for part in ["one", "two"] {
        sender.send(web::Bytes::from(part)).unwrap();
        assert_eq!(response.next().await.unwrap().unwrap(), part);
    }
    drop(response);
    // With the next parts, the standby notices the end and closes its connection, too, so that the active node does not
    // keep a stream that nobody reads.
    let closed = async {
        while sender.send(web::Bytes::from("more")).is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), closed).await.is_ok());
    active.stop().await;
    standby.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn what_cannot_be_forwarded_is_a_problem_that_may_be_repeated() {
    let (active, client) = (active(), Client::default());
    let standby = standby(active.address);
    let twice = client.get(standby.url("/")).insert_header(("Liveobject-Node", "x")).send().await.unwrap();
    assert_eq!(twice.status(), StatusCode::SERVICE_UNAVAILABLE);
    active.stop().await;
    let mut refused = client.get(standby.url("/")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers().get("retry-after").unwrap(), "1");
    let problem: Value = refused.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("the active node a cannot be reached"), "{problem}");
    // It accepts the connection, and ends it without a response.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let behind = self::standby(silent.local_addr().unwrap());
    std::thread::spawn(move || drop(silent.accept()));
    let mut unknown = client.post(behind.url("/")).send_body("x").await.unwrap();
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = unknown.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("may have been processed"), "{problem}");
    standby.stop().await;
    behind.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn without_a_proof_the_active_node_sees_the_host_that_the_client_has_sent() {
    let active = active();
    let standby = standby_until(active.address, None, &watch::Sender::new(None));
    let mut response = Client::default().get(standby.url("/")).send().await.unwrap();
    let echoed: Value = response.json().await.unwrap();
    assert_eq!(values(&echoed, "host"), [standby.address.to_string()]);
    assert_eq!(values(&echoed, "liveobject-node"), ["-"]);
    active.stop().await;
    standby.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_request_that_the_active_node_does_not_answer_ends_when_another_one_takes_over_or_this_one_stops() {
    let suspended = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (ended, part) in
        [(Ended::TakenOver, "another node owns the event log"), (Ended::Stopping, "may have")]
    {
        let sender = watch::Sender::new(None);
        let standby = standby_until(suspended.local_addr().unwrap(), Some("secret"), &sender);
        let client = Client::builder().disable_timeout().finish();
        let (_open, sent) = futures_util::future::join(
            async {
                // The request is under way.
                let open = suspended.accept().await.unwrap();
                sender.send_replace(Some(ended));
                open
            },
            client.post(standby.url("/api/v1/events")).send_body("x"),
        )
        .await;
        let mut response = sent.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
        standby.stop().await;
    }
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn when_another_node_takes_over_an_event_stream_ends_and_any_other_body_is_cut_off() {
    let active = serve(|config| {
        let parts = || {
            let first = stream::once(async { Ok::<_, std::io::Error>(web::Bytes::from("first")) });
            first.chain(stream::pending())
        };
        let events =
            move || async move { HttpResponse::Ok().content_type("text/event-stream").streaming(parts()) };
        let chunked = move || async move { HttpResponse::Ok().streaming(parts()) };
        let sized = move || async move { HttpResponse::Ok().body(SizedStream::new(100, parts())) };
        config
            .route("/events", web::get().to(events))
            .route("/chunked", web::get().to(chunked))
            .route("/sized", web::get().to(sized));
    });
    let sender = watch::Sender::new(None);
    let standby = standby_until(active.address, Some("secret"), &sender);
    let mut responses = Vec::new();
    for path in ["/events", "/chunked", "/sized"] {
        // The client of actix does not notice that a body is incomplete.
        let mut response = reqwest::get(standby.url(path)).await.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "first");
        responses.push(response);
    }
    sender.send_replace(Some(Ended::TakenOver));
    let mut ends = Vec::new();
    for response in &mut responses {
        ends.push(response.chunk().await.map(|part| part.is_none()).ok());
    }
    assert_eq!(ends, [Some(true), None, None]);
    active.stop().await;
    standby.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn methods_that_the_api_does_not_have_are_not_forwarded() {
    let (active, client) = (active(), Client::default());
    let standby = standby(active.address);
    for method in [Method::TRACE, Method::from_bytes(b"BREW").unwrap()] {
        let refused = client.request(method, standby.url("/")).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(refused.headers().get("allow").unwrap().to_str().unwrap().contains("POST"));
    }
    active.stop().await;
    standby.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_active_node_that_accepts_a_request_and_is_silent_is_given_up_after_75_s() {
    tokio::time::pause();
    let (start, progress) = (Instant::now(), Cell::new(Instant::now()));
    let sending = async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        progress.set(Instant::now());
    };
    futures_util::future::join(silence(&progress), sending).await;
    assert_eq!(start.elapsed().as_secs(), 60 + 75, "a part of the request was sent after 60 s");
    for (is_stream, expected) in [(true, None), (false, Some(io::ErrorKind::TimedOut))] {
        let (start, never) = (Instant::now(), stream::pending::<Result<Bytes, PayloadError>>());
        let mut body = returned_body(never, is_stream, Box::pin(std::future::pending()));
        assert_eq!(body.next().await.map(|part| part.unwrap_err().kind()), expected);
        assert_eq!(start.elapsed().as_secs(), 75);
        assert!(body.next().await.is_none());
    }
}

#[test]
fn headers_that_concern_only_one_connection_are_not_copied() {
    let (mut from, mut to) = (HeaderMap::new(), HeaderMap::new());
    for (name, value) in [
        ("connection", "keep-alive, X-Private"),
        ("x-private", "1"),
        ("keep-alive", "5"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("content-length", "3"),
        ("liveobject-node", "forged"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-prefix", "/x"),
        ("accept", "a"),
        ("accept", "b"),
    ] {
        from.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    copy(&from, &mut to);
    let copied: Vec<_> = to.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(copied, [("accept", "a"), ("accept", "b")]);
}
