//! A connection test with live progress: one line of JSON per step.

use std::convert::Infallible;

use actix_web::{
    HttpResponse,
    http::header::{ACCEPT, CACHE_CONTROL, HeaderMap},
    web::{Bytes, Data},
};
use futures_util::{Stream, future::LocalBoxFuture, stream};
use liveobject_actors::{
    domain::probe_report::{TestProgress, TestReport},
    messages::config::TestConnection,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    headers::X_ACCEL_BUFFERING,
    problem::Problem,
    state::{ApiState, BROKER_TIMEOUT, ask_within},
};

const MEDIA_TYPE: &str = "application/x-ndjson";

type Test = LocalBoxFuture<'static, Result<TestReport, Problem>>;

/// Whether the client asks for live progress.
pub(super) fn wants_progress(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|one| one.split(';').next().unwrap_or("").trim() == MEDIA_TYPE)
}

/// Tests a connection with these settings. Errors before the first step become a problem response.
pub(super) async fn run_live(
    state: Data<ApiState>,
    settings: Option<Value>,
) -> Result<HttpResponse, Problem> {
    let (watcher, mut steps) = unbounded_channel();
    let request = TestConnection::watched(settings, watcher);
    let mut test: Test =
        Box::pin(
            async move { Ok(ask_within(BROKER_TIMEOUT, &state.handle.test_connection, request).await??) },
        );
    let progress = tokio::select! {
        biased;
        Some(first) = steps.recv() => Progress::FirstStep(line(&first), test),
        report = &mut test => Progress::Finished(last_line(&Ok(report?))),
    };
    let lines = lines(progress, steps);
    Ok(HttpResponse::Ok()
        .content_type(MEDIA_TYPE)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .streaming(lines))
}

/// The progress of a test.
enum Progress {
    /// The test is running, and this line is sent first.
    FirstStep(Bytes, Test),
    /// The test is running.
    Running(Test),
    /// The test has finished. The remaining steps are sent before this last line.
    Finished(Bytes),
    /// Everything has been sent.
    Sent,
}

fn lines(
    progress: Progress,
    steps: UnboundedReceiver<TestProgress>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((progress, steps), |(progress, mut steps)| async move {
        let (line, next) = match progress {
            Progress::FirstStep(line, test) => (line, Progress::Running(test)),
            Progress::Running(mut test) => tokio::select! {
                biased;
                Some(step) = steps.recv() => (line(&step), Progress::Running(test)),
                report = &mut test => next_of_finished(&mut steps, last_line(&report)),
            },
            Progress::Finished(last) => next_of_finished(&mut steps, last),
            Progress::Sent => return None,
        };
        Some((Ok(line), (next, steps)))
    })
}

/// Returns the next line of a test that has finished.
fn next_of_finished(steps: &mut UnboundedReceiver<TestProgress>, last: Bytes) -> (Bytes, Progress) {
    match steps.try_recv() {
        Ok(step) => (line(&step), Progress::Finished(last)),
        Err(_) => (last, Progress::Sent),
    }
}

fn last_line(report: &Result<TestReport, Problem>) -> Bytes {
    line(&match report {
        Ok(report) => json!({ "report": report }),
        Err(problem) => json!({ "error": problem.to_string() }),
    })
}

fn line(value: &impl Serialize) -> Bytes {
    format!("{}\n", json!(value)).into()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn only_clients_that_accept_ndjson_get_live_progress() {
        for (accept, expected) in [
            ("application/x-ndjson", true),
            ("application/json;q=0.5, application/x-ndjson ; q=1", true),
            ("*/*", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_progress(&headers), expected, "{accept}");
        }
        assert!(!wants_progress(&HeaderMap::new()));
    }
}
