//! The command `check`: tests the broker connection and reports what the running service does.

use std::time::Duration;

use liveobject_actors::{
    config::{ConfigOptions, StoredSettings},
    domain::probe_report::{TestProgress, TestReport},
    store::{ActiveNode, Store, StoreError},
};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    cli::Exit,
    commands::{count, lock_unless_in_use, require_database, server},
    config::Config,
    home_assistant::BrokerInquiry,
    output::{self, OutputError, json, line, transient},
    running::{self, OTHER_ADDRESS, RunningStatus, RunningWarning, StatusError},
    terminal::escape_line,
};

/// How long `check` waits for a connection attempt of the running service to end.
const CONNECTING_LIMIT: Duration = Duration::from_secs(12);
const POLL: Duration = Duration::from_millis(200);

/// If the active node has not reported to the database for this long, and no other node has taken over, none runs.
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// The outcome of `check`, as JSON.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    report: TestReport,
    /// The status of the running service; `None` if it does not run, or if the status cannot be read.
    service: Option<RunningStatus>,
    /// The warnings of the running service.
    warnings: Option<Vec<RunningWarning>>,
}

/// Tests the broker connection with the saved settings, and prints each stage and the status of the running service.
/// Fails if a stage fails, or if a service runs and is not connected.
pub async fn check(config: &Config, as_json: bool) -> anyhow::Result<Exit> {
    require_database(config)?;
    let lock = lock_unless_in_use(config)?;
    let options = config.service_options();
    let store = options.open_store_in_use(lock.is_some()).await?;
    // A command must not replace the settings of the service; only its start does.
    let config_options = ConfigOptions {
        managed: false,
        ..options.config_options(store.clone(), mpsc::unbounded_channel().0)
    };
    let mut stored = StoredSettings::open(config_options).await?;
    if let Some(inquiry) = BrokerInquiry::of(config) {
        stored.provide(inquiry.ask().await);
    }
    let settings = stored.settings();
    let is_running = lock.is_none();
    // The test takes a while, and uses nothing but the settings. A service may start in the meantime.
    drop(lock);
    if let Some(why) = stored.unreadable() {
        tracing::warn!(%why, "the stored settings cannot be used to connect to the broker");
    }
    if settings.broker_host.is_empty() {
        let message = stored.unreadable().filter(|_| config.mqtt_source.is_supervisor()).unwrap_or_else(|| format!(
            "No broker configured. Find one with `liveobject setup`, or set it on the page ({}),\n\
             with PUT /api/v1/integrations/mqtt/config, or in [mqtt] of the configuration before the first start.",
            options.public_url
        ));
        if as_json {
            let message = message.replace('\n', " ");
            let report = TestReport { success: false, message, protocol: None, stages: Vec::new() };
            json(&Checked { report, service: None, warnings: None })?;
        } else {
            line(format_args!("{message}"))?;
        }
        return Ok(Exit::Failed);
    }
    if !as_json {
        if let Some(database) = server(config) {
            line(format_args!("Database: {}", escape_line(&database)))?;
        }
        line(format_args!("Testing {}", escape_line(&settings.broker())))?;
    }
    let announces = settings.discovery_enabled;
    let report = if as_json || !output::is_terminal() {
        stored.test_connection(None).await?
    } else {
        test_visibly(&stored).await?
    };
    let elsewhere = if is_running || as_json { String::new() } else { without_service(&store).await? };
    store.close().await;
    let service = if is_running { Some(settled_status(config).await) } else { None };
    let is_connected =
        |status: &Result<RunningStatus, _>| status.as_ref().is_ok_and(RunningStatus::is_connected);
    let is_idle = service.as_ref().is_some_and(|status| !is_connected(status));
    let exit = if report.success && !is_idle { Exit::Ok } else { Exit::Failed };
    if as_json {
        let service = service.and_then(Result::ok);
        let warnings = service.as_ref().map(|status| status.warnings.clone());
        json(&Checked { report, service, warnings })?;
        return Ok(exit);
    }
    print_stages(&report)?;
    if !announces {
        line(format_args!(
            "  off    discovery                discovery_enabled is false: no camera is announced to Home Assistant"
        ))?;
    }
    let is_unknown = service.as_ref().is_some_and(Result::is_err);
    match service {
        None => line(format_args!("{}", escape_line(&elsewhere)))?,
        Some(status) => print_status(status)?,
    }
    if report.success && is_unknown {
        line(format_args!(
            "Failed: the connection test succeeded, but the status of the running service could not be read."
        ))?;
    } else if report.success && is_idle {
        line(format_args!(
            "Failed: the connection test succeeded, but the running service is not connected."
        ))?;
    } else {
        line(format_args!("{}", conclusion(&report)))?;
    }
    Ok(exit)
}

