//! The picture files, for a move to or from a database on a server.

use std::path::Path;

use bytes::Bytes;

use super::files::{Files, FilesError};
use crate::{
    domain::ids::Seq,
    store::transfer::{FileError, PictureFiles},
};

/// Opens the picture files in a data directory. Later pictures replace the oldest ones above this size.
pub fn picture_files(data_dir: &Path, max_bytes: u64) -> Result<impl PictureFiles + use<>, FilesError> {
    let files = Files::open(data_dir, max_bytes)?;
    files.measure()?;
    Ok(files)
}

impl PictureFiles for Files {
    fn seqs(&self) -> Result<Vec<Seq>, FileError> {
        Ok(self.stored()?)
    }

    fn load(&self, seq: Seq) -> Result<Option<Bytes>, FileError> {
        Ok(Self::load(self, seq)?.map(|picture| picture.image))
    }

    fn store(&self, seq: Seq, image: &Bytes) -> Result<(), FileError> {
        Ok(Self::store(self, seq, image)?)
    }
}
