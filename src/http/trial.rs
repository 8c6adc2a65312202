//! A trial connection that is told of as it goes: a line of JSON a step.

use std::convert::Infallible;

use actix_web::{
    HttpResponse,
    http::header::{ACCEPT, CACHE_CONTROL, HeaderMap},
    web::{Bytes, Data},
};
use futures_util::{Stream, future::LocalBoxFuture, stream};
use liveobject_actors::config::{TestConnection, TestProgress, TestReport};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    mqtt::TRIAL_PATIENCE,
    problem::Problem,
    state::{ApiState, ask_within},
};

const MEDIA_TYPE: &str = "application/x-ndjson";

type Trial = LocalBoxFuture<'static, Result<TestReport, Problem>>;

/// Whether the caller asks for lines.
pub(super) fn is_wanted_live(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|one| one.split(';').next().unwrap_or("").trim() == MEDIA_TYPE)
}

/// Tries these settings. What is refused before the first step is answered as a problem.
pub(super) async fn live(state: Data<ApiState>, settings: Option<Value>) -> Result<HttpResponse, Problem> {
    let (watcher, mut told) = unbounded_channel();
    let test = TestConnection::watched(settings, watcher);
    let mut trial: Trial =
        Box::pin(async move { Ok(ask_within(TRIAL_PATIENCE, &state.handle.test_connection, test).await??) });
    let first = tokio::select! {
        // A step that was told comes before the end that follows it.
        biased;
        Some(first) = told.recv() => line(&json!(first)),
        report = &mut trial => return Ok(whole(&report?)),
    };
    let lines = stream::iter([Ok(first)]);
    let lines = futures_util::StreamExt::chain(lines, rest(trial, told));
    Ok(HttpResponse::Ok()
        .content_type(MEDIA_TYPE)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(lines))
}

/// A trial that was over before it told anything.
fn whole(report: &TestReport) -> HttpResponse {
    HttpResponse::Ok().content_type(MEDIA_TYPE).body(line(&json!({ "report": report })))
}

fn rest(
    trial: Trial,
    told: UnboundedReceiver<TestProgress>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Some((trial, told)), |running| async move {
        let (mut trial, mut told) = running?;
        tokio::select! {
            biased;
            Some(step) = told.recv() => Some((Ok(line(&json!(step))), Some((trial, told)))),
            report = &mut trial => {
                let last = match report {
                    Ok(report) => json!({ "report": report }),
                    Err(problem) => json!({ "error": problem.to_string() }),
                };
                Some((Ok(line(&last)), None))
            }
        }
    })
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn lines_are_for_those_who_ask_for_them() {
        for (accept, expected) in [
            ("application/x-ndjson", true),
            ("application/json;q=0.5, application/x-ndjson ; q=1", true),
            ("*/*", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(is_wanted_live(&headers), expected, "{accept}");
        }
        assert!(!is_wanted_live(&HeaderMap::new()));
    }
}
