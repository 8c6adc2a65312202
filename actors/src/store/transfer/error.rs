//! Why a move failed, and what to do.

use std::path::PathBuf;

use super::{
    super::{OpenError, StoreError},
    FileError,
};

/// Why a database was not moved. A service can still be started with the old database, unless another move has left it.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// One of the databases cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database is moved to itself.
    #[error("`--to` names the database that is configured; name another one")]
    Same,
    /// Both databases are files.
    #[error(
        "both databases are SQLite files: stop the service and move the file together with its -wal, -shm and .seq \
         files; see \"Move and remove\" in docs/operation.md"
    )]
    BothFiles,
    /// There are events, settings or other data in the target.
    #[error(
        "{database} is not empty ({}). Nothing was changed. {}",
        list(contents), new_database(file.as_ref())
    )]
    NotEmpty {
        /// The target.
        database: String,
        /// The tables with rows, and their numbers of rows.
        contents: Vec<(String, u64)>,
        /// The target, if it is a file.
        file: Option<PathBuf>,
    },
    /// The target contains an old log.
    #[error(
        "{database} contains the data that was moved from it to {other}. Nothing was changed. {}",
        new_database(file.as_ref())
    )]
    TargetMoved {
        /// The target.
        database: String,
        /// Where its log was moved to.
        other: String,
        /// The target, if it is a file.
        file: Option<PathBuf>,
    },
    /// The databases have different tables, although this version has opened both.
    #[error(
        "{from} and {other} do not have the same tables; this is a defect of liveobject, please report it"
    )]
    Schemas {
        /// The old database.
        from: String,
        /// The new one.
        other: String,
    },
    /// The old database cannot be read, or the mark cannot be written to it.
    #[error(
        "{database} cannot be read or marked as moved. The service can still be started with it; run the command \
         again, it starts from the beginning"
    )]
    Source {
        /// The old database.
        database: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// The new database cannot be read or written.
    #[error(
        "{database} cannot be written. The service can still be started with the old database, unless it reports that \
         it was moved. When the fault is removed, run the command again: it starts from the beginning"
    )]
    Target {
        /// The new database.
        database: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// A picture file cannot be read or written.
    #[error(
        "the pictures were not moved. The service can still be started with the old database. When the fault is \
         removed, run the command again: it starts from the beginning"
    )]
    Pictures(#[source] FileError),
    /// The rows of this table cannot be moved.
    #[error("the table {table} was not moved")]
    Table {
        /// The table.
        table: String,
        /// The cause.
        #[source]
        source: Box<MoveError>,
    },
    /// Rows are missing.
    #[error(
        "the table {table} has {found} rows after the move instead of {expected}: something else has changed it. Stop \
         that, and run the command again; it starts from the beginning"
    )]
    Count {
        /// The table.
        table: String,
        /// The number of rows in the old database.
        expected: u64,
        /// The number of rows in the new one.
        found: u64,
    },
}

impl MoveError {
    pub(super) fn in_table(self, table: &str) -> Self {
        Self::Table { table: table.to_owned(), source: Box::new(self) }
    }
}

fn list(contents: &[(String, u64)]) -> String {
    let rows = |(table, rows): &(String, u64)| format!("{table}: {rows}");
    contents.iter().map(rows).collect::<Vec<_>>().join(", ")
}

/// Describes how to get an empty database.
fn new_database(file: Option<&PathBuf>) -> String {
    match file {
        Some(file) => format!(
            "Name another file, or rename this one and those with -wal and -shm: `mv {file} {file}.old`",
            file = file.display()
        ),
        None => "Create an empty database, for example with `createdb --owner=USER --encoding=UTF8 \
            --template=template0 NAME`, and name that one"
            .to_owned(),
    }
}
