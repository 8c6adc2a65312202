//! The API over TLS: the certificate, its renewal while the service runs, and files that cannot be used.

use std::fs;

use liveobject_test_support::{Service, wait_until};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::helpers::{Pair, SOON, TlsAnswer, service, try_get, try_send};

/// Started with this pair, and more lines of `[http]`.
async fn started(pair: &Pair, more: &str) -> (Service, CertificateDer<'static>) {
    let certificate = pair.renew();
    let mut service = service().config(&format!("{}{more}", pair.config())).build();
    service.spawn();
    let port = service.port();
    wait_until("it answers over TLS", SOON, async || {
        try_get(port, &certificate, "/health/live", "").await.is_ok()
    })
    .await;
    (service, certificate)
}

async fn get(service: &Service, trusted: &CertificateDer<'static>, path: &str) -> TlsAnswer {
    let headers = format!("Authorization: Bearer {}\r\n", service.token());
    try_get(service.port(), trusted, path, &headers).await.expect("an answer")
}

#[tokio::test]
async fn all_of_it_is_served_over_tls_and_nothing_without() {
    let pair = Pair::new();
    let (mut service, certificate) = started(&pair, "").await;
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/api/v1/events"] {
        let answer = get(&service, &certificate, path).await;
        assert!(answer.text.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {}", answer.text);
        assert!(!answer.text.contains("strict-transport-security"), "the host serves others on other ports");
    }
    let refused = try_get(service.port(), &certificate, "/api/v1/events", "").await.unwrap();
    assert!(refused.text.starts_with("HTTP/1.1 401 "), "{}", refused.text);

    let mut plain = TcpStream::connect(("127.0.0.1", service.port())).await.unwrap();
    plain.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It may be cut off before all is read.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    assert!(service.log_text().contains(&format!("127.0.0.1:{}", service.port())));
    let troubles =
        service.log_text().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert_eq!(troubles, 0, "whoever knocks must not fill the log: {}", service.log_text());
    service.sigterm();
    assert_eq!(service.wait().await, 0);
}

#[tokio::test]
async fn a_host_of_its_own_is_bound_to_tls() {
    let pair = Pair::new();
    let (service, certificate) = started(&pair, "public_url = \"https://cams.example.org\"\n").await;
    let answer = get(&service, &certificate, "/api/v1/events").await;
    assert!(answer.text.contains("strict-transport-security: max-age=31536000\r\n"), "{}", answer.text);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let pair = Pair::new();
    let (service, first) = started(&pair, "").await;
    let (pid, port) = (service.pid(), service.port());

    let second = pair.renew();
    wait_until("the new certificate is served", SOON, async || {
        try_get(port, &second, "/health/live", "").await.is_ok_and(|answer| answer.certificate == second)
    })
    .await;
    assert!(try_get(port, &first, "/health/live", "").await.is_err(), "the old one is not served any more");

    fs::write(&pair.key, "-----BEGIN PRIVATE KEY-----\nhalf").unwrap();
    let told = "the new TLS certificate is not usable; keeping the old one";
    wait_until("the broken one is told", SOON, async || service.log_text().contains(told)).await;
    assert!(service.log_text().contains(&format!("{} ", pair.key.display())), "{}", service.log_text());
    assert_eq!(try_get(port, &second, "/health/live", "").await.unwrap().certificate, second);

    let third = pair.renew();
    wait_until("the mended one is served", SOON, async || {
        try_get(port, &third, "/health/live", "").await.is_ok()
    })
    .await;
    assert_eq!(service.log_text().matches(told).count(), 1, "{}", service.log_text());
    assert_eq!(service.pid(), pid);
    assert!(!service.log_text().contains("half"));
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start_with_2_by_key_and_line() {
    let (pair, other) = (Pair::new(), Pair::new());
    fs::copy(&other.key, &pair.key).unwrap();
    let mut service = service().config(&pair.config()).build();
    service.spawn();
    assert_eq!(service.wait().await, 2);
    let said = service.log_text();
    assert!(said.contains("config.toml:3: http.tls_key: "), "{said}");
    assert!(said.contains("is not the key of the certificate"), "{said}");
}

#[tokio::test]
async fn links_to_pictures_are_https() {
    let pair = Pair::new();
    let (service, certificate) = started(&pair, "").await;
    let body = crate::helpers::event("e").to_string();
    let token = service.token();
    let post = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let receipt = try_send(service.port(), &certificate, &post).await.unwrap();
    assert!(receipt.text.starts_with("HTTP/1.1 202 "), "{}", receipt.text);
    let event = get(&service, &certificate, "/api/v1/events/e").await;
    let expected = format!("\"thumbnail_url\":\"https://127.0.0.1:{}/", service.port());
    assert!(event.text.contains(&expected), "{}", event.text);
}
