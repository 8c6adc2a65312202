//! A server on its own port, a client, and one actor in place of all real ones.

mod actors;

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use actix::{Actor, Addr};
use actix_web::dev::ServerHandle;
use ipnet::IpNet;
use liveobject::{
    addresses::Addresses,
    finder::{Candidate, CandidateState, Finder, Found, Source},
    history::History,
    http::{
        ApiOptions, ApiState, DatabaseEngine, DatabaseView, HostRules, Limits, TrustedProxies, openapi,
        serve, watch,
    },
    sessions::Sessions,
    telemetry::recent::RecentLines,
    token::AdminToken,
};
use liveobject_actors::{
    domain::{
        calendar::Calendar,
        token::{Scope, Scopes},
    },
    messages::stream::SettingsRevised,
};
use liveobject_test_support::EventStream;
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;

pub use self::actors::KNOWN_CAMERA;
use self::actors::{Actors, Script, StopActors};

/// Returns a finder that always finds the same broker.
fn finder() -> Finder {
    Finder::with(&[], |_| Box::pin(async { Found { candidates: vec![candidate()], left_out: 0 } }))
}

fn candidate() -> Candidate {
    Candidate {
        broker_host: "192.168.1.5".to_owned(),
        broker_port: 1883,
        use_tls: false,
        names: vec!["192.168.1.5:1883".to_owned()],
        found_by: vec![Source::Announced],
        state: CandidateState::LoginRequired,
        message: "Requires a user name and a password.".to_owned(),
        protocol: None,
        stages: Vec::new(),
    }
}

/// A running server, with a client and access to the scripted actor behind it.
pub struct TestApp {
    pub address: SocketAddr,
    pub token: String,
    pub state: ApiState,
    /// The lines of the log that the server returns.
    pub log: RecentLines,
    client: Client,
    actors: Addr<Actors>,
    script: Arc<Mutex<Script>>,
    server: ServerHandle,
}

impl TestApp {
    pub fn start() -> Self {
        Self::with_login_limit(10)
    }

    /// Starts a server that allows this many failed logins per minute.
    pub fn with_login_limit(failed_logins: u32) -> Self {
        Self::with(failed_logins, Limits::default(), String::new())
    }

    /// Starts a server with these limits of connections.
    pub fn with_limits(limits: Limits) -> Self {
        Self::with(10, limits, String::new())
    }

    /// Starts a server that clients reach under this URL.
    pub fn with_public_url(public_url: &str) -> Self {
        Self::with(10, Limits::default(), public_url.to_owned())
    }

    /// Starts a server that serves only this peer, without a token.
    pub fn with_ingress_from(peer: &str) -> Self {
        let peer: IpAddr = peer.parse().unwrap();
        Self::with_state(10, Limits::default(), String::new(), &[], |state| state.for_ingress(&[peer]))
    }

    /// Starts a server that uses the forwarding headers of proxies in this network, and allows this many failed logins
    /// per minute.
    pub fn with_trusted_proxies(network: &str, failed_logins: u32, limits: Limits) -> Self {
        let network = network.parse().unwrap();
        Self::with_state(failed_logins, limits, String::new(), &[network], |state| state)
    }

    fn with(failed_logins: u32, limits: Limits, public_url: String) -> Self {
        Self::with_state(failed_logins, limits, public_url, &[], |state| state)
    }

    fn with_state(
        failed_logins: u32,
        limits: Limits,
        public_url: String,
        trusted_proxies: &[IpNet],
        change: impl FnOnce(ApiState) -> ApiState,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token = AdminToken::load_or_create(directory.path()).unwrap();
        let log = RecentLines::default();
        let script = Arc::new(Mutex::new(Script::default()));
        let actors = Actors::new(&script).start();
        let hosts = HostRules::new("https://cams.example.org", &["nas.lan".to_owned()]);
        let handle = actors::handle(&actors, &script);
        let state = ApiState::new(ApiOptions {
            history: History::new(handle.metrics.clone(), Calendar::system().0, 0),
            handle,
            token: token.clone(),
            sessions: Sessions::load_or_create(directory.path()).unwrap(),
            hosts,
            addresses: Addresses { public_url, is_configured: true, bound: Vec::new() },
            failed_logins_per_minute: failed_logins,
            limits,
            trusted_proxies: TrustedProxies::new(trusted_proxies),
            backup: None,
            finder: finder(),
            restores: None,
            log: log.clone(),
            retention_days: 7,
            database: DatabaseView { engine: DatabaseEngine::Sqlite, name: "/data/liveobject.db".to_owned() },
            nodes: None,
        });
        let state = change(state);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = serve(listener, state.clone()).unwrap();
        let handle = server.handle();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        actix_web::rt::spawn(server);
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        actix_web::rt::spawn(watch(state.clone()));
        // A proxy set in the environment must not apply to loopback connections.
        let client = Client::builder().no_proxy().build().unwrap();
        Self {
            address,
            token: token.current().expose().to_owned(),
            state,
            log,
            client,
            actors,
            script,
            server: handle,
        }
    }

