//! The port for the ingress of Home Assistant, as configured.

use std::net::IpAddr;

use liveobject_test_support::free_port;
use reqwest::Client;
use serde_json::{Value, json};

use crate::helpers::service;

#[tokio::test]
async fn the_configured_port_serves_the_configured_peer_without_a_token_and_logs_the_user() {
    let port = free_port();
    let config = format!("[http]\ningress = \"127.0.0.1:{port}\"\ningress_from = [\"127.0.0.2\"]\n");
    let service = service().config(&config).env("LIVEOBJECT__LOG__FILTER", "debug").start().await;
    let get = async |last: u8, port: u16| {
        let from = IpAddr::from([127, 0, 0, last]);
        let client = Client::builder().no_proxy().local_address(from).build().expect("a client");
        let request =
            client.get(format!("http://127.0.0.1:{port}/session")).header("X-Remote-User-Name", "jürgen");
        let response = request.send().await.expect("a response");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    let signed_in = json!({ "signed_in": true, "can_sign_out": false, "scopes": ["admin"] });
    assert_eq!(get(2, port).await, (200, signed_in));
    assert_eq!(get(3, port).await.0, 403, "another peer");
    assert_eq!(get(2, service.port()).await.1["signed_in"], false, "the ordinary port");

    let lines = service.log_lines();
    let responses = lines.iter().filter(|line| line["message"] == "responded" && line["route"] == "/session");
    let users: Vec<_> =
        responses.map(|line| (&line["status"], line.to_string().contains("jürgen"))).collect();
    assert_eq!(
        users,
        [(&json!(200), true), (&json!(403), false), (&json!(200), false)],
        "{}",
        service.log_text()
    );
}
