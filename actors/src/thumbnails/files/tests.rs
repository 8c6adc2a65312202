use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::domain::{
    camera::ImageType,
    image::samples::{JPEG, PNG, WEBP},
};

fn temporary() -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), u64::MAX).unwrap();
    (dir, files)
}

fn format(files: &Files, seq: i64) -> Option<ImageType> {
    files.load(Seq(seq)).unwrap().map(|picture| picture.format)
}

#[test]
fn a_picture_is_read_back_unchanged_even_after_a_restart() {
    let (dir, files) = temporary();
    for (seq, image) in [(1, JPEG), (999, PNG), (1000, WEBP)] {
        files.store(Seq(seq), image).unwrap();
    }
    let files = Files::open(dir.path(), u64::MAX).unwrap();
    for (seq, image) in [(1, JPEG), (999, PNG), (1000, WEBP)] {
        assert_eq!(files.load(Seq(seq)).unwrap().unwrap().image, image);
    }
    assert_eq!(format(&files, 999), Some(ImageType::Png));
    assert_eq!((format(&files, 2), files.has(Seq(2)).unwrap()), (None, false));
}

#[test]
fn only_the_owner_can_read_the_pictures() {
    let (dir, files) = temporary();
    files.store(Seq(1), JPEG).unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("thumbnails"), mode("thumbnails/0"), mode("thumbnails/0/1")), (0o700, 0o700, 0o600));
}

#[test]
fn a_replaced_picture_leaves_no_files_behind() {
    let (dir, files) = temporary();
    files.store(Seq(1), JPEG).unwrap();
    files.store(Seq(1), PNG).unwrap();
    assert_eq!(format(&files, 1), Some(ImageType::Png));
    assert_eq!(fs::read_dir(dir.path().join("thumbnails")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path().join("thumbnails/0")).unwrap().count(), 1);
}

#[test]
fn unfinished_files_are_removed_at_the_start() {
    let (dir, files) = temporary();
    files.store(Seq(1), JPEG).unwrap();
    fs::write(dir.path().join("thumbnails/7.tmp"), "half").unwrap();
    let files = Files::open(dir.path(), u64::MAX).unwrap();
    assert!(!dir.path().join("thumbnails/7.tmp").exists());
    assert_eq!(format(&files, 1), Some(ImageType::Jpeg));
}

#[test]
fn old_pictures_are_removed_up_to_a_position() {
    let (dir, files) = temporary();
    for seq in [1, 500, 999, 1000, 1500, 1501, 2000] {
        files.store(Seq(seq), JPEG).unwrap();
    }
    fs::write(dir.path().join("thumbnails/notes.txt"), "mine").unwrap();
    let all = [1, 500, 999, 1000, 1500, 1501, 2000];
    let left = || all.into_iter().filter(|n| files.has(Seq(*n)).unwrap()).collect::<Vec<_>>();
    assert_eq!(files.remove_up_to(Seq(1500), &[Seq(500), Seq(1000)].into()).unwrap(), 3);
    assert_eq!(left(), [500, 1000, 1501, 2000]);
    assert_eq!(files.remove_up_to(Seq(1500), &BTreeSet::new()).unwrap(), 2);
    assert_eq!(left(), [1501, 2000]);
    assert!(!dir.path().join("thumbnails/0").exists(), "whole directories are removed");
    assert_eq!(files.remove_up_to(Seq(1500), &BTreeSet::new()).unwrap(), 0);
    assert!(dir.path().join("thumbnails/notes.txt").exists());
    files.store(Seq(1), JPEG).unwrap();
    assert!(files.has(Seq(1)).unwrap(), "a removed directory is created again");
}

fn stored(files: &Files, seqs: impl IntoIterator<Item = i64>) -> Vec<i64> {
    seqs.into_iter().filter(|seq| files.has(Seq(*seq)).unwrap()).collect()
}

#[test]
fn the_oldest_pictures_are_removed_above_the_size_limit() {
    let dir = tempfile::tempdir().unwrap();
    let size = JPEG.len() as u64;
    let files = Files::open(dir.path(), 100 * size).unwrap();
    for seq in 950..1050 {
        files.store(Seq(seq), JPEG).unwrap();
    }
    assert_eq!(stored(&files, 950..1050).len(), 100);
    files.store(Seq(1050), JPEG).unwrap();
    assert_eq!(stored(&files, 940..1060), (956..=1050).collect::<Vec<_>>(), "and five more");
    // The size is known after a restart, too.
    let files = Files::open(dir.path(), 10 * size).unwrap();
    files.measure().unwrap();
    files.store(Seq(2000), JPEG).unwrap();
    assert!((8..=10).contains(&stored(&files, 940..2001).len()));
}

#[test]
fn a_replaced_picture_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), 20 * JPEG.len() as u64).unwrap();
    for _ in 0..50 {
        files.store(Seq(2), JPEG).unwrap();
        files.store(Seq(1), PNG).unwrap();
    }
    assert_eq!(stored(&files, 1..3), [1, 2], "there is room for both");
    assert_eq!(files.shared.bytes.load(Ordering::Relaxed), (JPEG.len() + PNG.len()) as u64);
}

