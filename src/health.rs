//! `liveobject health`: reports whether the running service accepts events. It is meant for containers, which may have
//! no HTTP client.

use serde::Serialize;

use crate::{
    cli::Exit,
    config::Config,
    output::{json, line},
    running::{self, Readiness},
    terminal::escape_line,
};

/// The outcome, as JSON.
#[derive(Debug, Serialize)]
struct Health {
    /// Whether the service accepts events.
    ready: bool,
    /// The outcome in words.
    message: String,
}

/// Asks the service that runs with this configuration, and prints whether it accepts events; if not, also why.
/// Blocks for 5 s at most.
pub fn health(config: &Config, as_json: bool) -> anyhow::Result<Exit> {
    let health = match running::readiness(config) {
        Ok(Readiness::Ready) => Health { ready: true, message: "the service accepts events".to_owned() },
        Ok(Readiness::Standby(active)) => {
            let active = active.map_or_else(
                || "no node is active at the moment".to_owned(),
                |name| format!("{name} is the active node"),
            );
            Health { ready: true, message: format!("this node is on standby; {active}") }
        }
        Ok(Readiness::NotReady(why)) => {
            Health { ready: false, message: format!("the service does not accept events: {why}") }
        }
        Err(error) => Health { ready: false, message: format!("cannot query the service: {error}") },
    };
    if as_json {
        json(&health)?;
    } else {
        line(format_args!("{}", escape_line(&health.message)))?;
    }
    Ok(if health.ready { Exit::Ok } else { Exit::Failed })
}