/// Returns what to say if no service uses the data directory.
async fn without_service(store: &Store) -> Result<String, StoreError> {
    if store.is_on_server() {
        return Ok(without_node(store.active_node().await?));
    }
    Ok("No service is running with this data; only the connection was tested.".to_owned())
}

/// Returns what to say if this node is not running, while `active` owns the event log.
fn without_node(active: Option<ActiveNode>) -> String {
    const HERE: &str = "No service is running with this data directory; only the connection was tested.";
    match active {
        None => format!("{HERE} No node is active, so no events are accepted: start one."),
        Some(ActiveNode { node, silent_for }) if silent_for >= SILENT_AFTER => format!(
            "{HERE} The active node, {} ({}), has not reported to the database for {} s, and no other node has taken \
             over, so no events are accepted: start a node.",
            node.name,
            node.url,
            silent_for.as_secs()
        ),
        Some(ActiveNode { node, .. }) => format!("{HERE} The active node is {} ({}).", node.name, node.url),
    }
}

/// Tests the connection and shows the current stage on the terminal until the test has ended.
async fn test_visibly(stored: &StoredSettings) -> anyhow::Result<TestReport> {
    let (watcher, mut steps) = mpsc::unbounded_channel();
    let show = async {
        while let Some(step) = steps.recv().await {
            if let TestProgress::Begun(stage) = step {
                transient(format_args!("  ...    {stage}"))?;
            }
        }
        transient(format_args!(""))
    };
    let (report, shown) = tokio::join!(stored.test_connection(Some(watcher)), show);
    shown?;
    Ok(report?)
}

/// Returns the status of the running service. A connection attempt that is in progress may end first.
async fn settled_status(config: &Config) -> Result<RunningStatus, StatusError> {
    let begun = Instant::now();
    loop {
        let status = running::status(config)?;
        if status.state != "connecting" || begun.elapsed() >= CONNECTING_LIMIT {
            return Ok(status);
        }
        sleep(POLL).await;
    }
}

/// Prints what the running service does once its connection attempt has ended, and its warnings.
pub async fn print_service(config: &Config) -> Result<(), OutputError> {
    print_status(settled_status(config).await)
}

/// Prints what the running service does, and its warnings.
fn print_status(status: Result<RunningStatus, StatusError>) -> Result<(), OutputError> {
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let error = error.to_string();
            let error = escape_line(&error);
            return line(format_args!(
                "The status of the running service could not be read ({error}). Its web page shows it. {OTHER_ADDRESS}"
            ));
        }
    };
    for text in describe(&status) {
        line(format_args!("{}", escape_line(&text)))?;
    }
    if !status.warnings.is_empty() {
        line(format_args!("Warnings of the running service:"))?;
    }
    for RunningWarning { kind, message } in &status.warnings {
        line(format_args!("  {}: {}", escape_line(kind), escape_line(message)))?;
    }
    Ok(())
}

/// Returns what the running service does, and what can be done about dead events, a line each.
fn describe(status: &RunningStatus) -> Vec<String> {
    let RunningStatus { state, last_error, next_attempt_at, outbox, warnings } = status;
    let mut activity = match state.as_str() {
        "connected" => "connected".to_owned(),
        "disabled" => {
            "MQTT is switched off, so no events are sent. Set enabled to true in the settings".to_owned()
        }
        "connecting" => "connecting to the broker".to_owned(),
        _ => {
            let cause = last_error
                .as_ref()
                .map_or("the connection ended", |error| error.message.trim_end_matches('.'));
            let next = next_attempt_at.as_ref().map(|time| format!(". Next attempt at {time}"));
            format!("not connected: {cause}{}", next.unwrap_or_default())
        }
    };
    activity.push_str(if state == "connected" { "; " } else { ". " });
    let pending = count(outbox.pending, "event");
    let no_warnings = if warnings.is_empty() && state == "connected" { ", no warnings" } else { "" };
    let mut lines =
        vec![format!("Running service: {activity}{pending} pending, {} dead{no_warnings}.", outbox.dead)];
    if outbox.dead > 0 {
        lines.push(
            "Dead events could not be delivered. Send them again or dismiss them on the page, or with \
             POST /api/v1/events/dead/retry or DELETE /api/v1/events/dead."
                .to_owned(),
        );
    }
    lines
}

