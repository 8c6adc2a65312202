//! The cameras view: renaming, disabling and deleting cameras.

use liveobject_actors::domain::clock;
use liveobject_test_support::{Service, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    accessible::assert_accessible,
    helpers::{connected, event, page, signed_in},
};

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

#[tokio::test]
async fn a_name_given_on_the_page_is_kept_until_the_own_name_is_wanted_again() {
    let (service, _broker) = connected().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.open(&format!("{}#camera/front_door", page(&service))).await;
    browser.press("Rename").await;
    browser.enter("dialog input", "Porch").await;
    browser.click("dialog .primary").await;
    browser.wait_for_text("The camera’s own name is “Front Door”").await;
    // The next event brings the camera's own name along.
    let _ = service.post_event(&event("two", "Person with a parcel")).await.expect(202);
    browser.wait_for_text("Person with a parcel").await;
    assert_eq!(cameras(&service).await[0]["camera_name"], "Porch");
    assert_eq!(service.get("/api/v1/events/two").await.expect(200)["camera_name"], "Porch");
    browser.press("Rename").await;
    assert_accessible(&browser, "a name that somebody gave").await;
    browser.press("Use the camera’s own name: Front Door").await;
    browser.wait_for_text("Renamed to Front Door").await;
    browser.wait_until("return document.querySelector('.camera-page h2').textContent === 'Front Door'").await;
    assert_eq!(cameras(&service).await[0]["reported_name"], Value::Null);
    browser.click(".entities summary").await;
    browser.wait_for_text("event.front_door_detection").await;
    assert_accessible(&browser, "the entities of a camera").await;
}

#[tokio::test]
async fn cameras_are_sorted_and_searched_and_use_a_wide_screen() {
    let (service, _broker) = connected().await;
    for number in 1..=12 {
        let mut one = event(&format!("e{number}"), "Person");
        one["camera_id"] = json!(format!("c{number}"));
        one["camera_name"] = json!(format!("Camera {number}"));
        let _ = service.post_event(&one).await.expect(202);
    }
    let _ = service.put("/api/v1/cameras/c7/status", &json!({"status": "offline"})).await.expect(200);
    let browser = signed_in(&service).await;
    browser.resize(2560, 1300).await;
    browser.click("nav a[href='#cameras']").await;
    let first = |name: &str| format!("return document.querySelector('.camera h2')?.textContent === '{name}'");
    browser.wait_until(&first("Camera 7")).await;
    let columns = "const cards = [...document.querySelectorAll('.camera')];
        return cards.filter((card) => card.offsetTop === cards[0].offsetTop).length";
    let columns = browser.run(columns, json!([])).await.as_u64().unwrap();
    assert!(columns >= 6, "{columns} columns on 2560 pixels");
    let choose = "const select = document.querySelector('section:not([hidden]) > .filters select');
        select.value = arguments[0];
        select.dispatchEvent(new Event('change'))";
    browser.run(choose, json!(["name"])).await;
    browser.wait_until(&first("Camera 1")).await;
    browser.run(choose, json!(["newest"])).await;
    browser.wait_until(&first("Camera 12")).await;
    browser.enter("section:not([hidden]) > .filters input", "camera 3").await;
    browser.wait_until("return document.querySelectorAll('.camera').length === 1").await;
    assert_accessible(&browser, "sorted cameras").await;
}

#[tokio::test]
async fn a_camera_has_a_row_for_each_day_of_the_week_with_its_events_per_hour() {
    let (service, _broker) = connected().await;
    for (id, days) in [("today", 0), ("before", 2), ("also", 2), ("old", 9)] {
        let mut one = event(id, &format!("Event {id}"));
        one["timestamp"] = json!(clock::rfc3339(clock::now() - chrono::Duration::days(days)));
        let _ = service.post_event(&one).await.expect(202);
    }
    let mut other = event("other", "Event of another camera");
    other["camera_id"] = json!("gate");
    let _ = service.post_event(&other).await.expect(202);
    let browser = signed_in(&service).await;
    browser.open(&format!("{}#camera/front_door", page(&service))).await;
    let totals =
        "return [...document.querySelectorAll('.week .total')].map((total) => total.textContent).join() ===
        '1,0,2,0,0,0,0'";
    browser.wait_until(totals).await;
    let marked = "return [...document.querySelectorAll('.week i')]
        .filter((hour) => hour.title.endsWith(': 2 events')).length";
    assert_eq!(browser.run(marked, json!([])).await, 1);
    assert_accessible(&browser, "the week of a camera").await;
    browser.resize(375, 800).await;
    let widest = browser.run("return document.documentElement.scrollWidth", json!([])).await;
    assert!(widest.as_u64().unwrap() <= 375, "{widest}");
    // An hour leads to its events.
    browser.run("document.querySelector('.week i[title$=\": 2 events\"]').click()", json!([])).await;
    browser.wait_until("return location.hash.includes('camera=front_door&day=')").await;
    let rows = "return document.querySelectorAll('section:not([hidden]) .events li').length === 2";
    browser.wait_until(rows).await;
}
