//! The commands `config check`, `backup`, `restore`, `token …` and `key rotate`.

use std::{
    fmt, fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use liveobject_actors::{
    config::{IdentitySource, rotate},
    data_dir::{DataDir, DataDirError},
    domain::{
        clock::Timestamp,
        token::{Scope, Scopes, TokenName, TokenRecord},
    },
    store::{Location, Store},
    tokens,
};
use secrecy::ExposeSecret as _;

use crate::{
    app,
    backup::{self, AfterRestore, Locations, Pace, RestoreError, RestoreOptions, Unfinished},
    cli::{Command, Exit, TokenCommand},
    config::{Config, absolute},
    output::{json, line},
    owner,
    terminal::escape_line,
    token::{self, ApiToken},
};

/// The data of a service was not found.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no data of a liveobject service in {}: {file} is missing. Run this command with the configuration of \
     the service: in its working directory, or with the same --config, --data-dir or LIVEOBJECT__DATA_DIR. The first \
     start of `liveobject serve` creates the data.",
    directory.display()
)]
pub struct NoData {
    /// The directory that was searched.
    directory: PathBuf,
    /// The file that is missing.
    file: String,
}

impl NoData {
    fn in_directory(directory: &Path, file: impl Into<String>) -> Self {
        Self { directory: absolute(directory), file: file.into() }
    }
}

/// Fails if there is no database. Commands other than `serve`, `demo` and `restore` create no data: in the wrong
/// directory, their result would be about data that no service uses, and as another user, they would create files that
/// the service cannot read.
pub fn require_database(config: &Config) -> anyhow::Result<()> {
    // Opening a database on a server reports that it is missing.
    let Location::File(database) = config.service_options().database()? else { return Ok(()) };
    match fs::metadata(&database) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let database = database.display();
            let context =
                format!("cannot read {database}; run the command as root or as the user of the service");
            Err(anyhow::Error::new(error).context(context))
        }
        Err(_) => Err(NoData::in_directory(&config.data_dir, database.display().to_string()).into()),
    }
}

/// The archive of `backup` or `restore`. It belongs to the user who runs the command, and is opened before the process
/// acts as the owner of the data.
#[derive(Debug)]
pub enum Archive {
    /// Standard output, or the command has no archive.
    None,
    /// The new archive.
    New(Unfinished, fs::File),
    /// The archive to restore.
    Existing(fs::File),
}

impl Archive {
    /// Opens or creates the archive of a command.
    pub fn open(command: &Command, config: &Config) -> anyhow::Result<Self> {
        match command {
            Command::Backup { file, .. } if file == Path::new("-") => {
                let is_text = io::stdout().is_terminal();
                anyhow::ensure!(!is_text, "the backup is not text; redirect the output to a file");
                Ok(Self::None)
            }
            Command::Backup { file, .. } => {
                anyhow::ensure!(
                    !Locations::of(config)?.is_own(file),
                    "{} is a name of the service's own files; choose another name or directory",
                    file.display()
                );
                let created = Unfinished::create(file);
                let (unfinished, out) = created.map_err(|error| not_created(file, error))?;
                Ok(Self::New(unfinished, out))
            }
            Command::Restore { file, .. } => {
                let opened = fs::File::open(file).map_err(RestoreError::Read);
                Ok(Self::Existing(opened.with_context(|| format!("cannot restore {}", file.display()))?))
            }
            _ => Ok(Self::None),
        }
    }
}

/// Writes a backup to a file or to standard output, and what it contains to standard error.
pub async fn back_up(config: &Config, file: &Path, archive: Archive, secrets: bool) -> anyhow::Result<Exit> {
    require_database(config)?;
    let locations = Locations::of(config)?;
    let summary = if let Archive::New(unfinished, out) = archive {
        let out = backup::buffered(out);
        let summary = backup::write(locations, secrets, out, Pace::default()).await?;
        let bytes = unfinished.finish().with_context(|| format!("cannot write {}", file.display()))?;
        let (mib, contents) = (bytes.div_ceil(1 << 20), contents(summary.events, summary.pictures));
        note(format_args!("{}: {contents}, {mib} MiB.", file.display()));
        summary
    } else {
        let summary =
            backup::write(locations, secrets, io::BufWriter::new(io::stdout()), Pace::default()).await?;
        note(format_args!("Backup: {}.", contents(summary.events, summary.pictures)));
        summary
    };
    if !secrets {
        note(format_args!(
            "Without keys and tokens: the secrets in the backup can be read only with the key of this service."
        ));
    } else if summary.missing.is_empty() {
        note(format_args!("It contains keys and tokens: keep it where nobody else can read it."));
    } else {
        let missing = summary.missing.join(", ");
        note(format_args!(
            "Not included, because not stored in a file of the service: {missing}. Keep a copy elsewhere."
        ));
    }
    Ok(Exit::Ok)
}