/// Returns the result of a connection test whose stages have been printed.
pub fn conclusion(report: &TestReport) -> String {
    let message = escape_line(&report.message);
    // The stage contains the reason, so it is not repeated.
    let failed = report.stages.iter().find(|stage| stage.ok == Some(false));
    match failed.filter(|stage| stage.detail.ends_with(&report.message)) {
        _ if report.success => format!("OK: {message}"),
        Some(stage) => format!("Failed: see {} above.", stage.name),
        None => format!("Failed: {message}"),
    }
}

/// Prints the stages of a connection test.
pub fn print_stages(report: &TestReport) -> Result<(), OutputError> {
    let paint = |color: &'static str| if output::has_color() { (color, "\x1b[0m") } else { ("", "") };
    for stage in &report.stages {
        let (mark, (color, end)) = match stage.ok {
            Some(true) => ("ok    ", paint("\x1b[32m")),
            Some(false) => ("FAILED", paint("\x1b[31m")),
            None => ("?     ", paint("\x1b[33m")),
        };
        let detail = escape_line(&stage.detail);
        line(format_args!("  {color}{mark}{end} {:<13}{:>6} ms  {detail}", stage.name, stage.duration_ms))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use liveobject_actors::domain::{
        node::NodeName,
        probe_report::{Stage, TestStage},
    };
    use serde_json::json;

    use super::*;

    fn lines(state: &str, pending: u64, dead: u64) -> Vec<String> {
        let status = json!({
            "state": state,
            "last_error": { "kind": "refused", "message": "broker:1883 refused the connection." },
            "next_attempt_at": "2026-01-02T03:04:05Z",
            "outbox": { "pending": pending, "dead": dead },
            "warnings": [],
        });
        describe(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn the_reason_of_a_failure_is_printed_once() {
        let report = |detail: &str, success| {
            let ok = Some(success);
            let stage = TestStage { name: Stage::Connect, ok, duration_ms: 1, detail: detail.to_owned() };
            let message = "Connection refused.".to_owned();
            TestReport { success, message, protocol: None, stages: vec![stage] }
        };
        assert_eq!(conclusion(&report("refused: Connection refused.", false)), "Failed: see connect above.");
        assert_eq!(conclusion(&report("10.0.0.1", false)), "Failed: Connection refused.");
        assert_eq!(conclusion(&report("10.0.0.1", true)), "OK: Connection refused.");
    }

    #[test]
    fn a_command_on_another_node_names_the_active_one() {
        let active = |seconds| {
            let node = NodeName { name: "b".to_owned(), url: "http://b:8080".to_owned() };
            without_node(Some(ActiveNode { node, silent_for: Duration::from_secs(seconds) }))
        };
        assert!(active(14).ends_with("The active node is b (http://b:8080)."));
        assert!(active(15).ends_with(
            "b (http://b:8080), has not reported to the database for 15 s, and no other node has taken over, so no \
             events are accepted: start a node."
        ));
        assert!(without_node(None).ends_with("No node is active, so no events are accepted: start one."));
    }

    #[test]
    fn the_status_names_what_keeps_events_from_being_sent() {
        assert_eq!(
            lines("connected", 0, 0),
            ["Running service: connected; 0 events pending, 0 dead, no warnings."]
        );
        let off = lines("disabled", 1, 0);
        assert!(
            off[0].contains("switched off") && off[0].ends_with("settings. 1 event pending, 0 dead."),
            "{off:?}"
        );
        assert_eq!(
            lines("waiting", 2, 0),
            ["Running service: not connected: broker:1883 refused the connection. Next attempt at \
              2026-01-02T03:04:05Z. 2 events pending, 0 dead."]
        );
        let dead = lines("connected", 0, 2);
        assert!(dead[0].contains("2 dead") && dead[1].contains("/api/v1/events/dead/retry"), "{dead:?}");
    }
}
