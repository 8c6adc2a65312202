//! The pictures: rows of a database on a server, or files next to a SQLite database. The caller provides the files.

use std::error::Error;

use bytes::Bytes;
use sea_orm::{ConnectionTrait, DbErr};

use super::{
    super::{dialect::statement, pictures},
    End, MoveError, Progress,
};
use crate::domain::ids::{EventId, Seq};

/// Maximum number of positions that are read at once.
const PAGE: usize = 1000;

/// Why a picture file cannot be read or written.
pub type FileError = Box<dyn Error + Send + Sync>;

/// The picture files in the data directory.
pub trait PictureFiles: std::fmt::Debug {
    /// Returns the positions of the events that have a picture.
    fn seqs(&self) -> Result<Vec<Seq>, FileError>;
    /// Returns the picture of an event; `None` if there is none, or if it is damaged.
    fn load(&self, seq: Seq) -> Result<Option<Bytes>, FileError>;
    /// Stores the picture of an event. It is durable when this returns.
    fn store(&self, seq: Seq, image: &Bytes) -> Result<(), FileError>;
}

/// Copies all pictures. Returns their number.
pub(super) async fn copy(
    source: &End,
    reading: &impl ConnectionTrait,
    target: &End,
    files: &dyn PictureFiles,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<u64, MoveError> {
    let mut copied = 0;
    for seq in positions(source, reading, files).await? {
        let image = if source.store.is_on_server() {
            let found = source.store.load_picture(seq, None).await;
            found.map_err(|error| source.refused(error))?.and_then(|(image, _)| image)
        } else {
            files.load(seq).map_err(MoveError::Pictures)?
        };
        // It was removed to make room, or it is damaged, which was logged.
        let Some(image) = image else { continue };
        if target.store.is_on_server() {
            let event_id = event_of(reading, seq).await.map_err(|error| source.failed(error))?;
            let written = pictures::put_with(&target.db, &event_id, seq, &image).await;
            written.map_err(|error| target.failed(error))?;
        } else {
            files.store(seq, &image).map_err(MoveError::Pictures)?;
        }
        copied += 1;
        progress(Progress { table: "pictures", rows: copied, of: copied });
    }
    Ok(copied)
}

async fn positions(
    source: &End,
    reading: &impl ConnectionTrait,
    files: &dyn PictureFiles,
) -> Result<Vec<Seq>, MoveError> {
    if !source.store.is_on_server() {
        return files.seqs().map_err(MoveError::Pictures);
    }
    let mut seqs: Vec<Seq> = Vec::new();
    loop {
        let after = seqs.last().map_or(i64::MIN, |seq| seq.0);
        let sql = format!("SELECT seq FROM pictures WHERE seq > ? ORDER BY seq LIMIT {PAGE}");
        let rows = reading.query_all_raw(statement(reading, sql, [after.into()])).await;
        let rows = rows.map_err(|error| source.failed(error))?;
        for row in &rows {
            seqs.push(Seq(row.try_get_by_index(0).map_err(|error| source.failed(error))?));
        }
        if rows.len() < PAGE {
            return Ok(seqs);
        }
    }
}

/// Returns the id of the event at this position. The picture of a camera is kept for longer than its event.
async fn event_of(db: &impl ConnectionTrait, seq: Seq) -> Result<EventId, DbErr> {
    const SQL: &str = "SELECT event_id FROM events WHERE seq = ?";
    let row = db.query_one_raw(statement(db, SQL, [seq.0.into()])).await?;
    let id = match row {
        Some(row) => row.try_get_by_index(0)?,
        None => format!("picture-{seq}"),
    };
    EventId::parse(id).map_err(|error| DbErr::Type(error.clone()))
}
