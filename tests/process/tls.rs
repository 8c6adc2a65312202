//! The API over TLS: the certificate, its renewal while the service runs, and files that cannot be used.

use std::fs;

use liveobject_test_support::{Service, wait_until};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::helpers::{Pair, TIMEOUT, TlsResponse, assert_exits, service, stop, try_get, try_send};

/// Starts the service with a certificate from this pair and with more lines in the section `[http]`.
async fn start(pair: &Pair, more_config: &str) -> (Service, CertificateDer<'static>) {
    let certificate = pair.renew();
    let mut service = service().config(&format!("{}{more_config}", pair.config())).build();
    service.spawn();
    let port = service.port();
    wait_until("the service responds over TLS", TIMEOUT, async || {
        try_get(port, &certificate, "/health/live", "").await.is_ok()
    })
    .await;
    (service, certificate)
}

async fn get(service: &Service, trusted: &CertificateDer<'static>, path: &str) -> TlsResponse {
    let headers = format!("Authorization: Bearer {}\r\n", service.token());
    try_get(service.port(), trusted, path, &headers).await.expect("a response")
}

#[tokio::test]
async fn everything_is_served_over_tls_and_nothing_without_it() {
    let pair = Pair::new();
    let (mut service, certificate) = start(&pair, "").await;
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/api/v1/events"] {
        let response = get(&service, &certificate, path).await;
        assert!(response.text.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {}", response.text);
        assert!(
            !response.text.contains("strict-transport-security"),
            "HSTS would also affect other services on other ports of this host"
        );
    }
    let refused = try_get(service.port(), &certificate, "/api/v1/events", "").await.unwrap();
    assert!(refused.text.starts_with("HTTP/1.1 401 "), "{}", refused.text);

    let mut plain = TcpStream::connect(("127.0.0.1", service.port())).await.unwrap();
    plain.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    // The service may reset the connection before everything was read.
    let _ = plain.read_to_end(&mut response).await;
    assert!(!response.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&response));
    assert!(service.log_text().contains(&format!("127.0.0.1:{}", service.port())));
    let warnings =
        service.log_text().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert_eq!(warnings, 0, "clients without TLS must not fill the log: {}", service.log_text());
    stop(&mut service).await;
}

#[tokio::test]
async fn a_public_url_on_the_default_port_enables_hsts() {
    let pair = Pair::new();
    let (service, certificate) = start(&pair, "public_url = \"https://cams.example.org\"\n").await;
    let response = get(&service, &certificate, "/api/v1/events").await;
    assert!(response.text.contains("strict-transport-security: max-age=31536000\r\n"), "{}", response.text);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let pair = Pair::new();
    let (service, first) = start(&pair, "").await;
    let (pid, port) = (service.pid(), service.port());

    let second = pair.renew();
    wait_until("the new certificate is served", TIMEOUT, async || {
        try_get(port, &second, "/health/live", "").await.is_ok_and(|response| response.certificate == second)
    })
    .await;
    assert!(try_get(port, &first, "/health/live", "").await.is_err(), "the old certificate is still served");

    fs::write(&pair.key, "-----BEGIN PRIVATE KEY-----\nhalf").unwrap();
    let warning = "the new TLS certificate is not usable; keeping the old one";
    wait_until("the broken key is logged", TIMEOUT, async || service.log_text().contains(warning)).await;
    assert!(service.log_text().contains(&format!("{} ", pair.key.display())), "{}", service.log_text());
    assert_eq!(try_get(port, &second, "/health/live", "").await.unwrap().certificate, second);

    let third = pair.renew();
    wait_until("the third certificate is served", TIMEOUT, async || {
        try_get(port, &third, "/health/live", "").await.is_ok()
    })
    .await;
    assert_eq!(service.log_text().matches(warning).count(), 1, "{}", service.log_text());
    assert_eq!(service.pid(), pid);
    assert!(!service.log_text().contains("half"));
}

#[tokio::test]
async fn a_tls_key_of_another_certificate_is_reported_with_its_line_and_exit_code_2() {
    let (pair, other) = (Pair::new(), Pair::new());
    fs::copy(&other.key, &pair.key).unwrap();
    let mut service = service().config(&pair.config()).build();
    let parts = ["config.toml:3: http.tls_key: ", "is not the key of the certificate"];
    assert_exits(&mut service, 2, &parts).await;
}

#[tokio::test]
async fn picture_links_use_https() {
    let pair = Pair::new();
    let (service, certificate) = start(&pair, "").await;
    let body = crate::helpers::event("e").to_string();
    let token = service.token();
    let post = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let receipt = try_send(service.port(), &certificate, &post).await.unwrap();
    assert!(receipt.text.starts_with("HTTP/1.1 202 "), "{}", receipt.text);
    let event = get(&service, &certificate, "/api/v1/events/e").await;
    let expected = format!("\"thumbnail_url\":\"https://127.0.0.1:{}/", service.port());
    assert!(event.text.contains(&expected), "{}", event.text);
}
