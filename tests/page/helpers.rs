//! Helpers for the page tests.

use liveobject_test_support::{Browser, Mosquitto, Service};
use serde_json::{Value, json};

/// Starts the service without a broker.
pub async fn service() -> Service {
    Service::builder(env!("CARGO_BIN_EXE_liveobject")).start().await
}

/// Starts the service and connects it to a new broker.
pub async fn connected() -> (Service, Mosquitto) {
    let (service, broker) = (service().await, Mosquitto::start().await);
    service.connect_to(broker.port()).await;
    (service, broker)
}

/// Returns the address of the page.
pub fn page(service: &Service) -> String {
    format!("http://127.0.0.1:{}/", service.port())
}

/// Starts a browser and signs in with the admin token.
pub async fn signed_in(service: &Service) -> Browser {
    let browser = Browser::start().await;
    browser.resize(1280, 900).await;
    browser.open(&page(service)).await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text("Sign out").await;
    browser
}

/// Starts the service and connects it to a broker that refuses the events of all cameras but `other`.
pub async fn with_refusing_broker() -> (Service, Mosquitto) {
    let rules = "topic readwrite liveobject/status\ntopic readwrite liveobject/camera/other/#\n";
    let (service, broker) = (service().await, Mosquitto::builder().acl(rules).start().await);
    service.connect_to(broker.port()).await;
    (service, broker)
}

/// A PNG picture of one pixel.
pub const PIXEL: [u8; 69] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00, 0x00, 0x90, 0x77, 0x53, 0xde, 0x00,
    0x00, 0x00, 0x0c, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xe0, 0x8e, 0xdf, 0x0a, 0x00, 0x01, 0x98,
    0x01, 0x20, 0x68, 0x79, 0x14, 0x88, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60,
    0x82,
];

/// Uploads a picture for an event.
pub async fn put_picture(service: &Service, event_id: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let address = format!("{}api/v1/events/{event_id}/thumbnail", page(service));
    let put = client.put(address).bearer_auth(service.token()).body(PIXEL.to_vec());
    assert_eq!(put.send().await.unwrap().status(), 204);
}

/// Returns an event from the camera `front_door`.
pub fn event(event_id: &str, description: &str) -> Value {
    json!({"event_id": event_id, "camera_id": "front_door", "camera_name": "Front Door",
        "description": description, "objects_detected": ["person"], "confidence": 93})
}
