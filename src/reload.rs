//! SIGHUP: reads the configuration again, and applies what can change while the service runs.

use std::{sync::Arc, time::Duration};

use liveobject_actors::domain::causes::with_causes;
use tokio::time::timeout;

use crate::{
    config::{self, API_TOKEN_VARIABLE, Config, Options, load_when_complete},
    http::tls::Certificates,
    telemetry,
    token::AdminToken,
};

/// How long reading the files may take. A file on a drive that does not respond would take forever.
const LIMIT: Duration = Duration::from_secs(15);

/// The only key that takes effect while the service runs. The files of the TLS certificate and the admin token are read
/// again as well.
const LOG_FILTER: &str = "log.filter";

/// The beginning of the keys of the MQTT settings.
const MQTT: &str = "mqtt.";
/// Not one of them: it determines where the broker comes from.
const MQTT_SOURCE: &str = "mqtt.source";

/// The configuration of the running service, and where it came from.
#[derive(Debug)]
pub struct Reload {
    options: Options,
    /// As it was read at the start, except for the log filter.
    running: Config,
    /// Shared with the thread that reads the files. It stays there if the thread hangs.
    reading: Arc<()>,
}

/// The keys that have changed, by what is necessary.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// The log filter has changed.
    filter: bool,
    /// The admin token in the environment or in systemd's credential has changed.
    admin_token: bool,
    /// They take effect after a restart.
    restart: Vec<String>,
    /// They have no effect, since the MQTT settings are stored in the database.
    ignored: Vec<String>,
}

impl Reload {
    /// Remembers the configuration of the running service.
    pub fn new(options: Options, running: Config) -> Self {
        Self { options, running, reading: Arc::default() }
    }

    /// Reads the configuration and the certificate again. If the configuration is not valid or cannot be read in time,
    /// nothing changes. (If only the certificate cannot be read in time, the configuration is applied.) The log shows
    /// what has changed, and what needs a restart.
    pub async fn reload(&mut self, certificates: Option<&Certificates>, token: &AdminToken) {
        tracing::info!("SIGHUP: reading the configuration again");
        let is_reading = Arc::strong_count(&self.reading) > 1;
        if is_reading || timeout(LIMIT, self.read(certificates, token)).await.is_err() {
            tracing::warn!(
                "the files of the configuration cannot be read in time, perhaps because a drive does not respond; \
                 except for the changes that were logged, the previous configuration remains in use"
            );
        }
    }

    async fn read(&mut self, certificates: Option<&Certificates>, token: &AdminToken) {
        let (options, reading) = (self.options.clone(), Arc::clone(&self.reading));
        let load = move || {
            let held = Arc::clone(&reading);
            let loaded = Config::load(&options, config::environment());
            drop(held);
            loaded
        };
        let waits = |error: &config::ConfigError| {
            tracing::warn!(error = %with_causes(&error), "waiting for files that seem to be incomplete");
        };
        match load_when_complete(load, waits).await {
            Ok(Ok(new)) => self.apply(new, token),
            Ok(Err(error)) => {
                tracing::warn!(error = %with_causes(&error), "the new configuration is not valid; nothing was changed");
                return;
            }
            Err(error) => {
                tracing::error!(
                    error = %with_causes(&error),
                    "panic while reading the configuration; nothing was changed"
                );
                return;
            }
        }
        if let Some(certificates) = certificates {
            certificates.reload_and_log().await;
        }
    }

