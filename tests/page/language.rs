//! The page in German: chosen by the browser's languages or in the view *Service*, and complete.

use std::time::Duration;

use liveobject_test_support::{Browser, Mosquitto, Service, wait_until};
use serde_json::{Value, json};

use crate::{
    accessible::assert_accessible,
    helpers::{connected, page, put_picture, service, with_refusing_broker},
};

/// Signs in with the admin token in a browser that prefers German.
async fn signed_in_in_german(service: &Service) -> Browser {
    let browser = Browser::start_in("de-DE,de,en").await;
    browser.resize(1280, 900).await;
    browser.open(&page(service)).await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text("Abmelden").await;
    browser
}

/// Returns a script with the texts of a language as `name`. (The page's own modules may be joined into one file.)
fn texts(name: &str, module: &str, result: &str) -> String {
    let lines = module.lines().filter(|line| !line.starts_with("import "));
    let body: Vec<_> = lines.map(|line| line.strip_prefix("export ").unwrap_or(line)).collect();
    format!("const {name} = (() => {{ const number = String;\n{}\nreturn {result}; }})();\n", body.join("\n"))
}

/// Returns the English texts that the page shows although there is a German one, and the texts of the server that it
/// marks as English. Texts of one word are left out: some are the same in both languages, and many are contained in
/// other words.
const FIND_ENGLISH: &str = r#"
    const sought = new Set();
    const collect = (text, other) => {
        if (typeof text === "function") {
            // A sign replaces the values, so that the words around them are found.
            const values = Array(text.length).fill("\u0000");
            const [parts, others] = [text, other].map((one) => String(one(...values)).split("\u0000"));
            for (const part of parts.filter((one) => !others.includes(one))) collect(part, "");
        } else if (typeof text === "object") {
            for (const name of Object.keys(text)) collect(text[name], other[name]);
        } else if (text !== other && /\w\s+\S*\w/.test(text) && text.length > 4) {
            sought.add(text.trim());
        }
    };
    collect(english, german);
    const copy = document.body.cloneNode(true);
    const marked = [...copy.querySelectorAll("[lang=en]:not(option, .log *)")].map((one) => one.textContent);
    for (const one of copy.querySelectorAll("[lang=en], script, noscript")) one.remove();
    const shown = [copy.textContent];
    for (const one of copy.querySelectorAll("*")) {
        for (const name of ["aria-label", "title", "alt", "placeholder"]) shown.push(one.getAttribute(name) ?? "");
    }
    const all = shown.join("\n");
    return [sought.size > 300, [...[...sought].filter((text) => all.includes(text)), ...marked]]"#;

