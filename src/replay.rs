//! The command `replay`: sends events of the log again, through the API of the running service.

use std::time::Duration;

use liveobject_actors::domain::clock;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::{
    cli::{Exit, ReplayArguments},
    commands,
    config::Config,
    output::line,
    running,
    terminal::escape_line,
};

/// How often the progress is printed.
const EVERY: Duration = Duration::from_secs(1);

/// How long the service may take to search the log.
const CREATE_TIMEOUT: Duration = Duration::from_secs(65);

const TIMEOUT: Duration = Duration::from_secs(5);

/// How often in a row the progress may be unavailable, for example while the service restarts.
const MAX_FAILURES: u32 = 60;

#[derive(Deserialize)]
struct Created {
    id: i64,
    events: u64,
}

#[derive(Deserialize)]
struct Progress {
    state: String,
    waiting_for: Option<String>,
    events: u64,
    published: u64,
    skipped: u64,
    reason: Option<String>,
}

/// Requests a replay, and prints its progress until it is over.
pub async fn run(config: &Config, arguments: &ReplayArguments) -> anyhow::Result<Exit> {
    commands::require_token(config)?;
    let request = request(arguments)?.to_string();
    let response = running::call(config, "POST", "/api/v1/replays", Some(request.as_bytes()), CREATE_TIMEOUT);
    let response = response.map_err(|error| {
        let error = error.to_string();
        anyhow::anyhow!("{error}. The replay is done by the running service: is it running?")
    })?;
    if let Some(refusal) = response.refusal() {
        anyhow::bail!("the service refused the replay: {refusal}");
    }
    let Created { id, events } = response.ok()?;
    if events == 0 {
        let whose = arguments.camera.as_deref().map(|camera| format!(" of camera {}", escape_line(camera)));
        line(format_args!("There are no events{} in that time.", whose.unwrap_or_default()))?;
        return Ok(Exit::Ok);
    }
    line(format_args!("Replay {id}: {events} events."))?;
    line(format_args!("It continues if you interrupt this command. DELETE /api/v1/replays/{id} stops it."))?;
    follow(config, id).await
}

async fn follow(config: &Config, id: i64) -> anyhow::Result<Exit> {
    let (mut printed, mut failures) = (String::new(), 0);
    loop {
        let response = running::call(config, "GET", &format!("/api/v1/replays/{id}"), None, TIMEOUT);
        let progress: Progress = match response.and_then(|response| response.ok()) {
            Ok(progress) => progress,
            Err(error) if failures >= MAX_FAILURES => return Err(error.into()),
            Err(_) => {
                failures += 1;
                sleep(EVERY).await;
                continue;
            }
        };
        failures = 0;
        let text = describe(&progress);
        if text != printed {
            line(format_args!("{}", escape_line(&text)))?;
            printed = text;
        }
        match progress.state.as_str() {
            "queued" | "running" => sleep(EVERY).await,
            "finished" => return Ok(Exit::Ok),
            _ => return Ok(Exit::Failed),
        }
    }
}

fn request(arguments: &ReplayArguments) -> anyhow::Result<Value> {
    let ReplayArguments { since, until, camera, topic, max_per_second } = arguments;
    let now = clock::now();
    let ago = |duration: Duration| -> anyhow::Result<Value> {
        let duration = chrono::TimeDelta::from_std(duration).ok();
        let time = duration.and_then(|duration| now.checked_sub_signed(duration));
        Ok(clock::rfc3339(time.ok_or_else(|| anyhow::anyhow!("the time is too long ago"))?).into())
    };
    let mut request = Map::new();
    request.insert("from".to_owned(), ago(*since)?);
    request.insert("to".to_owned(), ago(until.unwrap_or_default())?);
    let others = [
        ("camera_id", camera.as_ref().map(|id| json!(id))),
        ("topic", topic.as_ref().map(|topic| json!(topic))),
        ("max_per_second", max_per_second.map(|rate| json!(rate))),
    ];
    request.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(request.into())
}

fn describe(progress: &Progress) -> String {
    let Progress { state, waiting_for, events, published, skipped, reason } = progress;
    let left_out = if *skipped > 0 { format!(", {skipped} left out") } else { String::new() };
    let what = match (state.as_str(), waiting_for.as_deref()) {
        ("queued", _) => " (waits for an earlier replay)".to_owned(),
        (_, Some("connection")) => " (waits for the connection to the broker)".to_owned(),
        (_, Some("events")) => " (waits for other events, which go first)".to_owned(),
        ("running", _) => String::new(),
        (over, _) => format!(" ({over})"),
    };
    let reason = reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
    format!("{published} of {events} sent{left_out}{what}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_contains_only_what_was_given() {
        let arguments = ReplayArguments {
            since: Duration::from_hours(2),
            until: None,
            camera: Some("door".to_owned()),
            topic: None,
            max_per_second: Some(7),
        };
        let request = request(&arguments).unwrap();
        let names: Vec<&str> = request.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["camera_id", "from", "max_per_second", "to"]);
        assert!(super::request(&ReplayArguments { since: Duration::MAX, ..arguments }).is_err());
    }

    #[test]
    fn the_progress_names_what_it_waits_for_and_why_it_failed() {
        let progress = |state: &str, waiting_for: Option<&str>, reason: Option<&str>| Progress {
            state: state.to_owned(),
            waiting_for: waiting_for.map(str::to_owned),
            events: 9,
            published: 4,
            skipped: 1,
            reason: reason.map(str::to_owned),
        };
        let waits = describe(&progress("running", Some("connection"), None));
        assert_eq!(waits, "4 of 9 sent, 1 left out (waits for the connection to the broker)");
        let failed = describe(&progress("failed", None, Some("No.")));
        assert_eq!(failed, "4 of 9 sent, 1 left out (failed) No.");
    }
}
