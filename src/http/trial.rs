//! A trial connection that is told of as it goes: a line of JSON a step.

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
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    mqtt::TRIAL_PATIENCE,
    problem::Problem,
    state::{ApiState, ask_within},
    stream::X_ACCEL_BUFFERING,
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
    let running = tokio::select! {
        biased;
        Some(first) = told.recv() => Running::Step(line(&json!(first)), trial),
        report = &mut trial => Running::Over(last(&Ok(report?))),
    };
    let lines = lines(running, told);
    Ok(HttpResponse::Ok()
        .content_type(MEDIA_TYPE)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .streaming(lines))
}

/// How far it is.
enum Running {
    /// This line is to be told before it goes on.
    Step(Bytes, Trial),
    /// It goes on.
    On(Trial),
    /// It is over: what is still told comes before the last line.
    Over(Bytes),
    /// All is told.
    Told,
}

fn lines(
    running: Running,
    told: UnboundedReceiver<TestProgress>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((running, told), |(running, mut told)| async move {
        let (line, next) = match running {
            Running::Step(step, trial) => (step, Running::On(trial)),
            Running::On(mut trial) => tokio::select! {
                biased;
                Some(step) = told.recv() => (line(&json!(step)), Running::On(trial)),
                report = &mut trial => after(&mut told, last(&report)),
            },
            Running::Over(last) => after(&mut told, last),
            Running::Told => return None,
        };
        Some((Ok(line), (next, told)))
    })
}

/// The next line of a trial that is over.
fn after(told: &mut UnboundedReceiver<TestProgress>, last: Bytes) -> (Bytes, Running) {
    match told.try_recv() {
        Ok(step) => (line(&json!(step)), Running::Over(last)),
        Err(_) => (last, Running::Told),
    }
}

fn last(report: &Result<TestReport, Problem>) -> Bytes {
    line(&match report {
        Ok(report) => json!({ "report": report }),
        Err(problem) => json!({ "error": problem.to_string() }),
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