fn not_created(file: &Path, error: io::Error) -> anyhow::Error {
    let file = file.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        return anyhow::anyhow!("{file} already exists; remove it, or choose another name");
    }
    anyhow::Error::new(error).context(format!("cannot create {file}"))
}

/// Restores a backup, and prints what happens next.
pub async fn restore(
    config: &Config,
    file: &Path,
    archive: Archive,
    replaces: bool,
    disconnected: bool,
) -> anyhow::Result<Exit> {
    let Archive::Existing(archive) = archive else { unreachable!("main opens the archive") };
    app::require_mounted(config)?;
    let new = if replaces { RestoreOptions::replacing } else { RestoreOptions::into_empty };
    let options = new(config).disconnected_if(disconnected);
    let restored = backup::restore(Locations::of(config)?, archive, options).await;
    let restored = restored.with_context(|| format!("cannot restore {}", file.display()))?;
    let contents = contents(restored.events, restored.pictures);
    let time = restored.created_at.format("%Y-%m-%d %H:%M:%S");
    line(format_args!("Restored the backup of {time} UTC: {contents}."))?;
    for path in &restored.replaced {
        line(format_args!("Replaced {}.", path.display()))?;
    }
    if !restored.replaced.is_empty() {
        line(format_args!(
            "What was replaced is kept with the suffix .before-restore until the next restore."
        ))?;
    }
    if !restored.skipped.is_empty() {
        let skipped = restored.skipped.join(", ");
        line(format_args!("Not restored, because the environment or systemd provides its own: {skipped}."))?;
    }
    if !restored.secrets {
        let identity = config.service_options().identity_source();
        if matches!(&identity, IdentitySource::File(path) if !path.exists()) {
            line(format_args!(
                "The backup has no keys and tokens, and this data directory has no key (identity.age). Copy the key \
                 of the original there, or enter the password of the broker again."
            ))?;
        } else {
            line(format_args!("The backup has no keys and tokens. Those of this data directory are used."))?;
        }
    }
    match restored.then {
        AfterRestore::Connects => {
            line(format_args!(
                "The next start connects to the broker with the client id of the original: first stop the original."
            ))?;
            line(format_args!(
                "Events that were pending at the time of the backup are then sent, late ones to the history topics."
            ))?;
        }
        AfterRestore::SwitchedOff => line(format_args!(
            "MQTT is switched off. Switch it on in the settings once the original is stopped."
        ))?,
        AfterRestore::NoBroker => line(format_args!("No broker is configured yet."))?,
    }
    Ok(Exit::Ok)
}

fn contents(events: u64, pictures: u64) -> String {
    format!("{}, {}", count(events, "event"), count(pictures, "picture"))
}

pub fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, one: &str) -> String {
    if number == 1.into() { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Writes a line to standard error: standard output may be the backup.
fn note(text: fmt::Arguments<'_>) {
    let _closed = writeln!(io::stderr(), "{text}");
}

/// Fails if there is no admin token, neither given nor in the data directory.
pub fn require_token(config: &Config) -> anyhow::Result<()> {
    if config.secrets.api_token.is_some() || ApiToken::load(&config.data_dir)?.is_some() {
        return Ok(());
    }
    Err(NoData::in_directory(&config.data_dir, token::FILE).into())
}

/// Logs which configuration file and which data directory are in use.
pub fn log_locations(config: &Config) {
    let file =
        config.file.as_deref().map_or_else(|| "none".to_owned(), |file| absolute(file).display().to_string());
    let data_dir = absolute(&config.data_dir);
    // Without a server, there is no such field.
    let database = server(config);
    tracing::info!(file, data_dir = %data_dir.display(), database, "configuration read");
}

/// Returns the name of the database and its server, if it is on one.
pub fn server(config: &Config) -> Option<String> {
    let database = config.service_options().database().ok()?;
    database.is_on_server().then(|| format!("{database} (PostgreSQL)"))
}

/// Prints which configuration file and which data directory are in use, and the warnings.
pub fn check_config(config: &Config) -> anyhow::Result<Exit> {
    let file = match &config.file {
        Some(file) => escape_line(&absolute(file).display().to_string()),
        None => "none".to_owned(),
    };
    line(format_args!("Configuration file: {file}"))?;
    line(format_args!("Data directory: {}", escape_line(&absolute(&config.data_dir).display().to_string())))?;
    if let Some(database) = server(config) {
        line(format_args!("Database: {}", escape_line(&database)))?;
    }
    for warning in &config.warnings {
        line(format_args!("Warning: {}", escape_line(warning)))?;
    }
    // As root, this command has read the file as root, and now acts as the user of the service.
    if let Some(path) = &config.file
        && let Err(error) = fs::File::open(path)
    {
        let cure = owner::make_private(path, &config.data_dir);
        line(format_args!("Error: the user of the service cannot read {file} ({error}); run `{cure}`"))?;
        return Ok(Exit::Usage);
    }
    line(format_args!("OK"))?;
    Ok(Exit::Ok)
}

/// Prints the admin token.
pub fn token(config: &Config) -> anyhow::Result<Exit> {
    let token = match &config.secrets.api_token {
        Some(given) => Some(given.clone()),
        None => ApiToken::load(&config.data_dir)?,
    };
    let token = token.ok_or_else(|| NoData::in_directory(&config.data_dir, token::FILE))?;
    line(format_args!("{}", token.expose()))?;
    Ok(Exit::Ok)
}

/// Replaces the admin token and prints the new one. A running service reads it within seconds.
fn rotate_token(config: &Config) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        config.secrets.api_token.is_none(),
        "the admin token comes from LIVEOBJECT_API_TOKEN or a systemd credential; replace it there and restart"
    );
    require_token(config)?;
    line(format_args!("{}", ApiToken::rotate(&config.data_dir)?.expose()))?;
    Ok(Exit::Ok)
}

