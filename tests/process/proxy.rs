//! The service behind a real nginx and a real Caddy, with the configurations from the documentation.

use std::net::{IpAddr, Ipv4Addr};

use liveobject_test_support::{EventStream, ReverseProxy, Service, free_port};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder};
use serde_json::json;
use tokio::net::TcpListener;

use crate::helpers::{TIMEOUT, event, picture, service};

const DOCUMENTATION: &str = include_str!("../../docs/proxy.md");
const NAME: &str = "cams.example.test";
/// More than nginx accepts by default.
const PICTURE_BYTES: usize = 2_000_000;

/// The service behind a proxy, under this URL.
struct Behind {
    service: Service,
    proxy: ReverseProxy,
    url: String,
}

impl Behind {
    /// Starts nginx and the service, with the documented location and the service under a path.
    async fn nginx_path() -> Self {
        Self::nginx(&documented("nginx"), "127.0.0.1", "/liveobject").await
    }

    /// Starts nginx and the service, with the service under a host name of its own.
    async fn nginx_name() -> Self {
        let location = "location / { proxy_pass http://127.0.0.1:8080; client_max_body_size 20m; }";
        Self::nginx(location, NAME, "").await
    }

    /// Starts Caddy and the service, with the documented Caddyfile and the service under a path.
    async fn caddy_path() -> Self {
        Self::caddy("127.0.0.1", "/liveobject").await
    }

    /// Starts Caddy and the service, with the documented Caddyfile and the service under a host name of its own.
    async fn caddy_name() -> Self {
        Self::caddy(NAME, "").await
    }

    async fn nginx(location: &str, host: &str, path: &str) -> Self {
        let port = free_port();
        let server =
            format!("server {{ listen 127.0.0.1:PORT; server_name {host};\n{}\n}}", upstream(location, port));
        let nginx = ReverseProxy::nginx(&server).await;
        Self::start(port, nginx, host, path).await
    }

    async fn caddy(host: &str, path: &str) -> Self {
        let port = free_port();
        // Without TLS, since a certificate for the documented names needs a network.
        let sites = documented("caddy")
            .replace("cams.example.org", &format!("http://{NAME}:PORT"))
            .replace("example.org", "http://127.0.0.1:PORT");
        let caddy = ReverseProxy::caddy(&upstream(&sites, port)).await;
        Self::start(port, caddy, host, path).await
    }

    async fn start(port: u16, proxy: ReverseProxy, host: &str, path: &str) -> Self {
        let url = format!("http://{host}:{}{path}", proxy.port());
        let config = format!("[http]\npublic_url = \"{url}\"\ntrusted_proxies = [\"127.0.0.1\"]\n");
        let service = service().config(&config).port(port).start().await;
        Self { service, proxy, url }
    }

    fn client(&self) -> ClientBuilder {
        Client::builder().no_proxy().resolve(NAME, (Ipv4Addr::LOCALHOST, self.proxy.port()).into())
    }

    /// Builds a request as the page sends it.
    fn page_request(&self, client: &Client, method: Method, path: &str) -> RequestBuilder {
        let end = self.url.find("/liveobject").unwrap_or(self.url.len());
        client.request(method, format!("{}{path}", self.url)).header("Origin", &self.url[..end])
    }
}

/// Returns the first example in this language from the documentation.
fn documented(language: &str) -> String {
    let example =
        DOCUMENTATION.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    example.expect("an example").to_owned()
}

/// Replaces the service's port in a configuration.
fn upstream(config: &str, port: u16) -> String {
    config.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
}

#[tokio::test]
async fn page_sign_in_events_pictures_and_live_stream_work_behind_nginx_and_caddy_under_a_path_and_a_name() {
    let nginx = [Behind::nginx_path().await, Behind::nginx_name().await];
    let caddy = [Behind::caddy_path().await, Behind::caddy_name().await];
    for behind in nginx.into_iter().chain(caddy) {
        let client = behind.client().build().expect("a client");
        // As people type it.
        let page = client.get(&behind.url).send().await.expect("a response").text().await.expect("text");
        assert!(page.contains("<title>liveobject"), "{}: {page}", behind.url);
        for file in ["/", "/page/main.js"] {
            let response = behind.page_request(&client, Method::GET, file).send().await.expect("a response");
            assert_eq!(response.status(), 200, "{} {file}", behind.url);
        }

        let sign_in = behind.page_request(&client, Method::POST, "/session");
        let response =
            sign_in.json(&json!({ "token": behind.service.token() })).send().await.expect("a response");
        assert_eq!(response.status(), 200, "{}", behind.url);
        let cookie = response.headers()["set-cookie"].to_str().expect("text");
        let cookie = cookie.split(';').next().expect("a cookie").to_owned();
        let with_cookie =
            |method, path: &str| behind.page_request(&client, method, path).header("Cookie", &cookie);

        let mut stream = EventStream::open(with_cookie(Method::GET, "/api/v1/stream")).await;
        assert_eq!(stream.response.status(), 200);
        let post = with_cookie(Method::POST, "/api/v1/events").json(&event("a-1"));
        assert_eq!(post.send().await.expect("a response").status(), 202);
        while !stream.next(TIMEOUT).await.expect("the stream continues").data.to_string().contains("a-1") {}

        let path = "/api/v1/events/a-1/thumbnail";
        let put = client.put(format!("{}{path}", behind.url)).bearer_auth(behind.service.token());
        let put = put.header("content-type", "image/png").body(picture(1, PICTURE_BYTES));
        assert_eq!(put.send().await.expect("a response").status(), 204);
        let get = with_cookie(Method::GET, path).send().await.expect("a response");
        assert!(get.bytes().await.expect("a body") == picture(1, PICTURE_BYTES), "the picture differs");
    }
}

#[tokio::test]
async fn each_stage_of_a_connection_test_passes_nginx_and_caddy_before_the_test_ends() {
    // Accepts connections but never responds, so that the test waits until its timeout.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    for behind in [Behind::nginx_path().await, Behind::caddy_path().await] {
        let test = behind
            .client()
            .build()
            .expect("a client")
            .post(format!("{}/api/v1/integrations/mqtt/test", behind.url))
            .bearer_auth(behind.service.token())
            .header("Accept", "text/event-stream, application/problem+json")
            .json(&json!({ "broker_host": "127.0.0.1", "broker_port": port, "connect_timeout_seconds": 60 }));
        let mut stages = EventStream::open(test).await;
        assert_eq!(stages.response.headers()["content-type"], "text/event-stream");
        while !stages.next(TIMEOUT).await.expect("the test is running").data.to_string().contains("begun") {}
    }
}

#[tokio::test]
async fn failed_logins_behind_nginx_and_caddy_are_counted_and_logged_for_each_client() {
    for behind in [Behind::nginx_path().await, Behind::caddy_path().await] {
        let guess = async |last: u8| {
            let client =
                behind.client().local_address(IpAddr::from([127, 0, 0, last])).build().expect("a client");
            let request = client.get(format!("{}/api/v1/events", behind.url)).bearer_auth("guess");
            // A forged address does not help.
            let request = request.header("X-Forwarded-For", "192.0.2.1");
            request.send().await.expect("a response").status().as_u16()
        };
        for _ in 0..10 {
            assert_eq!(guess(2).await, 401);
        }
        assert_eq!(guess(2).await, 429);
        assert_eq!(guess(3).await, 401);
        let log = behind.service.log_text();
        let counted = log.contains("127.0.0.2") && log.contains("127.0.0.3");
        assert!(counted && !log.contains("192.0.2.1"), "{log}");
    }
}
