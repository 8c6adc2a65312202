//! The commands other than `serve` and `demo`: `check`, `token …`, `key rotate`.

#![expect(clippy::print_stdout, reason = "the result of a command goes to standard output")]

use std::path::Path;

use liveobject_actors::{
    config::{IdentitySource, StoredSettings, rotate},
    data_dir::{DataDir, DataDirError},
    domain::{
        clock::Timestamp,
        probe_report::TestReport,
        token::{Scope, Scopes, TokenName, TokenRecord},
    },
    store::Store,
    tokens,
};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;

use crate::{
    cli::{Exit, TokenCommand},
    config::Config,
    terminal::escape_line,
    token::ApiToken,
};

/// Prints the admin token. Creates it if there is none yet.
pub fn token(config: &Config) -> anyhow::Result<Exit> {
    println!("{}", ApiToken::load_or_create(&config.data_dir)?.expose());
    Ok(Exit::Ok)
}

/// Replaces the admin token and prints the new one. A running service reads it within seconds.
fn rotate_token(config: &Config) -> anyhow::Result<Exit> {
    println!("{}", ApiToken::rotate(&config.data_dir)?.expose());
    Ok(Exit::Ok)
}

/// Creates, lists, rotates and revokes tokens, whether or not the service is running.
pub async fn tokens(config: &Config, command: TokenCommand) -> anyhow::Result<Exit> {
    if command == TokenCommand::Rotate {
        return rotate_token(config);
    }
    let _lock = lock_unless_in_use(config)?;
    let store = config.service_options().open_store().await?;
    let done = match command {
        TokenCommand::Create { name, scopes } => create_token(&store, name, scopes).await,
        // It does not use the database.
        TokenCommand::Rotate => Ok(()),
        TokenCommand::List => list_tokens(&store).await,
        TokenCommand::Revoke { name } => revoke_token(&store, name).await,
    };
    store.close().await;
    done.map(|()| Exit::Ok)
}

/// Creates a token and prints it. Prints nothing else, so that scripts can use the output.
async fn create_token(store: &Store, name: TokenName, scopes: Vec<Scope>) -> anyhow::Result<()> {
    let scopes = Scopes::of(scopes).map_err(anyhow::Error::msg)?;
    let created = tokens::create(store, name, scopes).await?;
    println!("{}", created.secret.expose_secret());
    Ok(())
}

async fn list_tokens(store: &Store) -> anyhow::Result<()> {
    let minute = |time: Timestamp| time.format("%Y-%m-%d %H:%M").to_string();
    println!("{:<24}  {:<24}  {:<16}  LAST USED (UTC)", "NAME", "SCOPES", "CREATED (UTC)");
    for TokenRecord { name, scopes, created_at, last_used_at } in tokens::list(store).await? {
        let (name, scopes) = (name.to_string(), scopes.to_string());
        let used = last_used_at.map_or_else(|| "never".to_owned(), minute);
        println!("{name:<24}  {scopes:<24}  {:<16}  {used}", minute(created_at));
    }
    Ok(())
}

async fn revoke_token(store: &Store, name: TokenName) -> anyhow::Result<()> {
    tokens::revoke(store, name.clone()).await?;
    println!("Token {name} revoked.");
    Ok(())
}

/// Locks the data directory, so that no service starts in the meantime. Returns `None` if a running service
/// has the lock.
///
/// The callers only read, or change single rows, which does not disturb a running service.
fn lock_unless_in_use(config: &Config) -> Result<Option<DataDir>, DataDirError> {
    match DataDir::lock(&config.data_dir) {
        Ok(lock) => Ok(Some(lock)),
        Err(DataDirError::InUse { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Re-encrypts every secret with a new key. Fails if the service is running.
pub async fn rotate_key(config: &Config, new: Option<&Path>) -> anyhow::Result<Exit> {
    let _lock = DataDir::lock(&config.data_dir)?;
    let options = config.service_options();
    let store = options.open_store().await?;
    let source = options.identity_source();
    let rotated = rotate::rotate(&store, &source, new, &options.recipients).await;
    store.close().await;
    let rotate::Rotated { secrets } = rotated?;
    let secrets = if secrets == 1 { "1 secret".to_owned() } else { format!("{secrets} secrets") };
    match (source, new) {
        (IdentitySource::File(path), _) => {
            println!("Created a new key in {} and re-encrypted {secrets} with it.", path.display());
        }
        (IdentitySource::Given(_), new) => {
            let new = new.unwrap_or(Path::new("")).display();
            println!("Re-encrypted {secrets} with the key in {new}.");
            println!("Replace the old key with it before you start the service again.");
        }
    }
    Ok(Exit::Ok)
}

/// Tests the broker connection with the saved settings, and prints each stage.
pub async fn check(config: &Config) -> anyhow::Result<Exit> {
    let _lock = lock_unless_in_use(config)?;
    let options = config.service_options();
    let store = options.open_store().await?;
    let config_options = options.config_options(store.clone(), mpsc::unbounded_channel().0);
    let stored = StoredSettings::open(config_options).await?;
    let settings = stored.settings();
    if let Some(why) = stored.unreadable() {
        tracing::warn!(%why, "the stored settings cannot be used to connect to the broker");
    }
    if settings.broker_host.is_empty() {
        println!("No broker configured. Set one on the page ({}),", options.public_url);
        println!("with PUT /api/v1/integrations/mqtt/config,");
        println!("or in [mqtt] of the configuration file before the first start.");
        return Ok(Exit::Failed);
    }
    println!("Testing {}", escape_line(&settings.broker()));
    let report = stored.test_connection().await?;
    store.close().await;
    print_stages(&report);
    if report.success {
        println!("OK: {} accepted the login and a test message.", escape_line(&settings.broker()));
    } else {
        println!("Failed: {}", escape_line(&report.message));
    }
    Ok(if report.success { Exit::Ok } else { Exit::Failed })
}

fn print_stages(report: &TestReport) {
    for stage in &report.stages {
        let mark = match stage.ok {
            Some(true) => "ok    ",
            Some(false) => "FAILED",
            None => "?     ",
        };
        println!("  {mark} {:<9}{:>6} ms  {}", stage.name, stage.duration_ms, escape_line(&stage.detail));
    }
}