/// Creates, lists, rotates and revokes tokens, whether or not the service is running.
pub async fn tokens(config: &Config, command: TokenCommand) -> anyhow::Result<Exit> {
    if command == TokenCommand::Rotate {
        return rotate_token(config);
    }
    require_database(config)?;
    let (lock, options) = (lock_unless_in_use(config)?, config.service_options());
    let store = options.open_store_in_use(lock.is_some()).await?;
    let done = match command {
        TokenCommand::Create { name, scopes } => create_token(&store, name, scopes).await,
        // It does not use the database.
        TokenCommand::Rotate => Ok(()),
        TokenCommand::List { json } => list_tokens(&store, json).await,
        TokenCommand::Revoke { name } => revoke_token(&store, name).await,
    };
    store.close().await;
    done.map(|()| Exit::Ok)
}

/// Creates a token and prints it. Prints nothing else, so that scripts can use the output.
async fn create_token(store: &Store, name: TokenName, scopes: Vec<Scope>) -> anyhow::Result<()> {
    let scopes = Scopes::of(scopes).map_err(anyhow::Error::msg)?;
    let created = tokens::create(store, name, scopes).await?;
    line(format_args!("{}", created.secret.expose_secret()))?;
    Ok(())
}

async fn list_tokens(store: &Store, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let tokens = tokens::list(store).await?;
        return Ok(json(&serde_json::json!({ "tokens": tokens }))?);
    }
    let minute = |time: Timestamp| time.format("%Y-%m-%d %H:%M").to_string();
    line(format_args!("{:<24}  {:<24}  {:<16}  LAST USED (UTC)", "NAME", "SCOPES", "CREATED (UTC)"))?;
    for TokenRecord { name, scopes, created_at, last_used_at } in tokens::list(store).await? {
        let (name, scopes) = (name.to_string(), scopes.to_string());
        let used = last_used_at.map_or_else(|| "never".to_owned(), minute);
        line(format_args!("{name:<24}  {scopes:<24}  {:<16}  {used}", minute(created_at)))?;
    }
    Ok(())
}

async fn revoke_token(store: &Store, name: TokenName) -> anyhow::Result<()> {
    tokens::revoke(store, name.clone()).await?;
    line(format_args!("Token {name} revoked."))?;
    Ok(())
}

/// Locks the data directory, so that no service starts in the meantime. Returns `None` if a running service
/// has the lock.
///
/// The callers only read, or change single rows, which does not disturb a running service.
pub fn lock_unless_in_use(config: &Config) -> Result<Option<DataDir>, DataDirError> {
    match DataDir::lock(&config.data_dir) {
        Ok(lock) => Ok(Some(lock)),
        Err(DataDirError::InUse { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Re-encrypts every secret with a new key. Fails if the service is running.
pub async fn rotate_key(config: &Config, new: Option<&Path>) -> anyhow::Result<Exit> {
    require_database(config)?;
    let _lock = DataDir::lock(&config.data_dir)?;
    let options = config.service_options();
    let store = options.open_store().await?;
    let source = options.identity_source();
    let rotated = rotate::rotate(&store, &source, new, &options.recipients).await;
    store.close().await;
    let rotate::Rotated { secrets } = rotated?;
    let secrets = count(secrets, "secret");
    match (source, new) {
        (IdentitySource::File(path), _) => {
            line(format_args!(
                "Created a new key in {} and re-encrypted {secrets} with it.",
                path.display()
            ))?;
        }
        (IdentitySource::Given(_), new) => {
            let new = new.unwrap_or(Path::new("")).display();
            line(format_args!("Re-encrypted {secrets} with the key in {new}."))?;
            line(format_args!("Replace the old key with it before you start the service again."))?;
        }
    }
    Ok(Exit::Ok)
}
