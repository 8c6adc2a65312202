//! The stored settings: those of the running service, or those in the database while no service runs.

use std::time::Duration;

use liveobject_actors::{
    config::{ConfigOptions, StoredSettings},
    data_dir::DataDir,
    store::Store,
};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::Login;
use crate::{
    app::require_mounted,
    config::Config,
    running::{self, StatusError},
};

const PATH: &str = "/api/v1/integrations/mqtt/config";

const TIMEOUT: Duration = Duration::from_secs(15);

/// Where the settings were saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saved {
    /// The running service has them.
    ByService,
    /// The next start of the service reads them.
    InDatabase,
}

/// Returns the settings as clients of the API see them.
pub(super) async fn read(config: &Config) -> anyhow::Result<Map<String, Value>> {
    match running::call(config, "GET", PATH, None, TIMEOUT) {
        Err(StatusError::NotRunning) => {
            let (_lock, store, settings) = open(config).await?;
            let view = serde_json::to_value(settings.view());
            store.close().await;
            Ok(serde_json::from_value(view?)?)
        }
        response => Ok(response?.ok()?),
    }
}

/// Saves the stored settings with this broker and login.
pub(super) async fn save(
    config: &Config,
    login: &Login,
    settings: &Map<String, Value>,
) -> anyhow::Result<Saved> {
    match running::call(config, "PUT", PATH, Some(&login.request(settings)?), TIMEOUT) {
        Err(StatusError::NotRunning) => {
            let (_lock, store, stored) = open(config).await?;
            let saved = stored.replace(login.update(settings)?).await;
            store.close().await;
            saved?;
            Ok(Saved::InDatabase)
        }
        response => {
            let response = response?;
            if let Some(refusal) = response.refusal() {
                anyhow::bail!("the service refused the settings: {refusal}");
            }
            let _settings: Map<String, Value> = response.ok()?;
            Ok(Saved::ByService)
        }
    }
}

/// Opens the settings while no service runs. Keep the lock, so that none starts in the meantime.
async fn open(config: &Config) -> anyhow::Result<(DataDir, Store, StoredSettings)> {
    // Saving a password creates the identity if it is missing.
    require_mounted(config)?;
    let lock = DataDir::lock(&config.data_dir)?;
    let options = config.service_options();
    let store = options.open_store().await?;
    let config_options = ConfigOptions {
        managed: false,
        ..options.config_options(store.clone(), mpsc::unbounded_channel().0)
    };
    let settings = StoredSettings::open(config_options).await?;
    Ok((lock, store, settings))
}
