//! The commands that answer and end: `check`, `token …`, `key rotate`. What they print is for a person.

#![expect(clippy::print_stdout, reason = "commands answer on standard output")]

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
    token::ApiToken,
};

/// Prints the API's token, making it when there is none yet.
pub fn token(config: &Config) -> anyhow::Result<Exit> {
    println!("{}", ApiToken::load_or_create(&config.data_dir)?.expose());
    Ok(Exit::Ok)
}

/// Makes, lists and revokes the tokens of others, whether a service runs or not.
pub async fn tokens(config: &Config, command: TokenCommand) -> anyhow::Result<Exit> {
    let _held = hold_or_join(config)?;
    let store = config.service_options().open_store().await?;
    let done = match command {
        TokenCommand::Create { name, scopes } => create_token(&store, name, scopes).await,
        TokenCommand::List => list_tokens(&store).await,
        TokenCommand::Revoke { name } => revoke_token(&store, name).await,
    };
    store.close().await;
    done.map(|()| Exit::Ok)
}

/// The token alone goes to standard output, for scripts.
async fn create_token(store: &Store, name: TokenName, scopes: Vec<Scope>) -> anyhow::Result<()> {
    let scopes = Scopes::of(scopes).map_err(anyhow::Error::msg)?;
    let made = tokens::create(store, name, scopes).await?;
    println!("{}", made.secret.expose_secret());
    Ok(())
}

async fn list_tokens(store: &Store) -> anyhow::Result<()> {
    let minute = |at: Timestamp| at.format("%Y-%m-%d %H:%M").to_string();
    println!("{:<24}  {:<24}  {:<16}  LAST USED (UTC)", "NAME", "SCOPES", "MADE (UTC)");
    for TokenRecord { name, scopes, created_at, last_used_at } in tokens::list(store).await? {
        let (name, scopes) = (name.to_string(), scopes.to_string());
        let used = last_used_at.map_or_else(|| "never".to_owned(), minute);
        println!("{name:<24}  {scopes:<24}  {:<16}  {used}", minute(created_at));
    }
    Ok(())
}

async fn revoke_token(store: &Store, name: TokenName) -> anyhow::Result<()> {
    tokens::revoke(store, name.clone()).await?;
    println!("{name} is revoked.");
    Ok(())
}

/// The lock keeps a service from starting meanwhile; one that runs already is not disturbed by a look, or by a row.
fn hold_or_join(config: &Config) -> Result<Option<DataDir>, DataDirError> {
    match DataDir::lock(&config.data_dir) {
        Ok(held) => Ok(Some(held)),
        Err(DataDirError::InUse { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a new key and encrypts every secret with it. The service must not run meanwhile.
pub async fn rotate_key(config: &Config, new: Option<&Path>) -> anyhow::Result<Exit> {
    let _held = DataDir::lock(&config.data_dir)?;
    let options = config.service_options();
    let store = options.open_store().await?;
    let source = options.identity_source();
    let rotated = rotate::rotate(&store, &source, new, &options.recipients).await;
    store.close().await;
    let rotate::Rotated { secrets } = rotated?;
    let what = if secrets == 1 { "1 secret was".to_owned() } else { format!("{secrets} secrets were") };
    match (source, new) {
        (IdentitySource::File(path), _) => {
            println!("A new key was made; {what} encrypted with it: {}", path.display());
        }
        (IdentitySource::Given(_), new) => {
            let new = new.unwrap_or(Path::new("")).display();
            println!(
                "{what} encrypted with the key in {new}. Put it in the old one's place before the next start."
            );
        }
    }
    Ok(Exit::Ok)
}

/// Tries to connect with the stored settings, and prints each stage.
pub async fn check(config: &Config) -> anyhow::Result<Exit> {
    let _held = hold_or_join(config)?;
    let options = config.service_options();
    let store = options.open_store().await?;
    let config = options.config_options(store.clone(), mpsc::unbounded_channel().0);
    let stored = StoredSettings::open(config).await?;
    let settings = stored.settings();
    if settings.broker_host.is_empty() {
        println!("No broker is set. Set one with PUT /api/v1/integrations/mqtt/config, or in [mqtt] of the");
        println!("configuration file before the first start.");
        return Ok(Exit::Failed);
    }
    println!("Broker {}", settings.broker());
    let report = stored.test_connection().await?;
    store.close().await;
    print(&report);
    Ok(if report.success { Exit::Ok } else { Exit::Failed })
}

fn print(TestReport { success, message, stages, .. }: &TestReport) {
    for stage in stages {
        let mark = match stage.ok {
            Some(true) => "ok    ",
            Some(false) => "FAILED",
            None => "?     ",
        };
        println!("  {mark} {:<9}{:>6} ms  {}", stage.name, stage.duration_ms, stage.detail);
    }
    println!("{} {message}", if *success { "Well:" } else { "Failed:" });
}
