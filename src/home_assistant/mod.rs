//! The app of Home Assistant: its Supervisor provides the broker and the options, and makes backups.

mod directory;
mod hooks;
mod inquiry;
mod ownership;
mod schedule;

use std::{io, path::PathBuf};

pub use self::{
    directory::{prepare, put_away},
    hooks::{after_backup, before_backup},
    inquiry::BrokerInquiry,
    ownership::become_user,
};

use crate::{backup::RestoreError, owner::OwnerError};

/// Why the app could not start, stop or be backed up.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A command for the app was run elsewhere.
    #[error("this command works only in the Home Assistant app: [home_assistant] app_dir is not set")]
    NotTheApp,
    /// A file or directory cannot be used.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The directory still belongs to root, so the process cannot give up root's rights.
    #[error("the directory of the app belongs to root, and its owner could not be changed")]
    StillRoot,
    /// The process cannot act as the owner of the directory.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The data in a backup of the Supervisor cannot be restored.
    #[error("the data in the backup of Home Assistant cannot be restored")]
    Restore(#[from] RestoreError),
}
