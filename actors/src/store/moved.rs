//! The table `moved`: one row if the log must not be used in this database. Otherwise, a service that is started with
//! the wrong database would give positions that the other one gives to other events.

use std::fmt;

use sea_orm::{ConnectionTrait, DbErr};

use super::{OpenError, dialect};
use crate::domain::clock::{self, Timestamp};

/// Why the log must not be used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was moved to the other database.
    Moved,
    /// The move from the other database has not been completed.
    Incomplete,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub state: State,
    /// The name of the other database.
    pub other: String,
    /// When the move began. The marks of both databases have the same time.
    pub at: Timestamp,
}

impl Mark {
    /// Returns the error with which the database with this name is not opened.
    pub(super) fn into_error(self, database: String) -> OpenError {
        OpenError::Marked { database, mark: self }
    }
}

/// Continues a sentence that begins with the name of the database.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, other, at } = self;
        match state {
            State::Moved => write!(
                f,
                "was moved to {other} on {}: set `[database] url` to that one. The old one lacks all events since \
                 then; to use it nevertheless, run `liveobject move --back`",
                at.format("%Y-%m-%d %H:%M UTC")
            ),
            State::Incomplete => write!(
                f,
                "is incomplete, because the move from {other} was interrupted: run `liveobject move` again with \
                 `[database] url` of {other}; it starts from the beginning"
            ),
        }
    }
}

/// Returns the mark, if there is one.
pub async fn find(db: &impl ConnectionTrait) -> Result<Option<Mark>, DbErr> {
    const SQL: &str = "SELECT state, other, at FROM moved";
    let Some(row) = db.query_one_raw(dialect::statement(db, SQL, [])).await? else { return Ok(None) };
    let state: String = row.try_get("", "state")?;
    let state = if state == State::Moved.name() { State::Moved } else { State::Incomplete };
    Ok(Some(Mark { state, other: row.try_get("", "other")?, at: clock::from_micros(row.try_get("", "at")?) }))
}

/// Writes the mark.
pub async fn set(db: &impl ConnectionTrait, mark: &Mark) -> Result<(), DbErr> {
    const SQL: &str = "INSERT INTO moved (id, state, other, at) VALUES (1, ?, ?, ?) \
        ON CONFLICT (id) DO UPDATE SET state = excluded.state, other = excluded.other, at = excluded.at";
    let values = [mark.state.name().into(), mark.other.as_str().into(), clock::to_micros(mark.at).into()];
    db.execute_raw(dialect::statement(db, SQL, values)).await.map(drop)
}

/// Removes the mark.
pub async fn remove(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    db.execute_unprepared("DELETE FROM moved").await.map(drop)
}
