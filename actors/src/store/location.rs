//! Where the database lies: reading the URL, making the file so that nobody else can read it.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::OpenError;

/// The file that `sqlite://PATH`, `sqlite:PATH` or a bare path names; the path is taken as it is written. Another scheme
/// is an error, which never repeats the URL: it may hold a password.
pub(super) fn parse(url_or_path: &str) -> Result<PathBuf, OpenError> {
    let fault = |text: &str| Err(OpenError::Url(text.to_owned()));
    let path = match url_or_path.strip_prefix("sqlite:") {
        Some(rest) if rest.contains('?') => return fault("has options after `?`, which are not supported"),
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None => match url_or_path.split_once("://") {
            Some((scheme, _)) => {
                return fault(&format!("has the scheme `{scheme}`, only SQLite is supported"));
            }
            None => url_or_path,
        },
    };
    match path {
        "" => fault("names no file"),
        ":memory:" => fault("names no file: events have to be kept on a disk"),
        path => Ok(PathBuf::from(path)),
    }
}

/// Makes the file when it is missing (0600, its directory 0700), so that its name survives a power cut; makes sure that it
/// can be written.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // SQLite gives the mode of the database file to the files beside it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all()?;
            File::open(directory)?.sync_all()
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).write(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_or_a_path_names_the_file() {
        for text in
            ["sqlite:///var/lib/x y/l%20o.db", "sqlite:/var/lib/x y/l%20o.db", "/var/lib/x y/l%20o.db"]
        {
            assert_eq!(parse(text).unwrap(), Path::new("/var/lib/x y/l%20o.db"));
        }
        assert_eq!(parse("sqlite://data/l.db").unwrap(), Path::new("data/l.db"));
    }

    #[test]
    fn anything_else_is_refused_without_repeating_it() {
        let fault = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            fault("postgres://user:hunter2@host/db"),
            "the database URL has the scheme `postgres`, only SQLite is supported; write it as sqlite://PATH"
        );
        assert!(fault("sqlite://x.db?mode=ro").contains("options after `?`"));
        assert!(fault("sqlite::memory:").contains("on a disk"));
        assert!(fault("sqlite://").contains("names no file"));
    }
}
