//! The cameras view: renaming, disabling and deleting cameras.

use liveobject_test_support::{Service, wait_until};
use serde_json::Value;
use std::time::Duration;

use crate::helpers::{connected, event, signed_in};

async fn cameras(service: &Service) -> Vec<Value> {
    service.get("/api/v1/cameras").await.expect(200)["cameras"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_camera_can_be_renamed_hidden_from_home_assistant_and_deleted() {
    let (service, _broker) = connected().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#cameras']").await;
    browser.click(".camera .cover").await;
    browser.press("Rename").await;
    browser.wait_for_text("Rename Front Door").await;
    browser.enter("dialog input", "Back Door").await;
    browser.click("dialog .primary").await;
    browser.wait_until("return document.querySelector('dialog') === null").await;
    browser.wait_for_text("Renamed to Back Door").await;
    browser.wait_until("return document.querySelector('.camera-page h2').textContent === 'Back Door'").await;
    browser.click(".camera-page [role=switch]").await;
    let disabled = async || cameras(&service).await[0]["enabled"] == false;
    wait_until("the camera is disabled", Duration::from_secs(15), disabled).await;
    assert_eq!(cameras(&service).await[0]["camera_name"], "Back Door");
    // Nothing is deleted without confirmation.
    browser.click(".camera-page .danger").await;
    browser.wait_for_text("are removed from Home Assistant").await;
    browser.press("Cancel").await;
    assert_eq!(cameras(&service).await.len(), 1);
    browser.click(".camera-page .danger").await;
    browser.click("dialog .danger").await;
    browser.wait_for_text("No cameras yet").await;
    assert_eq!(cameras(&service).await.len(), 0);
}