/// Asserts that the page shows no English text, and that nothing is wider than a phone.
async fn assert_german(browser: &Browser, view: &str) {
    let english = texts("english", include_str!("../../src/http/page/texts.js"), "texts");
    let german = texts("german", include_str!("../../src/http/page/texts-de.js"), "germanTexts(number)");
    let found = browser.run(&format!("{english}{german}{FIND_ENGLISH}"), json!([])).await;
    assert_eq!(found, json!([true, []]), "{view}");
    // Long words are not broken.
    let broken = "
        const words = [...document.querySelectorAll('.counts dt, main button, nav a, .stage .name, h2, summary')];
        for (const one of words) one.style.overflowWrap = one.style.wordBreak = 'normal';
        const isBroken = (e) => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1;
        const result = words.filter(isBroken).map((e) => e.textContent);
        for (const one of words) one.style.overflowWrap = one.style.wordBreak = '';
        return result";
    assert_eq!(browser.run(broken, json!([])).await, json!([]), "{view}");
    browser.resize(375, 800).await;
    let too_wide = "
        const width = document.documentElement.clientWidth;
        const isCut = (e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'hidden'
            && getComputedStyle(e).textOverflow !== 'ellipsis' && !e.matches('.visually-hidden, svg, img');
        const all = [...document.querySelectorAll('dialog[open] button, main button, nav a, label, h2, dt')];
        return [document.documentElement.scrollWidth > width,
            all.filter((e) => e.checkVisibility() && e.offsetParent !== null && !e.closest('.visually-hidden'))
                .filter((e) => isCut(e) || e.getBoundingClientRect().right > width + 1)
                .map((e) => e.textContent)]";
    assert_eq!(browser.run(too_wide, json!([])).await, json!([false, []]), "{view}");
    browser.resize(1280, 900).await;
}

async fn open_all_details(browser: &Browser) {
    let open = "for (const details of document.querySelectorAll('details')) details.open = true";
    browser.run(open, json!([])).await;
}

#[tokio::test]
async fn signing_in_and_the_first_start_are_german_in_a_german_browser() {
    let service = service().await;
    let browser = Browser::start_in("de-DE,de,en").await;
    browser.open(&page(&service)).await;
    browser.wait_for_text("Anmelden").await;
    let language = "return document.documentElement.lang";
    assert_eq!(browser.run(language, json!([])).await, "de");
    assert_german(&browser, "sign-in").await;
    assert_accessible(&browser, "sign-in").await;
    browser.enter("input[name=token]", "not-the-token").await;
    browser.click("form button").await;
    browser.wait_for_text("Dieses Token gilt hier nicht").await;
    assert_german(&browser, "rejected sign-in").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text("Den MQTT-Broker verbinden").await;
    open_all_details(&browser).await;
    assert_german(&browser, "first start").await;
    assert_accessible(&browser, "first start").await;
    browser.click("nav a[href='#events']").await;
    browser.wait_for_text("Noch keine Ereignisse").await;
    assert_german(&browser, "no events").await;
    browser.click("nav a[href='#cameras']").await;
    browser.wait_for_text("Noch keine Kameras").await;
    assert_german(&browser, "no cameras").await;
    browser.click("section[aria-label='Kameras'] > .first-event .primary").await;
    let has_camera = async || {
        let cameras = service.get("/api/v1/cameras").await.expect(200);
        cameras["cameras"][0]["camera_name"] == "Beispielkamera"
    };
    wait_until("the sample camera exists", Duration::from_secs(15), has_camera).await;
}

/// Returns an event from the camera `front_door`, in German.
fn german_event(event_id: &str) -> Value {
    json!({"event_id": event_id, "camera_id": "front_door", "camera_name": "Haustür",
        "description": "Person an der Haustür", "objects_detected": ["Person"], "confidence": 93})
}

async fn with_events() -> (Service, Mosquitto, Browser) {
    let (service, broker) = connected().await;
    for i in 0..3 {
        let _ = service.post_event(&german_event(&format!("e{i}"))).await.expect(202);
    }
    put_picture(&service, "e1").await;
    let browser = signed_in_in_german(&service).await;
    open_all_details(&browser).await;
    (service, broker, browser)
}

#[tokio::test]
async fn events_and_cameras_are_german() {
    let (_service, _broker, browser) = with_events().await;
    browser.wait_for_text("zugestellt").await;
    browser.wait_for_text("3 Ereignisse").await;
    browser.wait_until("return document.querySelector('.chart .line')?.getAttribute('d')?.length > 0").await;
    assert_german(&browser, "events").await;
    assert_accessible(&browser, "events").await;
    browser.click(".events .open").await;
    browser.wait_for_text("liveobject/camera/front_door/event").await;
    assert_german(&browser, "one event").await;
    assert_accessible(&browser, "one event").await;
    browser.press("Schließen").await;
    browser.click(".events li:nth-child(2) .open").await;
    browser.click(".enlarge").await;
    browser.wait_until("return document.querySelector('.lightbox img')?.naturalWidth === 1").await;
    assert_german(&browser, "a large picture").await;
    browser.click(".lightbox header button:last-child").await;
    browser.wait_until("return document.querySelector('.lightbox') === null").await;
    browser.press("Schließen").await;
    browser.press("?").await;
    browser.wait_for_text("Diese Tastenkürzel benutzen").await;
    assert_german(&browser, "keyboard shortcuts").await;
    browser.press("Schließen").await;
    browser.click("nav a[href='#cameras']").await;
    browser.wait_for_text("in dieser Woche").await;
    assert_german(&browser, "cameras").await;
    browser.click(".camera .cover").await;
    browser.wait_for_text("Letzte sieben Tage").await;
    open_all_details(&browser).await;
    assert_german(&browser, "one camera").await;
    assert_accessible(&browser, "one camera").await;
    browser.press("Umbenennen").await;
    assert_german(&browser, "rename").await;
    browser.press("Schließen").await;
    browser.click(".camera-page .danger").await;
    browser.wait_for_text("löschen?").await;
    assert_german(&browser, "delete").await;
    assert_accessible(&browser, "delete").await;
}

#[tokio::test]
async fn the_settings_and_the_words_of_the_server_about_the_broker_are_german() {
    let (_service, mut broker, browser) = with_events().await;
    browser.click("nav a[href='#settings']").await;
    browser.wait_for_text("Topic-Präfix").await;
    assert_german(&browser, "settings").await;
    assert_accessible(&browser, "settings").await;
    browser.press("Sicherung wiederherstellen …").await;
    assert_german(&browser, "restore").await;
    browser.press("Schließen").await;
    browser.press("Verbindung testen").await;
    browser.wait_for_text("hat die Anmeldung und alle Testnachrichten angenommen").await;
    assert_german(&browser, "a passed test").await;
    browser.press("Testnachricht senden").await;
    browser.wait_for_text("Testnachricht an liveobject/test zugestellt").await;
    browser.press("Erneut an Home Assistant melden").await;
    browser.wait_for_text("1 Kamera an Home Assistant gemeldet").await;
    broker.stop().await;
    browser.wait_for_text("Letzter Fehler").await;
    browser.wait_for_text("Läuft der Broker, und stimmt der Port?").await;
    browser.press("Verbindung testen").await;
    browser.wait_until("return document.querySelector('.stage.bad') !== null").await;
    assert_german(&browser, "a failed test").await;
    browser.click("input[name=use_tls]").await;
    browser.enter("textarea[name=ca_certificate]", "-----BEGIN CERTIFICATE-----\nnonsense").await;
    browser.press("Speichern").await;
    browser.wait_for_text("Nichts wurde gespeichert").await;
    browser.wait_for_text("ist beschädigt").await;
    browser.enter("input[name=topic_prefix]", "/no").await;
    assert_german(&browser, "invalid fields").await;
    assert_accessible(&browser, "invalid fields").await;
}

#[tokio::test]
async fn failed_events_and_warnings_are_german() {
    let (service, _broker) = with_refusing_broker().await;
    let _ = service.post_event(&german_event("a")).await.expect(202);
    let browser = signed_in_in_german(&service).await;
    browser.wait_for_text("1 Ereignis ließ sich nicht zustellen").await;
    browser.wait_for_text("Die Zugriffsregeln des Brokers verbieten dieses Topic").await;
    open_all_details(&browser).await;
    browser.wait_for_text("Diesem Benutzer erlauben, an").await;
    assert_german(&browser, "failed events").await;
    assert_accessible(&browser, "failed events").await;
}

#[tokio::test]
async fn the_view_of_the_service_is_german() {
    let service = service().await;
    let browser = signed_in_in_german(&service).await;
    browser.click("nav a[href='#service']").await;
    browser.wait_for_text("Frei auf ihrem Datenträger").await;
    browser.enter("input[name=token_name]", "front door").await;
    browser.press("Token anlegen").await;
    browser.wait_for_text("darf nur A-Z a-z 0-9 . _ - enthalten").await;
    browser.enter("input[name=token_name]", "front-door").await;
    browser.press("Token anlegen").await;
    browser.wait_for_text("Neues Token: front-door").await;
    browser.wait_for_text("nie benutzt").await;
    open_all_details(&browser).await;
    browser.wait_until("return document.querySelector('.log .level') !== null").await;
    assert_german(&browser, "service").await;
    assert_accessible(&browser, "service").await;
    browser.press("Widerrufen").await;
    browser.wait_for_text("front-door widerrufen?").await;
    assert_german(&browser, "revoke").await;
}

/// Chooses a language in the view of the service, which loads the page again.
async fn choose(browser: &Browser, language: &str) {
    let choose = format!(
        "const select = document.querySelector('select[name=language]'); select.value = '{language}'; \
         select.dispatchEvent(new Event('change'))"
    );
    browser.run(&choose, json!([])).await;
}

#[tokio::test]
async fn the_language_can_be_chosen_and_is_kept_in_this_browser() {
    let service = service().await;
    let browser = signed_in_in_german(&service).await;
    browser.open(&format!("{}#service", page(&service))).await;
    browser.wait_until("return document.querySelector('select[name=language]')?.value === 'auto'").await;
    choose(&browser, "en").await;
    browser.wait_for_text("Sign out").await;
    assert_eq!(browser.run("return document.documentElement.lang", json!([])).await, "en");
    browser.run("location.reload()", json!([])).await;
    browser.wait_for_text("Sign out").await;
    browser.wait_until("return document.querySelector('select[name=language]')?.value === 'en'").await;
    choose(&browser, "auto").await;
    browser.wait_for_text("Abmelden").await;
    choose(&browser, "de").await;
    browser.wait_until("return localStorage.getItem('liveobject-language') === 'de'").await;
    browser.wait_for_text("Abmelden").await;
}

#[tokio::test]
async fn other_browsers_show_english_and_do_not_load_german() {
    let service = service().await;
    let browser = Browser::start_in("fr-FR,fr,en-GB").await;
    browser.open(&page(&service)).await;
    browser.wait_for_text("Sign in").await;
    let german = "
        const isGerman = ({name}) => /-de\\.|translate/.test(name);
        return performance.getEntriesByType('resource').filter(isGerman).length";
    assert_eq!(browser.run(german, json!([])).await, 0);
    assert_eq!(browser.run("return document.documentElement.lang", json!([])).await, "en");
}

#[tokio::test]
async fn numbers_dates_and_times_have_the_form_of_the_language() {
    let service = service().await;
    let old =
        json!({"event_id": "old", "camera_id": "a", "description": "x", "timestamp": "2026-03-04T12:00:00Z"});
    let _ = service.post_event(&old).await.expect(202);
    let browser = signed_in_in_german(&service).await;
    browser.click("nav a[href='#events']").await;
    // When the warning began.
    browser.wait_until("return /vor \\d+ (Sek|Min)/.test(document.body.innerText)").await;
    let is_clock = "return /^\\d\\d:\\d\\d$/.test(document.querySelector('.events time').innerText)";
    browser.wait_until(is_clock).await;
    browser.wait_for_text("Mittwoch, 4. März").await;
    let exact = "return document.querySelector('.events time').title";
    let exact = browser.run(exact, json!([])).await;
    assert!(exact.as_str().unwrap().starts_with("04.03.2026"), "{exact}");
    browser.click("nav a[href='#service']").await;
    browser.wait_until("return /\\d,\\d [KMG]iB/.test(document.querySelector('.service').textContent)").await;
}
