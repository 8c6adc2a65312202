//! Restoring a backup on the page.

use std::{io::Write as _, time::Duration};

use liveobject_test_support::{Browser, Service, wait_until};
use serde_json::{Value, json};

use crate::helpers::{event, service, signed_in};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Chooses a file in the dialog: a backup of the service, or another text.
async fn choose(browser: &Browser, content: Option<&str>) {
    let script = "const [text] = arguments; window.isChosen = false;\
                  (text === null ? fetch('api/v1/backup').then((response) => response.blob()) : Promise.resolve(text))\
                  .then((content) => {\
                    const files = new DataTransfer(); files.items.add(new File([content], 'a.tar'));\
                    document.querySelector('dialog input[type=file]').files = files.files; window.isChosen = true;\
                  }); return true";
    browser.run(script, json!([content])).await;
    browser.wait_until("return window.isChosen").await;
}

async fn waiting(service: &Service) -> Value {
    service.get("/api/v1/restore").await.expect(200)["restore"].clone()
}

async fn opened() -> (Service, Browser) {
    let service = service().await;
    let _ = service.post_event(&event("one", "Person")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.wait_for_text("Restore a backup …").await;
    browser.press("Restore a backup …").await;
    (service, browser)
}

const DIALOG_IS_GONE: &str = "return document.querySelector('dialog') === null";

#[tokio::test]
async fn an_admin_restores_a_backup_on_the_page_and_can_discard_it() {
    let (service, browser) = opened().await;
    choose(&browser, None).await;
    browser.press("Upload and check").await;
    browser.wait_for_text("Restore at the next start").await;
    browser.wait_for_text("1 (seq 1 – 1)").await;
    assert_eq!(waiting(&service).await["events"], 1);
    browser.press("Restore at the next start").await;
    browser.wait_until(DIALOG_IS_GONE).await;
    browser.wait_for_text("This backup will be restored when the service is restarted.").await;
    browser.wait_for_text("replaces all data when the service is restarted").await;
    assert_eq!(waiting(&service).await["state"], "waiting");
    browser.press("Discard").await;
    browser.wait_for_text("The backup was discarded.").await;
    browser.wait_until("return document.querySelector('.restore-state').textContent === ''").await;
    assert_eq!(waiting(&service).await, Value::Null);
}

#[tokio::test]
async fn a_dialog_shows_why_a_file_is_refused_and_what_is_not_confirmed_is_discarded() {
    let (service, browser) = opened().await;
    choose(&browser, Some("hello")).await;
    browser.press("Upload and check").await;
    let in_dialog = |part: &str| {
        format!("return document.querySelector('dialog .result.bad').textContent.includes('{part}')")
    };
    browser.wait_until(&in_dialog("not a backup of liveobject")).await;
    // Another client uploads at the same time.
    let mut other = std::net::TcpStream::connect(("127.0.0.1", service.port())).unwrap();
    let head = format!(
        "POST /api/v1/restore HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n",
        service.token()
    );
    other.write_all(head.as_bytes()).unwrap();
    let is_busy = async |busy: bool| service.get("/api/v1/restore").await.expect(200)["busy"] == busy;
    wait_until("it has begun", TIMEOUT, async || is_busy(true).await).await;
    browser.press("Upload and check").await;
    browser.wait_until(&in_dialog("another backup is being uploaded")).await;
    drop(other);
    wait_until("it has ended", TIMEOUT, async || is_busy(false).await).await;
    choose(&browser, None).await;
    browser.press("Upload and check").await;
    browser.wait_for_text("Restore at the next start").await;
    assert_eq!(waiting(&service).await["events"], 1);
    browser.press("Discard").await;
    browser.wait_until(DIALOG_IS_GONE).await;
    let is_gone = async || waiting(&service).await == Value::Null;
    wait_until("it is discarded", TIMEOUT, is_gone).await;
}
