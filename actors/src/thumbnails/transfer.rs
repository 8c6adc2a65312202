//! Copies all pictures between the files of a data directory and a database on a server, while no service runs. What is
//! there already stays, so that a copy that was cut off can begin again.

use std::path::Path;

use super::files::{Files, FilesError};
use crate::{
    domain::ids::Seq,
    store::{Store, StoreError},
};

/// Number of pictures that are looked up at once.
const BATCH: usize = 200;

/// Why the pictures were not copied.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The database cannot be read or written.
    #[error("the pictures in the database cannot be read or written")]
    Database(#[from] StoreError),
}

/// Copies the pictures of the events in this database from the files in a data directory. Returns their number.
pub async fn to_database(store: &Store, data_dir: &Path) -> Result<u64, TransferError> {
    let files = Files::open(data_dir, u64::MAX)?;
    let mut copied = 0;
    for seqs in files.seqs()?.chunks(BATCH) {
        let known = store.picture_versions(seqs).await?;
        let missing: Vec<_> =
            seqs.iter().copied().filter(|seq| !known.iter().any(|(known, _)| known == seq)).collect();
        for (seq, event_id) in store.find_event_ids(&missing).await? {
            if let Some(picture) = files.load(seq)? {
                store.put_picture(&event_id, seq, &picture.image).await?;
                copied += 1;
            }
        }
    }
    Ok(copied)
}

/// Copies the pictures in a database to files in a data directory. Returns their number.
pub async fn to_files(store: &Store, data_dir: &Path) -> Result<u64, TransferError> {
    let files = Files::open(data_dir, u64::MAX)?;
    let (mut copied, mut after) = (0, Seq(-1));
    loop {
        let seqs = store.list_pictures(after, BATCH).await?;
        let Some(last) = seqs.last() else { return Ok(copied) };
        after = *last;
        for seq in seqs {
            if files.has(seq)? {
                continue;
            }
            if let Some((Some(image), _)) = store.load_picture(seq, None).await? {
                files.store(seq, &image)?;
                copied += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            event::EventInput,
            image::samples::{JPEG, PNG},
        },
        store::Batch,
        testing::{commit_context, database::TestDatabase},
    };

    #[tokio::test]
    async fn pictures_are_copied_to_a_server_and_back() {
        let store = TestDatabase::postgres().open().await;
        let input = |id: &str| EventInput {
            event_id: Some(id.to_owned()),
            camera_id: "door".to_owned(),
            description: "Somebody".to_owned(),
            ..EventInput::default()
        };
        let events = ["a", "b"].map(|id| input(id).validate().unwrap()).to_vec();
        let batch = Batch { events, ..Batch::default() };
        store.commit(&batch, None, &commit_context()).await.unwrap();
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = Files::open(from.path(), u64::MAX).unwrap();
        for (seq, image) in [(1, JPEG), (2, PNG), (3000, JPEG)] {
            files.store(Seq(seq), image).unwrap();
        }
        assert_eq!(to_database(&store, from.path()).await.unwrap(), 2, "the third one belongs to no event");
        assert_eq!(to_database(&store, from.path()).await.unwrap(), 0);
        assert_eq!(to_files(&store, to.path()).await.unwrap(), 2);
        assert_eq!(to_files(&store, to.path()).await.unwrap(), 0);
        let files = Files::open(to.path(), u64::MAX).unwrap();
        assert_eq!(files.load(Seq(1)).unwrap().unwrap().image, JPEG);
        assert_eq!(files.load(Seq(2)).unwrap().unwrap().image, PNG);
        store.close().await;
    }
}