#[test]
fn pictures_that_are_removed_from_two_sides_at_once_are_removed_without_an_error() {
    let (_dir, files) = temporary();
    for _ in 0..20 {
        for seq in (0..4000).step_by(20) {
            files.store(Seq(seq), JPEG).unwrap();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| files.remove_oldest(u64::MAX).unwrap());
            scope.spawn(|| files.remove_up_to(Seq(5000), &BTreeSet::new()).unwrap());
            scope.spawn(|| files.remove_above(Seq(-1)).unwrap());
        });
        assert_eq!(stored(&files, 0..4000), [0i64; 0]);
        assert_eq!(files.shared.bytes.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn pictures_of_events_that_are_not_in_the_log_are_removed() {
    let (_dir, files) = temporary();
    for seq in [5, 999, 1000, 1001, 2500] {
        files.store(Seq(seq), JPEG).unwrap();
    }
    assert_eq!(files.remove_above(Seq(1000)).unwrap(), 2);
    assert_eq!(stored(&files, [5, 999, 1000, 1001, 2500]), [5, 999, 1000]);
    assert_eq!(files.remove_above(Seq(0)).unwrap(), 3);
}

#[test]
fn a_file_that_is_not_a_picture_is_not_served() {
    let (dir, files) = temporary();
    files.store(Seq(1), JPEG).unwrap();
    for damaged in ["", "not a picture"] {
        fs::write(dir.path().join("thumbnails/0/1"), damaged).unwrap();
        assert_eq!(format(&files, 1), None);
    }
    fs::write(dir.path().join("thumbnails/0/1"), [JPEG, &vec![0; MAX_THUMBNAIL_BYTES]].concat()).unwrap();
    assert_eq!(format(&files, 1), None);
}

#[test]
fn a_failed_write_is_reported_with_its_path_and_leaves_no_files_behind() {
    let (dir, files) = temporary();
    fs::write(dir.path().join("thumbnails/0"), "in the way").unwrap();
    let error = files.store(Seq(1), JPEG).unwrap_err();
    assert!(matches!(error, FilesError::Store { .. }), "{error:?}");
    assert!(error.to_string().contains("thumbnails/0/1"), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("thumbnails")).unwrap().count(), 1);
}

#[test]
fn a_staged_picture_is_adopted_once_or_discarded() {
    let (dir, files) = temporary();
    let id = |text: &str| EventId::parse(text).unwrap();
    for event in ["a", "b", ".:-_"] {
        files.stage(&id(event), JPEG).unwrap();
    }
    let files = Files::open(dir.path(), u64::MAX).unwrap();
    let mut staged = files.staged().unwrap();
    staged.sort_unstable();
    assert_eq!(staged, [".:-_", "a", "b"].map(id));
    assert!(files.adopt(&id("a"), Seq(1)).unwrap());
    files.stage(&id("a"), PNG).unwrap();
    assert!(!files.adopt(&id("a"), Seq(1)).unwrap(), "the first picture is kept");
    assert_eq!(format(&files, 1), Some(ImageType::Jpeg));
    files.discard(&id("b")).unwrap();
    files.discard(&id(".:-_")).unwrap();
    assert!(files.staged().unwrap().is_empty());
    assert!(files.adopt(&id("b"), Seq(2)).is_err(), "it is gone");
    assert_eq!(fs::read_dir(dir.path().join("thumbnails")).unwrap().count(), 1);
}

#[test]
fn pictures_that_are_stored_concurrently_are_all_kept() {
    let (_dir, files) = temporary();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let files = &files;
            scope.spawn(move || (0..50).for_each(|i| files.store(Seq(i * 100 + n), JPEG).unwrap()));
        }
    });
    assert!((0..50).all(|i| (0..8).all(|n| files.has(Seq(i * 100 + n)).unwrap())));
}

#[test]
fn a_picture_is_stored_while_directories_are_removed_to_make_room() {
    let (_dir, files) = temporary();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    files.remove_oldest(u64::MAX).unwrap();
                }
            });
        }
        let stored: Vec<_> = (0..400)
            .map(|n| {
                // Each in a directory of its own.
                let (id, seq) = (EventId::parse(format!("e{n}")).unwrap(), Seq(n * FILES_PER_SHARD));
                files
                    .stage(&id, JPEG)
                    .and_then(|()| files.adopt(&id, seq))
                    .and_then(|_| files.store(seq, PNG))
            })
            .collect();
        is_done.store(true, Ordering::Relaxed);
        assert!(stored.iter().all(Result::is_ok), "{:?}", stored.iter().find(|result| result.is_err()));
    });
}

#[test]
fn a_picture_that_two_commits_adopt_at_once_is_stored() {
    let (_dir, files) = temporary();
    for n in 0..500 {
        let id = EventId::parse(format!("e{n}")).unwrap();
        files.stage(&id, JPEG).unwrap();
        let adopted = std::thread::scope(|scope| {
            let adopt = || files.adopt(&id, Seq(n)).unwrap();
            let both = [scope.spawn(adopt), scope.spawn(adopt)];
            both.map(|adopted| adopted.join().unwrap())
        });
        assert_eq!(adopted.iter().filter(|is_first| **is_first).count(), 1);
        assert!(files.has(Seq(n)).unwrap());
    }
}
