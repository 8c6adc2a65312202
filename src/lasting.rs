//! Determines which errors at the start persist until an administrator acts. The service manager should not keep
//! starting the service after them.

use std::io::{self, ErrorKind};

use liveobject_actors::{
    StartError,
    data_dir::DataDirError,
    store::{OpenError, ServerFault, StoreError},
    thumbnails::{FilesError, LinkKeyError},
};

use crate::{app::AppError, backup::RestoreError, home_assistant, token::TokenError};

/// Returns whether this error of a command will occur again at each start until an administrator acts.
pub fn is_lasting(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<AppError>() {
        return of_app(error);
    }
    if let Some(home_assistant::AppError::DataMissing { .. }) = error.downcast_ref() {
        return true;
    }
    // An interrupted restore that cannot be completed also prevents the start.
    match error.downcast_ref::<RestoreError>() {
        Some(RestoreError::DataDir(error)) => of_directory(error),
        Some(RestoreError::Record { .. } | RestoreError::Owner(_)) => true,
        Some(RestoreError::Database(error)) => of_database(error),
        Some(RestoreError::Move { source, .. } | RestoreError::Write { source, .. }) => of_file(source),
        _ => false,
    }
}

fn of_app(error: &AppError) -> bool {
    match error {
        AppError::Token(TokenError::Read(_, source) | TokenError::Write(_, source)) => of_file(source),
        AppError::Token(TokenError::Open(..) | TokenError::Malformed(..)) => true,
        AppError::Start(error) => of_start(error),
        // The port needs privileges. Other errors may pass: an address may be assigned to this machine later.
        AppError::Bind { source, .. } => source.kind() == ErrorKind::PermissionDenied,
        AppError::Token(TokenError::Random(_))
        | AppError::Sessions(_)
        | AppError::NotMounted { .. }
        // The configuration, including the certificate, was checked before (exit code 2), so the certificate must have
        // been replaced a moment ago.
        | AppError::Tls(_)
        | AppError::AddressInUse { .. }
        | AppError::Server(_)
        | AppError::Signals(_) => false,
    }
}

fn of_start(error: &StartError) -> bool {
    match error {
        StartError::DataDir(error) => of_directory(error),
        StartError::Database(error) => of_database(error),
        StartError::Settings(error)
        | StartError::Log(error)
        | StartError::Cameras(error)
        | StartError::SharedKeys(error)
        | StartError::Pictures(error) => {
            matches!(error, StoreError::Damaged(_))
        }
        StartError::NodeId { source, .. } => of_file(source),
        StartError::LinkKeyDiffers | StartError::DuplicateNode { .. } => true,
        StartError::NotActive(_) => false,
        StartError::LinkKey(error) => of_link_key(error),
        StartError::Thumbnails(error) => {
            matches!(error, FilesError::Open { source, .. } if of_file(source))
        }
    }
}

fn of_database(error: &OpenError) -> bool {
    match error {
        OpenError::Url(_)
        | OpenError::ServerUrl(_)
        | OpenError::NoFile { .. }
        | OpenError::Newer { .. }
        | OpenError::Marked { .. }
        | OpenError::Damaged { .. } => true,
        OpenError::Server { fault, .. } => {
            matches!(
                fault,
                ServerFault::Newer(_)
                    | ServerFault::TooOld(_)
                    | ServerFault::Encoding(_)
                    | ServerFault::Login
                    | ServerFault::Missing
                    | ServerFault::NotPermitted(_)
                    | ServerFault::Marked(_)
            )
        }
        OpenError::File { source, .. } => of_file(source),
        OpenError::Copy { .. }
        | OpenError::Older { .. }
        | OpenError::Locked { .. }
        | OpenError::DiskFull { .. }
        | OpenError::Other { .. } => false,
    }
}

fn of_link_key(error: &LinkKeyError) -> bool {
    match error {
        LinkKeyError::TooOpen { .. } | LinkKeyError::Malformed { .. } => true,
        LinkKeyError::Read { source, .. } | LinkKeyError::Write { source, .. } => of_file(source),
        LinkKeyError::Random(_) => false,
    }
}

fn of_directory(error: &DataDirError) -> bool {
    match error {
        DataDirError::Unusable { source, .. } => of_file(source),
        DataDirError::DatabaseInUse { .. } | DataDirError::InUse { .. } => false,
    }
}

/// Returns whether a file or directory stays unusable until an administrator acts. A full or failing disk may recover.
/// A directory that is missing, or in which nothing can be written, may be one on which a disk will be mounted.
fn of_file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidData
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unusable(kind: ErrorKind) -> anyhow::Error {
        let error = DataDirError::Unusable { path: "data".into(), source: kind.into() };
        AppError::Start(StartError::DataDir(error)).into()
    }

    #[test]
    fn wrong_paths_last_and_a_disk_that_is_full_or_not_mounted_yet_does_not() {
        for kind in [ErrorKind::NotADirectory, ErrorKind::IsADirectory, ErrorKind::InvalidFilename] {
            assert!(is_lasting(&unusable(kind)), "{kind}");
        }
        for kind in [
            ErrorKind::StorageFull,
            ErrorKind::TimedOut,
            ErrorKind::Other,
            ErrorKind::NotFound,
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnlyFilesystem,
            // A link to a directory on the disk.
            ErrorKind::AlreadyExists,
        ] {
            assert!(!is_lasting(&unusable(kind)), "{kind}");
        }
    }

    #[test]
    fn a_port_that_needs_privileges_lasts_and_an_address_that_may_arrive_does_not() {
        let bind = |kind: ErrorKind| {
            let address = ([192, 0, 2, 1], 80).into();
            anyhow::Error::from(AppError::Bind { address, key: "bind", source: kind.into() })
        };
        assert!(is_lasting(&bind(ErrorKind::PermissionDenied)));
        assert!(!is_lasting(&bind(ErrorKind::AddrNotAvailable)));
        assert!(!is_lasting(
            &AppError::AddressInUse { address: ([127, 0, 0, 1], 80).into(), key: "bind" }.into()
        ));
        assert!(!is_lasting(&anyhow::anyhow!("any other error")));
    }
}
