//! Events that are submitted with their pictures.

use std::{ops::Range, time::Duration};

use image::{ExtendedColorType, RgbImage, codecs::jpeg::JpegEncoder};
use liveobject_test_support::{Api, JPEG, Message, Mosquitto, Proxy, Subscriber, with_form};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    EVENTS, LONG_TIMEOUT, Retained, Scene, TIMEOUT, connect, connected_service, event, state_topic,
};

const EVENT_COUNT: usize = 200;

/// Submits an event with a picture as a form.
async fn submit_with_picture(api: &Api, event: &Value) {
    submit_with(api, event, JPEG).await;
}

async fn submit_with(api: &Api, event: &Value, picture: &[u8]) {
    let event = event.to_string();
    let parts: [(&str, &[u8]); 2] = [("event", event.as_bytes()), ("thumbnail", picture)];
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

/// Returns a picture that differs from those of other numbers, in bytes that no decoder reads.
fn numbered_picture(number: usize) -> Vec<u8> {
    let mut picture = JPEG.to_vec();
    picture.extend_from_slice(format!("<{number}>").as_bytes());
    picture
}

async fn submit_numbered(api: &Api, numbers: Range<usize>) {
    for number in numbers {
        submit_with(api, &event(&format!("e{number}")), &numbered_picture(number)).await;
    }
}

/// Asserts that each live event arrived right after its own picture became the camera's, and returns their number.
fn assert_each_follows_its_picture(messages: &[Message]) -> usize {
    let (topic, mut shown, mut events) = (state_topic("door", "thumbnail"), None, 0);
    for message in messages {
        if message.topic == topic {
            shown = Some(message.payload.to_vec());
        } else if message.topic == state_topic("door", "event") {
            let event = message.json();
            let number = event["event_id"].as_str().and_then(|id| id[1..].parse().ok()).expect("a number");
            let shown = shown.as_deref().map(String::from_utf8_lossy);
            let own = numbered_picture(number);
            assert_eq!(shown, Some(String::from_utf8_lossy(&own)), "at event {number}");
            events += 1;
        }
    }
    events
}

#[tokio::test]
async fn the_picture_of_the_camera_is_the_one_of_the_event_when_the_event_arrives() {
    let scene = Scene::start().await;
    submit_numbered(&scene.service.api(), 0..EVENT_COUNT).await;
    let _ = scene.subscriber.wait_for_events(EVENT_COUNT, TIMEOUT).await;
    assert_eq!(assert_each_follows_its_picture(&scene.subscriber.messages()), EVENT_COUNT);
}

#[tokio::test]
async fn the_pictures_of_a_live_backlog_arrive_before_their_events() {
    let mut scene = Scene::start().await;
    submit_numbered(&scene.service.api(), 0..10).await;
    let _ = scene.subscriber.wait_for_events(10, TIMEOUT).await;
    scene.broker.stop().await;
    submit_numbered(&scene.service.api(), 10..150).await;
    // What is known in memory about pictures is lost.
    scene.service.restart().await;
    submit_numbered(&scene.service.api(), 150..EVENT_COUNT).await;
    scene.broker.resume().await;
    let _ = scene.subscriber.wait_for_events(EVENT_COUNT, TIMEOUT).await;
    assert_eq!(assert_each_follows_its_picture(&scene.subscriber.messages()), EVENT_COUNT);
    let topic = state_topic("door", "thumbnail");
    let newest =
        |snapshot: &Retained| snapshot.get(&topic) == Some(numbered_picture(EVENT_COUNT - 1).as_slice());
    Retained::wait_for(scene.broker.port(), "the newest picture", newest).await;
}

/// The broker refuses the pictures of cameras.
const NO_PICTURES: &str = "topic deny liveobject/camera/+/thumbnail\ntopic readwrite #";

#[tokio::test]
async fn events_do_not_wait_for_pictures_that_the_broker_refuses() {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().acl(NO_PICTURES).start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let start = Instant::now();
    for number in 0..20 {
        submit_numbered(&service.api(), number..number + 1).await;
        let _ = subscriber.wait_for_events(number + 1, TIMEOUT).await;
    }
    // If each of them waited for the whole second, this would take 20 s.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(subscriber.on(&state_topic("door", "thumbnail")).is_empty());
}

#[tokio::test]
async fn events_do_not_wait_for_pictures_that_the_line_is_too_slow_for() {
    const COUNT: usize = 12;
    let scene = Scene::start().await;
    let proxy = Proxy::start(scene.broker.port()).await;
    connect(&scene.service, proxy.port(), &json!({})).await;
    submit_numbered(&scene.service.api(), 0..1).await;
    let _ = scene.subscriber.wait_for_events(1, TIMEOUT).await;
    proxy.throttle(Some(100 * 1024));
    for number in 1..COUNT {
        let mut picture = numbered_picture(number);
        picture.resize(200_000, 0);
        submit_with(&scene.service.api(), &event(&format!("e{number}")), &picture).await;
    }
    let events = scene.subscriber.wait_for_events(COUNT, LONG_TIMEOUT).await;
    let pictures = scene.subscriber.on(&state_topic("door", "thumbnail")).len();
    assert!(pictures < COUNT / 2, "the events waited for {pictures} pictures");
    let ids: Vec<_> = events.iter().map(|event| event["event_id"].clone()).collect();
    assert_eq!(ids, (0..COUNT).map(|number| format!("e{number}")).collect::<Vec<_>>(), "in order");
    assert_eq!(scene.subscriber.on(&state_topic("door", "history")).len(), 0);
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
