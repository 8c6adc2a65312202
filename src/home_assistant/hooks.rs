//! The commands that the Supervisor runs before and after it makes a backup of the running app.

use std::{fs, io::ErrorKind};

use liveobject_actors::private_file::create_directory;

use super::{AppError, directory::archive};
use crate::{
    backup::{self, Locations, Pace, Unfinished},
    cli::Exit,
    commands::require_database,
    config::Config,
};

/// Writes a consistent archive of the data, with keys and tokens, to a directory that the Supervisor backs up.
pub async fn before_backup(config: &Config) -> anyhow::Result<Exit> {
    let app_dir = config.home_assistant.app_dir.as_ref().ok_or(AppError::NotTheApp)?;
    require_database(config)?;
    remove(config)?;
    let (_, file) = archive(app_dir);
    create_directory(&file).map_err(AppError::file(&file))?;
    let (unfinished, out) = Unfinished::create(&file).map_err(AppError::file(&file))?;
    backup::write(Locations::of(config)?, true, backup::buffered(out), Pace::default()).await?;
    unfinished.finish().map_err(AppError::file(&file))?;
    Ok(Exit::Ok)
}

/// Removes the archive.
pub fn after_backup(config: &Config) -> anyhow::Result<Exit> {
    remove(config)?;
    Ok(Exit::Ok)
}

fn remove(config: &Config) -> Result<(), AppError> {
    let app_dir = config.home_assistant.app_dir.as_ref().ok_or(AppError::NotTheApp)?;
    let (directory, _) = archive(app_dir);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(AppError::file(&directory)(error)),
        _ => Ok(()),
    }
}
