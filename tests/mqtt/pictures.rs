//! Events that are submitted with their pictures.

use std::time::Duration;

use liveobject_test_support::Api;
use reqwest::Method;
use serde_json::Value;
use tokio::time::sleep;

use crate::helpers::{EVENTS, JPEG, Scene, TIMEOUT, event};

const EVENT_COUNT: usize = 200;

/// Submits an event with its picture as a form.
async fn submit_with_picture(api: &Api, event: &Value) {
    let head = b"--cut\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n".as_slice();
    let picture = b"\r\n--cut\r\nContent-Disposition: form-data; name=\"thumbnail\"\r\n\r\n".as_slice();
    let body = [head, event.to_string().as_bytes(), picture, JPEG, b"\r\n--cut--\r\n"].concat();
    let request = api.request(Method::POST, EVENTS).body(body);
    let request = request.header("content-type", "multipart/form-data; boundary=cut");
    let _ = Api::try_send(request).await.expect("a response").expect(202);
}

#[tokio::test]
async fn the_link_to_the_picture_works_when_the_event_arrives() {
    let scene = Scene::start().await;
    let submit = async {
        for number in 0..EVENT_COUNT {
            submit_with_picture(&scene.service.api(), &event(&format!("e{number}"))).await;
        }
    };
    let open_links = async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut opened = 0;
        while opened < EVENT_COUNT {
            for event in scene.subscriber.events().split_off(opened) {
                let link = event["thumbnail_url"].as_str().expect("a link");
                let status = client.get(link).send().await.expect("a response").status();
                assert_eq!(status, 200, "{event}");
                opened += 1;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let opened = tokio::time::timeout(TIMEOUT, async { tokio::join!(submit, open_links) });
    opened.await.expect("all links are opened in time");
}
