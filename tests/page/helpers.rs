//! What these tests share.

use liveobject_test_support::{Browser, Mosquitto, Service};
use serde_json::{Value, json};

/// The service, started, that knows no broker.
pub async fn service() -> Service {
    Service::builder(env!("CARGO_BIN_EXE_liveobject")).start().await
}

/// The service, started and connected to a broker.
pub async fn connected() -> (Service, Mosquitto) {
    let (service, broker) = (service().await, Mosquitto::start().await);
    service.connect_to(broker.port()).await;
    (service, broker)
}

/// Where the page is.
pub fn page(service: &Service) -> String {
    format!("http://127.0.0.1:{}/", service.port())
}

/// A browser in which somebody has signed in by the link.
pub async fn signed_in(service: &Service) -> Browser {
    let browser = Browser::start().await;
    browser.open(&format!("{}#token={}", page(service), service.token())).await;
    browser.sees("Sign out").await;
    browser
}

pub fn event(event_id: &str, description: &str) -> Value {
    json!({"event_id": event_id, "camera_id": "front_door", "camera_name": "Front Door", "description": description,
        "objects_detected": ["person"], "confidence": 93})
}
