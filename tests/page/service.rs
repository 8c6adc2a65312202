//! The service view: colors, tokens, addresses and version; and connecting without waiting.

use liveobject_test_support::{Browser, Service};
use serde_json::{Value, json};

use crate::{
    accessible::assert_accessible,
    helpers::{connected, event, page, put_picture, service, signed_in},
};

async fn tokens(service: &Service) -> Vec<Value> {
    let list = service.get("/api/v1/tokens").await.expect(200);
    list["tokens"].as_array().unwrap().clone()
}

/// Signs in with another token.
async fn signed_in_with(service: &Service, token: &str) -> Browser {
    let browser = Browser::start().await;
    browser.resize(375, 800).await;
    browser.open(&format!("{}#service", page(service))).await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
    browser.enter("input[name=token]", token).await;
    browser.click("form button").await;
    browser.wait_for_text("Sign out").await;
    browser
}

#[tokio::test]
async fn a_token_is_created_shown_once_and_revoked() {
    let service = service().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#service']").await;
    browser.wait_for_text("The administrator’s token").await;
    browser.press("Create token").await;
    browser.wait_for_text("Enter a name.").await;
    browser.enter("input[name=token_name]", "front door").await;
    browser.press("Create token").await;
    browser.wait_until("return document.querySelector('#token-name-fault').textContent.length > 20").await;
    browser.enter("input[name=token_name]", "front-door").await;
    browser.press("Create token").await;
    browser.wait_for_text("New token: front-door").await;
    let shown = browser.run("return document.querySelector('.created pre').textContent", json!([])).await;
    let token = shown.as_str().unwrap();
    browser.wait_for_text("never used").await;
    let created = tokens(&service).await;
    assert_eq!(
        (&created[0]["name"], &created[0]["scopes"]),
        (&json!("front-door"), &json!(["events:write"]))
    );
    let event = json!({"event_id": "a", "camera_id": "a", "description": "x"});
    let source = service.with_token(token);
    let _ = source.post("/api/v1/events", &event).await.expect(202);
    browser.press("Revoke").await;
    browser.wait_for_text("Revoke front-door?").await;
    assert_accessible(&browser, "revoke").await;
    browser.click("dialog .danger").await;
    browser.wait_for_text("front-door was revoked").await;
    assert_eq!(tokens(&service).await, [] as [Value; 0]);
    let _ = source.post("/api/v1/events", &event).await.expect(401);
}

#[tokio::test]
async fn somebody_who_may_only_read_sees_no_tokens_and_no_code() {
    let service = service().await;
    let body = json!({"name": "wall", "scopes": ["read"]});
    let created = service.post("/api/v1/tokens", &body).await.expect(201);
    let browser = signed_in_with(&service, created["token"].as_str().unwrap()).await;
    browser.wait_for_text("You are signed in with the token “wall” and can view everything.").await;
    browser.wait_for_text("Only an administrator can see and change the tokens").await;
    browser.wait_until("return document.querySelector('.service .facts') !== null").await;
    let buttons = "return [...document.querySelectorAll('.service button')].length";
    assert_eq!(browser.run(buttons, json!([])).await, 0);
    assert_eq!(browser.run("return document.querySelector('.log')", json!([])).await, json!(null));
}

#[tokio::test]
async fn the_version_the_storage_and_the_addresses_are_shown() {
    let service = Service::builder(env!("CARGO_BIN_EXE_liveobject")).start().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#service']").await;
    let info = service.get("/api/v1/service").await.expect(200);
    browser.wait_for_text(info["version"].as_str().unwrap()).await;
    browser.wait_for_text(info["urls"][0].as_str().unwrap()).await;
    assert_eq!(info["local_only"], true);
    browser.wait_for_text("The service listens only on its own machine").await;
    browser.wait_for_text("You are signed in with the administrator’s token").await;
    let links =
        browser.run("return [...document.querySelectorAll('.links a')].map((a) => a.href)", json!([])).await;
    assert_eq!((&links[0], &links[1]), (&info["documentation_url"], &info["changelog_url"]));
    assert!(links[2].as_str().unwrap().ends_with("/openapi.json"), "{links}");
    assert_accessible(&browser, "service").await;
}

