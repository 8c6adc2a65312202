//! The files of the web page, as browsers request them.

use reqwest::Method;

use crate::helpers::{Answer, TestApp};

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_page_needs_no_token_and_may_load_only_its_own_files() {
    let app = TestApp::start();
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/icon-192.png", "image/png"),
        ("/page/manifest.webmanifest", "application/manifest+json"),
    ] {
        let answer = Answer::send(app.anonymous(Method::GET, path)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, media_type), "{path}");
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self' 'sha256-",
            "style-src 'self' 'sha256-",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(!answer.text.contains(&app.token));
    }
    Answer::send(app.anonymous(Method::GET, "/page/nothing.js")).await.problem(404);
    Answer::send(app.anonymous(Method::GET, "/page/..%2Fpage.rs")).await.problem(404);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_name_of_a_view_and_the_usual_address_of_an_icon_lead_a_browser_there() {
    let app = TestApp::start();
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    let client = client.unwrap();
    for view in ["events", "cameras", "settings", "service"] {
        let opened = client
            .get(format!("http://{}/{view}", app.address))
            .header("Accept", "text/html,*/*;q=0.8")
            .send();
        let opened = opened.await.unwrap();
        let location = opened.headers()["location"].to_str().unwrap();
        assert_eq!((opened.status().as_u16(), location), (302, &*format!("./#{view}")));
        Answer::send(app.anonymous(Method::GET, &format!("/{view}"))).await.problem(404);
    }
    let icon = Answer::send(app.anonymous(Method::GET, "/favicon.ico")).await;
    assert_eq!((icon.status, icon.header("content-type")), (200, "image/png"));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_file_that_a_browser_has_cached_is_not_sent_again() {
    let app = TestApp::start();
    let first = Answer::send(app.anonymous(Method::GET, "/")).await;
    assert_eq!(first.header("cache-control"), "no-cache");
    let tag = first.header("etag").to_owned();
    for etag in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
        let again = Answer::send(app.anonymous(Method::GET, "/").header("If-None-Match", etag)).await;
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", tag.as_str()));
    }
    let other = Answer::send(app.anonymous(Method::GET, "/").header("If-None-Match", "\"x\"")).await;
    assert_eq!(other.status, 200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_file_of_the_current_version_is_cached_forever_and_other_versions_do_not_exist() {
    let app = TestApp::start();
    let version = app.page_version().await;
    for name in ["start.js", "main.js", "style.css"] {
        let path = format!("/page/{version}/{name}");
        let versioned = Answer::send(app.anonymous(Method::GET, &path)).await;
        assert_eq!(versioned.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
        let plain = Answer::send(app.anonymous(Method::GET, &format!("/page/{name}"))).await;
        assert_eq!((plain.header("cache-control"), &plain.text), ("no-cache", &versioned.text));
    }
    let icon = Answer::send(app.anonymous(Method::GET, "/page/icon.svg")).await;
    assert_eq!(icon.header("cache-control"), "public, max-age=86400");
    for path in ["/page/0123456789abcdef/start.js", &format!("/page/{version}/nothing.js")] {
        Answer::send(app.anonymous(Method::GET, path)).await.problem(404);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_browser_receives_the_files_compressed() {
    let app = TestApp::start();
    let script = || app.anonymous(Method::GET, "/page/main.js");
    let plain = Answer::send(script().header("Accept-Encoding", "identity")).await;
    assert!(!plain.headers.contains_key("content-encoding"));
    let small = Answer::send(script().header("Accept-Encoding", "gzip, br")).await;
    assert_eq!((small.header("content-encoding"), small.header("vary")), ("gzip", "Accept-Encoding"));
    assert!(small.header("content-length").parse::<usize>().unwrap() < plain.text.len() / 2);
    assert_ne!(small.header("etag"), plain.header("etag"));
    let known = small.header("etag").to_owned();
    let again = script().header("Accept-Encoding", "gzip").header("If-None-Match", known);
    assert_eq!(Answer::send(again).await.status, 304);
    app.stop().await;
}
