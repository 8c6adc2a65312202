//! The small renditions of pictures, next to the pictures: `SEQ-WIDTH-VERSION`.
//!
//! A rendition can be made again, so it is not synced, and it is not part of a backup. It belongs to one version of its
//! picture, so that the rendition of a picture that was replaced is never shown. An empty file means that there is no
//! rendition of this width, and that the picture itself is shown.

use std::{
    fs::{self, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use bytes::Bytes;

use super::{Files, FilesError, read_bounded, size_of};
use crate::{
    disk::disk_space,
    domain::{
        camera::ImageType,
        causes::with_causes,
        ids::Seq,
        image::{Picture, PictureVersion, RenditionWidth, StoredPicture, check},
        numbers::saturate,
    },
    thumbnails::rendition::render_width,
};

const VERSION_DIGITS: usize = 16;

/// What is stored of a small rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredSmall {
    /// The rendition, or the picture itself if it has none of this width.
    Found(StoredPicture),
    /// Nothing: it must be made first.
    NotMade,
    /// The event has no picture.
    NoPicture,
}

impl From<Option<StoredPicture>> for StoredSmall {
    fn from(picture: Option<StoredPicture>) -> Self {
        picture.map_or(Self::NoPicture, Self::Found)
    }
}

/// Returns the name of the picture to which the rendition with this name belongs; `None` if it is not the name of a
/// rendition.
pub(super) fn picture_of(name: &str) -> Option<&str> {
    let (rest, version) = name.rsplit_once('-')?;
    let (picture, width) = rest.rsplit_once('-')?;
    let is_version = version.len() == VERSION_DIGITS && version.bytes().all(|b| b.is_ascii_hexdigit());
    let is_width = width.parse().ok().and_then(RenditionWidth::new).is_some();
    (is_version && is_width).then_some(picture)
}

pub(super) fn is_rendition(path: &Path) -> bool {
    path.file_name().and_then(|name| picture_of(name.to_str()?)).is_some()
}

impl Files {
    /// Returns the version of the picture of an event; `None` if it has no picture. Reads only the file's metadata.
    pub fn version(&self, seq: Seq) -> Result<Option<PictureVersion>, FilesError> {
        let path = self.path(seq);
        match fs::metadata(&path) {
            // Each picture is written to a new file.
            Ok(file) => {
                let mut hasher = DefaultHasher::new();
                (file.mtime(), file.mtime_nsec(), file.len(), file.ino()).hash(&mut hasher);
                Ok(Some(PictureVersion(hasher.finish())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FilesError::Load { path, source }),
        }
    }

    /// Returns the picture of an event with its version; `None` if it has no picture. If the picture is replaced
    /// in the meantime, its content may be newer than the version, but never older.
    pub fn load_version(&self, seq: Seq) -> Result<Option<StoredPicture>, FilesError> {
        let Some(version) = self.version(seq)? else { return Ok(None) };
        Ok(self.load(seq)?.map(|picture| StoredPicture { picture, version }))
    }

    /// Returns the rendition of this width as far as it is stored. Decodes nothing.
    pub fn load_small(&self, seq: Seq, width: RenditionWidth) -> Result<StoredSmall, FilesError> {
        let Some(version) = self.version(seq)? else { return Ok(StoredSmall::NoPicture) };
        let path = self.rendition_path(seq, width, version);
        match read_bounded(&path) {
            Ok(image) if image.is_empty() => self.load_version(seq).map(StoredSmall::from),
            // After a power failure, the file may be incomplete.
            Ok(image) if check(&image).is_ok() => {
                let picture = Picture { format: ImageType::Jpeg, image: image.into() };
                Ok(StoredSmall::Found(StoredPicture { picture, version }))
            }
            Ok(_) => Ok(StoredSmall::NotMade),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(StoredSmall::NotMade),
            Err(source) => Err(FilesError::Load { path, source }),
        }
    }

    /// Returns the rendition of this width, or the picture itself if there is none; `None` if the event has no picture.
    /// Makes and stores the rendition if needed. That it cannot be stored is only logged.
    pub fn make_small(&self, seq: Seq, width: RenditionWidth) -> Result<Option<StoredPicture>, FilesError> {
        // Another request may have made it.
        match self.load_small(seq, width)? {
            StoredSmall::Found(picture) => return Ok(Some(picture)),
            StoredSmall::NoPicture => return Ok(None),
            StoredSmall::NotMade => {}
        }
        let Some(original) = self.load_version(seq)? else { return Ok(None) };
        let rendition = render_width(&original.picture.image, width);
        let path = self.rendition_path(seq, width, original.version);
        if let Err(error) = self.store_rendition(&path, rendition.as_deref().unwrap_or_default()) {
            tracing::warn!(error = %with_causes(&error), "a small picture could not be stored");
        }
        let small = |image: Bytes| Picture { format: ImageType::Jpeg, image };
        // It may have been replaced or removed before the rendition was stored.
        if self.version(seq).is_ok_and(|now| now != Some(original.version)) {
            self.remove_renditions(seq, Some(original.version))?;
        }
        let picture = rendition.map_or(original.picture, small);
        Ok(Some(StoredPicture { picture, version: original.version }))
    }

    /// Stores a rendition, unless the disk is nearly full, or the pictures have reached their limit: no picture is
    /// removed because somebody looks at another one.
    fn store_rendition(&self, path: &Path, image: &[u8]) -> Result<(), FilesError> {
        let size = saturate::<_, u64>(image.len());
        let is_over = self.shared.bytes.load(Ordering::Relaxed) + size > self.max_bytes;
        if is_over || disk_space(&self.root).is_some_and(|space| space.free < space.reserve() + size) {
            return Ok(());
        }
        let replaced = size_of(path);
        let unfinished = self.unfinished();
        let stored = write(&unfinished, image).and_then(|()| self.rename_into_shard(&unfinished, path));
        stored.map_err(|source| {
            let _removed = fs::remove_file(&unfinished);
            FilesError::of_write(path.to_owned(), source)
        })?;
        self.add_bytes(size, replaced);
        Ok(())
    }

    /// Removes the renditions of a version of a picture, if there is one. Returns their size.
    pub(super) fn remove_renditions(
        &self,
        seq: Seq,
        version: Option<PictureVersion>,
    ) -> Result<u64, FilesError> {
        let Some(version) = version else { return Ok(0) };
        let widths = RenditionWidth::ALL.into_iter().filter_map(RenditionWidth::new);
        widths.map(|width| self.remove(self.rendition_path(seq, width, version))).sum()
    }

    /// Returns whether this file is a rendition, but not one of the event's picture as it is now.
    pub(super) fn is_orphan(&self, seq: Seq, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some((_, version)) =
            name.filter(|name| picture_of(name).is_some()).and_then(|name| name.rsplit_once('-'))
        else {
            return false;
        };
        self.version(seq).is_ok_and(|now| now.is_none_or(|now| now.to_string() != version))
    }

    fn rendition_path(&self, seq: Seq, width: RenditionWidth, version: PictureVersion) -> PathBuf {
        self.path(seq).with_file_name(format!("{seq}-{}-{version}", width.pixels()))
    }
}

fn write(path: &Path, image: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(image)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Cursor, sync::atomic::Ordering};

    use image::{ImageFormat, RgbImage};

    use super::*;
    use crate::{domain::image::samples::PNG, thumbnails::files::Freed};

    const WIDTH: u32 = 192;

    fn width() -> RenditionWidth {
        RenditionWidth::new(WIDTH).unwrap()
    }

    fn temporary(max_bytes: u64) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), max_bytes).unwrap();
        (dir, files)
    }

    /// A picture whose rendition is smaller.
    fn large(shade: u8) -> Vec<u8> {
        let noise = |x: u32, y: u32| (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)).to_le_bytes()[1];
        let picture = RgbImage::from_fn(400, 300, |x, y| image::Rgb([noise(x, y), noise(y, x), shade]));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn small(files: &Files, seq: i64) -> Bytes {
        files.make_small(Seq(seq), width()).unwrap().unwrap().picture.image
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path().join("thumbnails/0")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_rendition_is_made_once_and_survives_a_restart() {
        let (dir, files) = temporary(u64::MAX);
        files.store(Seq(7), &large(1)).unwrap();
        assert_eq!(
            files.load_small(Seq(7), width()).unwrap(),
            StoredSmall::NotMade,
            "nobody has requested it"
        );
        let first = small(&files, 7);
        assert_eq!(image::load_from_memory(&first).unwrap().width(), WIDTH);
        let files = Files::open(dir.path(), u64::MAX).unwrap();
        let StoredSmall::Found(found) = files.load_small(Seq(7), width()).unwrap() else {
            panic!("it is stored")
        };
        assert_eq!((found.picture.image, Some(found.version)), (first, files.version(Seq(7)).unwrap()));
        assert_eq!(files.make_small(Seq(8), width()).unwrap(), None, "there is no picture");
    }

    #[test]
    fn a_replaced_picture_has_another_version_and_another_rendition() {
        let (dir, files) = temporary(u64::MAX);
        files.store(Seq(7), &large(1)).unwrap();
        let (before, version) = (small(&files, 7), files.version(Seq(7)).unwrap());
        files.store(Seq(7), &large(200)).unwrap();
        assert_ne!(files.version(Seq(7)).unwrap(), version);
        assert_eq!(names(&dir), ["7"], "the old rendition is removed");
        assert_ne!(small(&files, 7), before);
    }

    #[test]
    fn a_picture_without_a_rendition_is_shown_itself_and_decoded_once() {
        let (dir, files) = temporary(u64::MAX);
        files.store(Seq(1), PNG).unwrap();
        assert_eq!(small(&files, 1), PNG);
        assert_eq!(names(&dir).len(), 2, "{:?}", names(&dir));
        let found = files.load_small(Seq(1), width()).unwrap();
        assert!(matches!(found, StoredSmall::Found(found) if found.picture.image == PNG));
    }

    #[test]
    fn looking_at_pictures_removes_none_when_they_have_reached_their_limit() {
        let size = large(1).len() as u64;
        let (dir, files) = temporary(2 * size);
        for seq in 1..=2 {
            files.store(Seq(seq), &large(1)).unwrap();
        }
        assert!((small(&files, 2).len() as u64) < size);
        assert_eq!(names(&dir).len(), 2, "the rendition is not stored: {:?}", names(&dir));
        assert!(files.has(Seq(1)).unwrap());
    }

    #[test]
    fn renditions_without_a_picture_are_removed_before_any_picture() {
        let picture = large(1);
        let size = picture.len() as u64;
        let (dir, files) = temporary(3 * size);
        for seq in 1..=2 {
            files.store(Seq(seq), &picture).unwrap();
        }
        let orphan = dir.path().join("thumbnails/0/9-192-0123456789abcdef");
        fs::write(&orphan, &picture).unwrap();
        files.shared.bytes.fetch_add(size, Ordering::Relaxed);
        files.store(Seq(3), &picture).unwrap();
        assert!(!orphan.exists());
        assert_eq!(
            names(&dir).into_iter().collect::<BTreeSet<_>>(),
            ["1", "2", "3"].map(str::to_owned).into()
        );
        assert_eq!(files.shared.bytes.load(Ordering::Relaxed), 3 * size);
        // They make room on a full disk, too.
        fs::write(&orphan, b"x").unwrap();
        assert_eq!(files.remove_oldest(1).unwrap(), Freed { pictures: 0, bytes: 1 });
    }

    #[test]
    fn a_start_removes_renditions_that_belong_to_no_picture() {
        let (dir, files) = temporary(u64::MAX);
        files.store(Seq(1), &large(1)).unwrap();
        small(&files, 1);
        let shard = dir.path().join("thumbnails/0");
        for orphan in ["1-192-0123456789abcdef", "2-192-0123456789abcdef"] {
            fs::write(shard.join(orphan), b"x").unwrap();
        }
        let files = Files::open(dir.path(), u64::MAX).unwrap();
        files.measure().unwrap();
        assert_eq!(names(&dir).len(), 2, "{:?}", names(&dir));
        let size: u64 = names(&dir).iter().map(|name| size_of(&shard.join(name))).sum();
        assert_eq!(files.stock().stored, Some((1, size)));
    }

    #[test]
    fn removing_a_picture_removes_its_renditions_with_it() {
        let (dir, files) = temporary(u64::MAX);
        files.store(Seq(1), &large(1)).unwrap();
        small(&files, 1);
        assert_eq!(files.remove_oldest(1).unwrap().pictures, 1);
        assert!(!dir.path().join("thumbnails/0").exists() || names(&dir).is_empty());
    }

    #[test]
    fn an_incomplete_rendition_is_made_again() {
        let (dir, files) = temporary(u64::MAX);
        files.store(Seq(1), &large(1)).unwrap();
        let complete = small(&files, 1);
        let name = names(&dir).into_iter().find(|name| picture_of(name).is_some()).unwrap();
        fs::write(dir.path().join("thumbnails/0").join(name), &complete[..complete.len() / 2]).unwrap();
        assert_eq!(small(&files, 1), complete);
    }

    #[test]
    fn renditions_are_removed_with_their_picture_and_count_as_its_bytes() {
        let (dir, files) = temporary(u64::MAX);
        let picture = large(1);
        let total = |files: &Files| files.shared.bytes.load(Ordering::Relaxed);
        for seq in 1..=3 {
            files.store(Seq(seq), &picture).unwrap();
        }
        let rendition = small(&files, 1).len() as u64;
        small(&files, 2);
        small(&files, 3);
        let expected = 3 * (picture.len() as u64 + rendition);
        assert_eq!(total(&files), expected);
        let reopened = Files::open(dir.path(), u64::MAX).unwrap();
        reopened.measure().unwrap();
        assert_eq!(total(&reopened), expected);
        assert_eq!(reopened.stock().stored, Some((3, expected)));
        assert_eq!(files.stock().stored, None, "it has not counted those that were there before");
        files.shared.is_measured.store(true, Ordering::Relaxed);
        assert_eq!(files.remove_oldest(picture.len() as u64 + 1).unwrap().pictures, 1);
        assert_eq!(
            files.remove_up_to(Seq(2), &BTreeSet::new()).unwrap(),
            1,
            "one picture, without renditions"
        );
        assert_eq!(names(&dir).iter().filter(|name| name.starts_with('3')).count(), 2);
        assert_eq!((names(&dir).len(), total(&files)), (2, expected / 3));
        files.store(Seq(3), &picture).unwrap();
        assert_eq!(files.stock().stored, Some((1, picture.len() as u64)), "it has replaced the picture");
        assert_eq!(files.remove_above(Seq(0)).unwrap(), 1);
        assert_eq!((names(&dir).len(), total(&files)), (0, 0));
    }

    #[test]
    fn only_names_of_renditions_are_taken_for_renditions() {
        assert_eq!(picture_of("12-384-0123456789abcdef"), Some("12"));
        for other in
            ["12", "12-384", "12-385-0123456789abcdef", "12-384-0123", "a-b", "-384-xxxxxxxxxxxxxxxx"]
        {
            assert_eq!(picture_of(other), None, "{other}");
        }
    }
}