    /// Locks the script of the actors. Do not hold the guard across an `await`.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Reports to the streams that the settings have this revision, as the config actor does.
    pub async fn revise_settings(&self, revision: &str) {
        let streams = self.script().streams.clone().unwrap();
        streams.send(SettingsRevised(revision.to_owned())).await.unwrap();
    }

    /// Stops the actors, as a crash would.
    pub async fn stop_actors(&self) {
        self.actors.send(StopActors).await.unwrap();
    }

    /// Builds a request with the administrator's token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// Builds a request without a token.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// Creates a token with these scopes.
    pub fn token_for(&self, scopes: &[Scope]) -> String {
        let scopes = Scopes::of(scopes.iter().copied()).unwrap();
        let token = format!("lo_{scopes}");
        self.script().tokens.push((token.clone(), scopes));
        token
    }

    /// Returns every route of the OpenAPI document: its method, its path with the parameters filled in, and
    /// its description.
    pub async fn routes(&self) -> Vec<(Method, String, Value)> {
        let document = self.get("/openapi.json").await.expect(200);
        let mut routes = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
                routes.push((method, fill_parameters(path), operation.clone()));
            }
        }
        routes
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::send(self.request(Method::GET, path)).await
    }

    /// Returns the version in the addresses of the page's files.
    pub async fn page_version(&self) -> String {
        let html = Answer::send(self.anonymous(Method::GET, "/")).await.text;
        let (_, rest) = html.split_once("src=\"page/").unwrap();
        rest.split_once("/start.js").unwrap().0.to_owned()
    }

    /// Opens the stream; `query` is empty or begins with `?`.
    pub async fn stream(&self, query: &str) -> EventStream {
        EventStream::open(self.request(Method::GET, &format!("/api/v1/stream{query}"))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        Answer::send(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

/// Fills in the parameters of a path.
pub fn fill_parameters(path: &str) -> String {
    let fill = |part: &str| if part.starts_with('{') { "a".to_owned() } else { part.to_owned() };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// Asserts that the OpenAPI document has this status, if it has the path and the method.
fn assert_documented(method: &Method, path: &str, status: u16) {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_slice(openapi()).expect("the document is JSON"));
    let parts: Vec<&str> = path.split('/').collect();
    let is_parameter = |part: &str| part.starts_with('{');
    let matches = |template: &&String| {
        let template: Vec<&str> = template.split('/').collect();
        let is_same = |(own, part): (&&str, &&str)| own == part || (is_parameter(own) && !part.is_empty());
        template.len() == parts.len() && template.iter().zip(&parts).all(is_same)
    };
    let method = method.as_str().to_ascii_lowercase();
    let method = if method == "head" { "get" } else { &method };
    let documented = DOCUMENT["paths"].as_object().expect("paths");
    let with_method = documented.iter().filter(|(_, item)| item[method].is_object());
    // A name comes before a parameter.
    let path = with_method.map(|(path, _)| path).filter(matches);
    let Some(path) = path.min_by_key(|path| path.matches('{').count()) else { return };
    let responses = &documented[path][method]["responses"];
    assert!(responses[status.to_string()].is_object(), "{method} {path}: {status} is not documented");
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Sends a request. The OpenAPI document must have the status of the response.
    pub async fn send(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.expect("a valid request");
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = client.execute(request).await.expect("a response");
        assert_documented(&method, &path, response.status().as_u16());
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("a body") }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns the body if the response has this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Returns the problem document if the response has this status. Every problem has the same form.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["status"], status);
        for text in ["title", "detail"] {
            assert!(problem[text].as_str().is_some_and(|t| !t.is_empty()), "{problem}");
        }
        problem
    }

    /// Returns the invalid fields of a 422 response.
    #[track_caller]
    pub fn faults(&self) -> Vec<String> {
        let errors = self.problem(422)["errors"].as_array().cloned().expect("errors");
        assert!(errors.iter().all(|e| e["message"].is_string()), "{errors:?}");
        errors.iter().map(|e| e["field"].as_str().expect("a field").to_owned()).collect()
    }
}
