//! The location of the database: parses the URL and creates the file, readable only by its owner.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::{OpenError, postgres};

/// Where a database is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// A database on a PostgreSQL server.
    Server(Box<postgres::Location>),
}

impl Location {
    /// Parses a URL: `sqlite://PATH`, or `postgres://USER:PASSWORD@HOST/DATABASE`. The error does not repeat it.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        if postgres::Location::is_url(url) {
            let location = postgres::Location::parse(url).map_err(OpenError::ServerUrl)?;
            return Ok(Self::Server(Box::new(location)));
        }
        parse(url).map(Self::File)
    }

    /// Sets the password of a database on a server.
    #[must_use]
    pub fn with_password(mut self, password: SecretString) -> Self {
        if let Self::Server(location) = &mut self {
            location.password = Some(password);
        }
        self
    }

    /// Returns the path of the file. Fails if the database is on a server.
    pub fn file(self) -> Result<PathBuf, OpenError> {
        match self {
            Self::File(path) => Ok(path),
            Self::Server(location) => Err(OpenError::NoFile { database: location.to_string() }),
        }
    }

    /// Returns the path of the file; `None` if the database is on a server.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Server(_) => None,
        }
    }

    /// Returns whether there is a password.
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Server(location) if location.password().is_some())
    }

    /// Returns whether the database is on a server.
    pub fn is_on_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

/// Names the database, without the password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(location) => location.fmt(f),
        }
    }
}

/// Returns the path in `sqlite://PATH`, `sqlite:PATH` or a bare path. The path is used as written, without
/// decoding. Other schemes are an error. The error does not repeat the URL, which may contain a password.
pub(super) fn parse(url_or_path: &str) -> Result<PathBuf, OpenError> {
    let fault = |message: &str| Err(OpenError::Url(message.to_owned()));
    let path = match url_or_path.strip_prefix("sqlite:") {
        Some(rest) if rest.contains('?') => return fault("has options after `?`, which are not supported"),
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None => match url_or_path.split_once("://") {
            Some((scheme, _)) => {
                return fault(&format!(
                    "has the scheme `{scheme}`, but only `sqlite` and `postgres` are supported"
                ));
            }
            None => url_or_path,
        },
    };
    match path {
        "" => fault("does not contain a path"),
        ":memory:" => fault("does not contain a path: events must be stored on a disk"),
        path => Ok(PathBuf::from(path)),
    }
}

/// Returns the path of a file that belongs to a database: next to the file that a link to the database refers to,
/// so that it is the same file for everybody.
pub fn next_to(database: &Path, suffix: &str) -> PathBuf {
    let mut path = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned()).into_os_string();
    path.push(suffix);
    path.into()
}

/// Creates the file if it is missing (mode 0600, its directory 0700), and syncs the directory so that the
/// file survives a power failure. Fails if an existing file is not writable.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // SQLite creates the -wal and -shm files with the database file's mode.
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
    fn urls_and_paths_are_accepted() {
        for text in
            ["sqlite:///var/lib/x y/l%20o.db", "sqlite:/var/lib/x y/l%20o.db", "/var/lib/x y/l%20o.db"]
        {
            assert_eq!(parse(text).unwrap(), Path::new("/var/lib/x y/l%20o.db"));
        }
        assert_eq!(parse("sqlite://data/l.db").unwrap(), Path::new("data/l.db"));
    }

    #[test]
    fn errors_do_not_repeat_the_url() {
        let fault = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            fault("mysql://user:hunter2@host/db"),
            "the database URL has the scheme `mysql`, but only `sqlite` and `postgres` are supported; \
             write it as sqlite://PATH"
        );
        assert!(fault("sqlite://x.db?mode=ro").contains("options after `?`"));
        assert!(fault("sqlite::memory:").contains("on a disk"));
        assert!(fault("sqlite://").contains("does not contain a path"));
    }
}
