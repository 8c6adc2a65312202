//! Waits for files of the configuration that are being replaced: certificates, keys and secrets.

use std::time::Duration;

use tokio::{
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep},
};

use super::{fault::ConfigError, values::Config};

/// How long the files may be incomplete. A replacement takes a moment; a mistake should be reported soon.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Calls `load`, and again for five seconds while files seem to be incomplete. Calls `waits` with the error before the
/// first pause. Fails with the [`JoinError`] if `load` panics.
pub async fn load_when_complete(
    load: impl Fn() -> Result<Config, ConfigError> + Clone + Send + 'static,
    waits: impl FnOnce(&ConfigError),
) -> Result<Result<Config, ConfigError>, JoinError> {
    let (deadline, mut waits) = (Instant::now() + PATIENCE, Some(waits));
    loop {
        let loaded = spawn_blocking(load.clone()).await?;
        match &loaded {
            Err(error) if error.may_pass() && Instant::now() < deadline => {
                if let Some(waits) = waits.take() {
                    waits(error);
                }
            }
            _ => return Ok(loaded),
        }
        sleep(PAUSE).await;
    }
}
