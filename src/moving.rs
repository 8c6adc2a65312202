//! The command `move`: moves everything in the database to another one.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use liveobject_actors::{
    data_dir::DataDir,
    store::{
        Location, Store,
        transfer::{self, Moved, Progress},
    },
    thumbnails::{self, picture_files},
};
use tokio::time::Instant;

use crate::{
    cli::Exit,
    commands::{count, require_database},
    config::{self, Config, absolute},
    output::{OutputError, line},
    terminal::escape_line,
};

/// The variable that overrides the URL in the configuration file.
const URL_VARIABLE: &str = "LIVEOBJECT__DATABASE__URL";
const PASSWORD_FILE_VARIABLE: &str = "LIVEOBJECT_DATABASE_PASSWORD_FILE";
/// What follows the name of a database in the names of its files.
const DATABASE_FILES: [&str; 6] = ["", "-wal", "-shm", ".seq", ".delivered", ".before-upgrade"];
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The option `--to` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--to: {0}")]
pub struct InvalidTarget(String);

/// Moves everything to the database at this URL, and prints what to do next.
pub async fn move_to(config: &Config, url: &str) -> anyhow::Result<Exit> {
    let target = parse(config, url)?;
    require_database(config)?;
    let source = with_absolute_path(config.service_options().database()?);
    let _lock = lock(config, &source, &target)?;
    let mut shown = ProgressLine::new();
    let files = picture_files(&config.data_dir, config.service_options().max_picture_bytes)?;
    let show = |progress: Progress<'_>| shown.show(progress);
    let moved = transfer::transfer(&source, &target, &files, show).await;
    shown.clear();
    let moved = moved?;
    report(&source, &target, &moved)?;
    explain(config, url, &source, &target)?;
    Ok(Exit::Ok)
}

/// Allows the next start with the database that was moved.
pub async fn move_back(config: &Config) -> anyhow::Result<Exit> {
    require_database(config)?;
    let database = with_absolute_path(config.service_options().database()?);
    let _lock = lock(config, &database, &database)?;
    match transfer::take_back(&database).await? {
        Some(other) => {
            let other = escape_line(&other);
            line(format_args!("The service can use {} again.", escape_line(&database.to_string())))?;
            line(format_args!(
                "It lacks everything since the move, and gives the same seqs to other events. Never start a service \
                 with {other} again."
            ))?;
        }
        None => line(format_args!("The database was not moved. Nothing was changed."))?,
    }
    Ok(Exit::Ok)
}

/// Locks the data directory, and the database that is a file. Creates the file.
fn lock(config: &Config, source: &Location, target: &Location) -> anyhow::Result<DataDir> {
    let mut data_dir = DataDir::lock(&config.data_dir)?;
    if let Some(path) = source.path().or_else(|| target.path()) {
        Store::create_file(&path)?;
        data_dir.lock_database(&path)?;
    }
    Ok(data_dir)
}

/// Parses the URL of the new database, and adds the password. The error does not repeat the URL.
fn parse(config: &Config, url: &str) -> Result<Location, InvalidTarget> {
    let location = Location::parse(url).map_err(|error| InvalidTarget(error.to_string()))?;
    if location.has_password() {
        return Err(InvalidTarget(
            "other users of this machine can see the options of a command, so write no password there: leave it out \
             of the URL, and set LIVEOBJECT_MOVE_PASSWORD_FILE to the path of a file with it"
                .to_owned(),
        ));
    }
    let database = &config.database;
    let password = database.move_password.as_ref().or(database.password.as_ref());
    let location = password.cloned().map_or(location.clone(), |password| location.with_password(password));
    Ok(with_absolute_path(location))
}

fn with_absolute_path(location: Location) -> Location {
    match location {
        Location::File(path) => Location::File(absolute(&path)),
        server @ Location::Server(_) => server,
    }
}

fn report(source: &Location, target: &Location, moved: &Moved) -> Result<(), OutputError> {
    let of = |table, one| count(moved.rows_of(table), one);
    let (events, cameras, tokens) = (of("events", "event"), of("cameras", "camera"), of("tokens", "token"));
    let (dead, pictures) = (of("dead_events", "dead event"), count(moved.pictures, "picture"));
    let (source, target) = (escape_line(&source.to_string()), escape_line(&target.to_string()));
    line(format_args!("Moved from {source} to {target}:"))?;
    line(format_args!(
        "{events}, {pictures}, {dead}, {cameras}, {tokens}, the settings and everything else."
    ))?;
    let (tables, rows) = (moved.tables.len(), moved.tables.iter().map(|(_, rows)| rows).sum::<u64>());
    line(format_args!("All {tables} tables have the same number of rows in both ({rows} in total)."))
}

/// Prints what the administrator has to do.
fn explain(config: &Config, url: &str, source: &Location, target: &Location) -> Result<(), OutputError> {
    let url = match target.path() {
        Some(path) => format!("sqlite://{}", path.display()),
        None => url.to_owned(),
    };
    line(format_args!(""))?;
    if config::environment().any(|(name, _)| name.starts_with(URL_VARIABLE)) {
        line(format_args!("Before you start the service, set the variable {URL_VARIABLE} to:"))?;
        line(format_args!("{}", escape_line(&url)))?;
    } else {
        let file = config.file.as_deref().map_or_else(|| Path::new("config.toml").to_owned(), absolute);
        let file = escape_line(&file.display().to_string());
        line(format_args!("Before you start the service, set in {file}:"))?;
        line(format_args!("[database]"))?;
        line(format_args!("url = \"{}\"", escape_line(&url.replace('\\', "\\\\").replace('"', "\\\""))))?;
    }
    if target.is_on_server() {
        line(format_args!(
            "If the server requires a password, the service needs it, too: {PASSWORD_FILE_VARIABLE}, or systemd's \
             credential liveobject-database-password."
        ))?;
    }
    let data_dir = escape_line(&absolute(&config.data_dir).display().to_string());
    line(format_args!("Keep the data directory {data_dir}: the keys and the admin token stay there."))?;
    let old = escape_line(&source.to_string());
    line(format_args!(
        "Do not use the old database again: {old}. Nothing was deleted from it. It is marked, so that no service \
         starts with it; `liveobject move --back` removes the mark."
    ))?;
    let mut unused = source.path().map(|path| database_files(&path)).unwrap_or_default();
    let pictures = absolute(&config.data_dir).join(thumbnails::DIRECTORY);
    if target.is_on_server() && pictures.exists() {
        unused.push(pictures);
    }
    if unused.is_empty() {
        return Ok(());
    }
    line(format_args!("When the new database has proven itself, remove what is not used any more:"))?;
    unused.iter().try_for_each(|path| line(format_args!("  {}", escape_line(&path.display().to_string()))))
}

/// Returns the files of a database that exist.
fn database_files(database: &Path) -> Vec<PathBuf> {
    let named = |suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    DATABASE_FILES.map(named).into_iter().filter(|path| path.exists()).collect()
}

/// The progress, on one line of a terminal.
struct ProgressLine {
    is_shown: bool,
    next: Option<Instant>,
}

impl ProgressLine {
    fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal(), next: None }
    }

    fn show(&mut self, progress: Progress<'_>) {
        let now = Instant::now();
        if !self.is_shown || self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + PROGRESS_EVERY);
        let Progress { table, rows, of } = progress;
        let percent = (rows * 100).checked_div(of).unwrap_or(100).min(100);
        let _closed = write!(io::stderr(), "\r\x1b[K{percent} %: {rows} of {of} rows ({table})");
    }

    fn clear(&self) {
        if self.next.is_some() {
            let _closed = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
