//! Settings that somebody else saves while the page shows them.

use serde_json::json;

use crate::helpers::{connected, page, signed_in};

#[tokio::test]
async fn a_form_without_changes_shows_what_was_saved_in_another_tab() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    let address = format!("{}#settings", page(&service));
    let value =
        |is: &str| format!("return document.querySelector('[name=activity_seconds]').value === '{is}'");
    let first = browser.open_tab(&address).await;
    browser.wait_until(&value("300")).await;
    let _second = browser.open_tab(&address).await;
    browser.wait_until(&value("300")).await;
    browser.enter("input[name=activity_seconds]", "45").await;
    browser.press("Save").await;
    browser.wait_for_text("Saved and applied").await;
    // The own change is not reported as one of somebody else.
    browser.wait_until("return document.querySelector('.conflict').hidden").await;
    browser.show_tab(&first).await;
    browser.wait_until(&value("45")).await;
    // While the page is visible, it needs no action at all.
    let settings = json!({"activity_seconds": 46});
    let mut other = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    other["activity_seconds"] = settings["activity_seconds"].clone();
    let _ = service.put_config(&other).await.expect(200);
    browser.wait_until(&value("46")).await;
    let dirty = "return document.querySelector('form.settings').hasAttribute('data-dirty')";
    assert_eq!(browser.run(dirty, json!([])).await, false);
}

#[tokio::test]
async fn a_form_with_changes_shows_at_once_that_somebody_else_saved() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.enter("input[name=activity_seconds]", "45").await;
    browser.wait_for_text("Unsaved changes").await;
    let mut other = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    other["late_after_seconds"] = json!(301);
    let _ = service.put_config(&other).await.expect(200);
    browser.wait_for_text("The settings were changed elsewhere").await;
    browser.wait_for_text("300 → 301").await;
    let own = "return document.querySelector('[name=activity_seconds]').value";
    assert_eq!(browser.run(own, json!([])).await, "45");
    browser.press("Show these changes and keep mine").await;
    browser.wait_until("return document.querySelector('[name=late_after_seconds]').value === '301'").await;
    browser.press("Save").await;
    browser.wait_for_text("Saved and applied").await;
    let saved = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!((&saved["late_after_seconds"], &saved["activity_seconds"]), (&json!(301), &json!(45)));
}
