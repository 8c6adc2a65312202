//! The app of Home Assistant: its Supervisor provides the broker and the options, and makes backups.

mod directory;
mod hooks;
mod inquiry;
mod ownership;
mod schedule;

use std::{io, path::PathBuf};

pub use self::{
    directory::{bring_back, put_away, remember_data, restore_archive},
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
    /// There was data, and it is gone.
    #[error(
        "the data of the app is missing. The backup that was restored was made while the app was not running and had \
         not been stopped in an orderly way, so it contains no data. Restore another backup. To begin without data, \
         uninstall the app and install it again, or remove {}", marker.display()
    )]
    DataMissing {
        /// The file that shows that there was data.
        marker: PathBuf,
    },
    /// The process could not stop being root.
    #[error("the directory of the app belongs to root and could not be taken over")]
    StillRoot,
    /// The process cannot act as the owner of the directory.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The data in a backup of the Supervisor cannot be restored.
    #[error("the data in the backup of Home Assistant cannot be restored")]
    Restore(#[from] RestoreError),
}
