//! Dialing several addresses, and which failures are reported.

use rustls::{ServerConfig, pki_types::PrivateKeyDer, pki_types::pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::domain::{certificate, status::FailureKind};

const CERTIFICATE: &str = include_str!("../../domain/certificate/testdata/ec.crt");
const KEY: &str = include_str!("../../domain/certificate/testdata/ec.pkcs8.key");

/// Starts a server that calls `serve` with every connection, until the test ends.
async fn server<F: Future<Output = ()> + Send + 'static>(
    tasks: &mut JoinSet<()>,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    address
}

async fn plain(mut stream: TcpStream) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
}

/// A TLS server that responds like a broker.
async fn encrypted(stream: TcpStream) {
    let chain = certificate::certificates(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(certificate::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
    stream.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
    stream.flush().await.unwrap();
}

async fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn settings() -> MqttSettings {
    MqttSettings {
        broker_host: "broker.lan".to_owned(),
        use_tls: true,
        ca_certificate: Some(CERTIFICATE.to_owned()),
        connect_timeout_seconds: 5,
        ..MqttSettings::defaults("c")
    }
}

async fn open_these(addresses: &[SocketAddr]) -> (Result<Stream, Failure>, SessionTransport, Stages) {
    let (settings, transport, mut stages) = (settings(), SessionTransport::default(), Stages::default());
    let deadline = Instant::now() + connect_timeout(&settings);
    let opened = open_any(&settings, addresses, deadline, &transport, &mut stages).await;
    (opened, transport, stages)
}

#[actix_rt::test(system = "crate::System")]
async fn an_address_that_fails_the_tls_handshake_does_not_hide_one_that_works() {
    let mut tasks = JoinSet::new();
    let (without_tls, with_tls) = (server(&mut tasks, plain).await, server(&mut tasks, encrypted).await);
    let unused = unused_address().await;
    let (opened, transport, stages) = open_these(&[unused, without_tls, with_tls]).await;
    let mut greeting = [0; 5];
    opened.unwrap().read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [0x20, 3, 0, 0, 0]);
    let stages = stages.finish();
    let results: Vec<_> = stages.iter().map(|stage| (stage.name, stage.ok)).collect();
    assert_eq!(results, [(Stage::Connect, Some(true)), (Stage::Tls, Some(true))]);
    let detail = format!("connected to {with_tls} (after {unused}: refused, {without_tls}: protocol)");
    assert_eq!(stages[0].detail, detail);
    let secured = transport.secured().unwrap();
    assert_eq!((secured.version, secured.is_verified), ("TLS 1.3", true));
    assert_eq!(secured.certificate.unwrap().subject, "CN=broker.lan,O=Test");
}

#[actix_rt::test(system = "crate::System")]
async fn if_all_addresses_fail_the_failure_of_the_one_that_got_furthest_is_reported() {
    let mut tasks = JoinSet::new();
    let without_tls = server(&mut tasks, plain).await;
    for addresses in [[without_tls, unused_address().await], [unused_address().await, without_tls]] {
        let (opened, transport, mut stages) = open_these(&addresses).await;
        let failure = opened.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Protocol, "{failure}");
        assert_eq!(stages.current(), Some(Stage::Tls));
        stages.fail(&failure);
        assert_eq!(stages.finish().len(), 2);
        assert!(transport.secured().is_none());
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_stream_opened_in_advance_is_used_once() {
    let mut tasks = JoinSet::new();
    let address = server(&mut tasks, encrypted).await;
    let (opened, transport, _) = open_these(&[address]).await;
    transport.keep(opened.unwrap());
    let settings = MqttSettings {
        broker_host: "127.0.0.1".to_owned(),
        broker_port: unused_address().await.port(),
        ..settings()
    };
    let mut greeting = [0; 5];
    dial(&settings, &transport).await.unwrap().read_exact(&mut greeting).await.unwrap();
    let failure = dial(&settings, &transport).await.unwrap_err();
    let failure = failure.get_ref().unwrap().downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.kind, FailureKind::Refused);
}

/// A TLS server. It closes connections that do not start with TLS, without a response.
async fn tls_only(mut stream: TcpStream) {
    let mut first = [0; 1];
    if stream.read_exact(&mut first).await.is_ok() && first == [0x16] {
        stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).await.unwrap();
    }
}

/// A server that closes the connection without a response, even to TLS.
async fn closing(mut stream: TcpStream) {
    let mut first = [0; 1];
    let _ = stream.read_exact(&mut first).await;
}

async fn login_at(address: SocketAddr) -> io::Result<usize> {
    let settings = MqttSettings { use_tls: false, ca_certificate: None, ..settings() };
    let (transport, mut stages) = (SessionTransport::default(), Stages::default());
    let deadline = Instant::now() + connect_timeout(&settings);
    let mut stream = open_any(&settings, &[address], deadline, &transport, &mut stages).await.unwrap();
    // Several writes, so that one of them happens after the connection is closed.
    for _ in 0..3 {
        stream.write_all(b"\x10 a login").await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.read(&mut [0; 16]).await
}

#[actix_rt::test(system = "crate::System")]
async fn a_port_that_closes_connections_without_a_response_is_checked_for_tls() {
    let mut tasks = JoinSet::new();
    let expects_tls = server(&mut tasks, tls_only).await;
    let error = login_at(expects_tls).await.unwrap_err();
    let failure = error.get_ref().unwrap().downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.kind, FailureKind::Tls);
    assert!(failure.message.contains("Set use_tls to true"), "{failure}");
}

#[actix_rt::test(system = "crate::System")]
async fn an_unexplained_connection_close_is_passed_to_the_client_unchanged() {
    let mut tasks = JoinSet::new();
    let closes = server(&mut tasks, closing).await;
    match login_at(closes).await {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert!(error.get_ref().is_none_or(|inner| !inner.is::<Failure>()), "{error}"),
    }
}