#[tokio::test]
async fn the_storage_shows_events_pictures_and_their_limits() {
    let service = service().await;
    for id in ["a", "b", "c"] {
        let _ = service.post_event(&event(id, "Person")).await.expect(202);
    }
    put_picture(&service, "a").await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#service']").await;
    browser.wait_for_text("the oldest from").await;
    let facts = "
        const all = [...document.querySelectorAll('[aria-label=Storage] dt')];
        return Object.fromEntries(all.map((name) => [name.textContent, name.nextElementSibling.textContent]))";
    let facts = browser.run(facts, json!([])).await;
    assert!(facts["Events"].as_str().unwrap().starts_with("3, the oldest from"), "{facts}");
    assert_eq!(facts["Kept for"], "7 days", "{facts}");
    assert_eq!(facts["Pictures"], "1, 1 KiB of at most 2.0 GiB", "{facts}");
    assert!(facts["Database"].as_str().unwrap().ends_with("iB"), "{facts}");
}

#[tokio::test]
async fn a_qr_code_signs_in_on_another_device() {
    let service = Service::builder(env!("CARGO_BIN_EXE_liveobject"))
        .config("[http]\npublic_url = \"http://lo.test\"\n")
        .start();
    let service = service.await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#service']").await;
    browser.wait_for_text("http://lo.test").await;
    browser.press("Show a QR code that signs in").await;
    browser.wait_until("return document.querySelector('.qr-code img')?.naturalWidth > 20").await;
    assert_accessible(&browser, "a QR code").await;
    let links = service.post("/api/v1/sign-in-links", &json!({})).await.expect(201);
    assert!(links["links"][0].as_str().unwrap().starts_with("http://lo.test/#code="), "{links}");
    assert!(links["qr_code"].as_str().unwrap().starts_with("<svg "), "{links}");
}

#[tokio::test]
async fn the_colors_are_chosen_and_applied_before_anything_is_drawn() {
    let service = service().await;
    let browser = signed_in(&service).await;
    browser.set_color_scheme("light").await;
    browser.click("nav a[href='#service']").await;
    let choose = |theme: &str| {
        format!(
            "const select = document.querySelector('select[name=theme]'); select.value = '{theme}'; \
             select.dispatchEvent(new Event('change'))"
        )
    };
    let background = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.run(background, json!([])).await;
    browser.run(&choose("dark"), json!([])).await;
    let dark = browser.run(background, json!([])).await;
    assert_ne!(light, dark);
    browser.run("location.reload()", json!([])).await;
    browser.wait_for_text("Sign out").await;
    assert_eq!(browser.run(background, json!([])).await, dark);
    let order = "
        const [script] = document.querySelectorAll('head script');
        return script.textContent.includes('liveobject-theme') && script.type === '' && !script.async";
    browser.wait_until(order).await;
    browser.set_color_scheme("dark").await;
    browser.run(&choose("light"), json!([])).await;
    assert_eq!(browser.run(background, json!([])).await, light);
    browser.run(&choose("system"), json!([])).await;
    assert_eq!(browser.run(background, json!([])).await, dark);
}

#[tokio::test]
async fn the_next_attempt_to_connect_can_be_made_at_once() {
    let (service, mut broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Connected").await;
    broker.stop().await;
    // The waits grow: 1, 2, 4, 8 and 16 s.
    let seconds = "Number(/\\d+/.exec(document.querySelector('.connection .detail')?.textContent)?.[0] ?? 0)";
    for long in [5, 11] {
        browser.wait_until(&format!("return {seconds} >= {long}")).await;
    }
    // Two attempts are at least two seconds apart.
    browser.wait_until(&format!("return {seconds} <= 10")).await;
    broker.resume().await;
    browser.press("Try now").await;
    browser.wait_until("return document.querySelector('.connection').dataset.state === 'connected'").await;
    browser.wait_until("return document.querySelector('.try-now').hidden").await;
    assert!(service.log_text().contains("connecting on request"));
}
