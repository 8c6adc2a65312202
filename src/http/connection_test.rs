//! A connection test with live progress: one JSON value per step, as lines or as server-sent events.

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

/// How the progress is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One line of JSON per step.
    Lines,
    /// One server-sent event per step. Proxies that gather and compress JSON forward these at once.
    Events,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }
}

type Test = LocalBoxFuture<'static, Result<TestReport, Problem>>;

/// Returns the format in which the client asks for live progress, if it does.
pub(super) fn progress_format(headers: &HeaderMap) -> Option<Format> {
    let accepted = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|value| value.split(',')).map(|one| one.split(';').next().unwrap_or("").trim());
    types
        .find_map(|one| [Format::Lines, Format::Events].into_iter().find(|format| format.media_type() == one))
}

/// Tests a connection with these settings. Errors before the first step become a problem response.
pub(super) async fn run_live(
    state: Data<ApiState>,
    settings: Option<Value>,
    format: Format,
) -> Result<HttpResponse, Problem> {
    let (watcher, mut steps) = unbounded_channel();
    let request = TestConnection::watched(settings, watcher);
    let mut test: Test =
        Box::pin(
            async move { Ok(ask_within(BROKER_TIMEOUT, &state.handle.test_connection, request).await??) },
        );
    let progress = tokio::select! {
        biased;
        Some(first) = steps.recv() => Progress::FirstStep(message(format, &first), test),
        report = &mut test => Progress::Finished(last_message(format, &Ok(report?))),
    };
    let messages = messages(format, progress, steps);
    Ok(HttpResponse::Ok()
        .content_type(format.media_type())
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .streaming(messages))
}

/// The progress of a test.
enum Progress {
    /// The test is running, and this message is sent first.
    FirstStep(Bytes, Test),
    /// The test is running.
    Running(Test),
    /// The test has finished. The remaining steps are sent before this last message.
    Finished(Bytes),
    /// Everything has been sent.
    Sent,
}

fn messages(
    format: Format,
    progress: Progress,
    steps: UnboundedReceiver<TestProgress>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((progress, steps), move |(progress, mut steps)| async move {
        let (message, next) = match progress {
            Progress::FirstStep(first, test) => (first, Progress::Running(test)),
            Progress::Running(mut test) => tokio::select! {
                biased;
                Some(step) = steps.recv() => (message(format, &step), Progress::Running(test)),
                report = &mut test => next_of_finished(format, &mut steps, last_message(format, &report)),
            },
            Progress::Finished(last) => next_of_finished(format, &mut steps, last),
            Progress::Sent => return None,
        };
        Some((Ok(message), (next, steps)))
    })
}

/// Returns the next message of a test that has finished.
fn next_of_finished(
    format: Format,
    steps: &mut UnboundedReceiver<TestProgress>,
    last: Bytes,
) -> (Bytes, Progress) {
    match steps.try_recv() {
        Ok(step) => (message(format, &step), Progress::Finished(last)),
        Err(_) => (last, Progress::Sent),
    }
}

fn last_message(format: Format, report: &Result<TestReport, Problem>) -> Bytes {
    let value = match report {
        Ok(report) => json!({ "report": report }),
        Err(problem) => json!({ "error": problem.to_string() }),
    };
    message(format, &value)
}

fn message(format: Format, value: &impl Serialize) -> Bytes {
    match format {
        Format::Lines => format!("{}\n", json!(value)).into(),
        Format::Events => format!("data: {}\n\n", json!(value)).into(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn only_clients_that_ask_for_it_get_live_progress() {
        for (accept, expected) in [
            ("application/x-ndjson", Some(Format::Lines)),
            ("application/json;q=0.5, application/x-ndjson ; q=1", Some(Format::Lines)),
            ("text/event-stream, application/problem+json", Some(Format::Events)),
            ("*/*", None),
            ("application/json", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(progress_format(&headers), expected, "{accept}");
        }
        assert_eq!(progress_format(&HeaderMap::new()), None);
    }
}
