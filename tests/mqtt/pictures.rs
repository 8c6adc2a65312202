//! Events that are submitted with their pictures.

use std::time::Duration;

use image::{ExtendedColorType, RgbImage, codecs::jpeg::JpegEncoder};
use liveobject_test_support::{Api, JPEG, with_form};
use reqwest::Method;
use serde_json::Value;
use tokio::time::sleep;

use crate::helpers::{EVENTS, Retained, Scene, TIMEOUT, event, state_topic};

const EVENT_COUNT: usize = 200;

/// Submits an event with its picture as a form.
async fn submit_with_picture(api: &Api, event: &Value) {
    let event = event.to_string();
    let parts: [(&str, &[u8]); 2] = [("event", event.as_bytes()), ("thumbnail", JPEG)];
    let request = with_form(api.request(Method::POST, EVENTS), &parts);
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

/// Noise, which cannot be compressed well.
fn large_picture() -> Vec<u8> {
    let mut state = 1_u32;
    let noise = RgbImage::from_fn(1400, 500, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, _] = state.to_be_bytes();
        image::Rgb([a, b, c])
    });
    let mut jpeg = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 90);
    encoder.encode(&noise, 1400, 500, ExtendedColorType::Rgb8).expect("the noise is encoded");
    jpeg
}

#[tokio::test]
async fn a_large_picture_is_published_as_a_smaller_rendition_and_its_link_leads_to_the_original() {
    const MAX_PUBLISHED: usize = 256 * 1024;
    let scene = Scene::start().await;
    let original = large_picture();
    assert!(original.len() > MAX_PUBLISHED);
    let _ = scene.service.post_event(&event("e")).await.expect(202);
    let request = scene.service.request(Method::PUT, &format!("{EVENTS}/e/thumbnail"));
    let _ = Api::try_send(request.body(original.clone())).await.expect("a response").expect(204);
    let topic = state_topic("door", "thumbnail");
    let port = scene.broker.port();
    let published = Retained::wait_for(port, "a picture", |snapshot| snapshot.get(&topic).is_some()).await;
    let published = published.get(&topic).expect("a picture");
    assert!(published.len() <= MAX_PUBLISHED, "{} bytes", published.len());
    let shown = image::load_from_memory(published).expect("a picture");
    assert!(shown.width() <= 1280 && shown.height() == shown.width() * 500 / 1400 + 1, "{shown:?}");
    let link = scene.subscriber.wait_for_events(1, TIMEOUT).await[0]["thumbnail_url"].clone();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let linked = client.get(link.as_str().expect("a link")).send().await.expect("a response");
    assert_eq!(linked.bytes().await.expect("a body"), original);
}