    fn apply(&mut self, new: Config, token: &AdminToken) {
        for warning in new.warnings.iter().filter(|warning| !self.running.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        let Changes { filter, admin_token, restart, ignored } = changes(&self.running, &new);
        if let Some(given) = new.secrets.api_token.filter(|_| admin_token)
            && token.replace(given)
        {
            tracing::info!("using the new admin token; sessions of the old one have ended");
        }
        if filter {
            telemetry::set_filter(&new.log.filter);
            tracing::info!(filter = new.log.filter, "the log filter was changed");
            self.running.log.filter = new.log.filter;
        }
        if !restart.is_empty() {
            let keys = restart.join(", ");
            tracing::warn!(
                keys,
                "these keys of the configuration have changed; restart the service to apply them"
            );
        }
        if !ignored.is_empty() {
            let keys = ignored.join(", ");
            tracing::warn!(
                keys,
                "these keys of the configuration have changed; they have no effect, because the stored MQTT settings \
                 are in use: change them on the page or with the API, or set [mqtt] managed = true and restart"
            );
        }
    }
}

fn changes(running: &Config, new: &Config) -> Changes {
    let mut changes = Changes { filter: running.log.filter != new.log.filter, ..Changes::default() };
    let mut keys = running.fingerprint.changed(&new.fingerprint);
    // Whether the token comes from there or from its file does not change while the service runs.
    if running.secrets.api_token.is_some() && new.secrets.api_token.is_some() {
        keys.retain(|key| {
            changes.admin_token |= key == API_TOKEN_VARIABLE;
            key != API_TOKEN_VARIABLE
        });
    }
    let is_setting = |key: &str| key.starts_with(MQTT) && key != MQTT_SOURCE;
    let is_stored = |key: &String| is_setting(key) && !running.mqtt_managed && !new.mqtt_managed;
    (changes.ignored, changes.restart) =
        keys.into_iter().filter(|key| key != LOG_FILTER).partition(is_stored);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the configuration in these variables.
    fn config(variables: &[(&str, &str)]) -> Config {
        load(variables.iter().map(|(name, value)| (format!("LIVEOBJECT__{name}"), (*value).to_owned())))
    }

    fn load(variables: impl IntoIterator<Item = (String, String)>) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "").unwrap();
        let options = Options { file: Some(file), ..Options::default() };
        Config::load(&options, variables.into_iter()).unwrap()
    }

    #[test]
    fn changed_keys_are_separated_by_what_is_necessary() {
        let running = config(&[("LOG__FILTER", "info"), ("OUTBOX__WINDOW", "5"), ("MQTT__BROKER_HOST", "a")]);
        assert_eq!(changes(&running, &running), Changes::default());
        let new = [("LOG__FILTER", "debug"), ("HTTP__PUBLIC_URL", "http://a"), ("MQTT__PASSWORD", "secret")];
        let expected = Changes {
            filter: true,
            admin_token: false,
            restart: vec!["http.public_url".to_owned(), "outbox.window".to_owned()],
            ignored: vec!["mqtt.broker_host".to_owned(), "mqtt.password".to_owned()],
        };
        assert_eq!(changes(&running, &config(&new)), expected);
    }

    #[test]
    fn secrets_that_are_not_keys_are_named_and_the_admin_token_is_applied() {
        let with = |token: &str, link_key: &str| {
            let variables = [("LIVEOBJECT_API_TOKEN", token), ("LIVEOBJECT_THUMBNAIL_KEY", link_key)];
            load(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        };
        let running = with(&"a".repeat(40), &"0a".repeat(32));
        let changes = changes(&running, &with(&"b".repeat(40), &"0b".repeat(32)));
        assert_eq!(changes.restart, ["LIVEOBJECT_THUMBNAIL_KEY"]);
        assert!(changes.admin_token);
        let removed = super::changes(&running, &config(&[]));
        assert_eq!(removed.restart, ["LIVEOBJECT_API_TOKEN", "LIVEOBJECT_THUMBNAIL_KEY"]);
        assert!(!removed.admin_token);
    }

    #[test]
    fn another_source_of_the_broker_takes_effect_after_a_restart() {
        let changes = changes(&config(&[]), &config(&[("MQTT__SOURCE", "supervisor")]));
        assert_eq!(
            (changes.restart.as_slice(), changes.ignored.len()),
            (["mqtt.source".to_owned()].as_slice(), 0)
        );
    }

    #[test]
    fn managed_mqtt_settings_take_effect_after_a_restart() {
        let running = config(&[("MQTT__BROKER_HOST", "a")]);
        let new = config(&[("MQTT__BROKER_HOST", "b"), ("MQTT__MANAGED", "true")]);
        let changes = changes(&running, &new);
        assert_eq!(changes.restart, ["mqtt.broker_host", "mqtt.managed"]);
        assert!(changes.ignored.is_empty() && !changes.filter);
    }
}
