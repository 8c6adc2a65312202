//! The actor with a real database and real files.

use std::{collections::BTreeSet, fs};

use actix::Addr;
use futures_util::future::join_all;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;
use crate::{
    domain::{
        camera::ImageType,
        event::EventInput,
        event_log::Receipt,
        ids::Seq,
        image::{
            ImageError, MAX_THUMBNAIL_BYTES,
            samples::{JPEG, PNG, WEBP},
        },
    },
    messages::service::Stop,
    store::Batch,
    testing::{Crash, Recorded, Recorder, commit_context, settle, wait_until},
};

struct Fixture {
    store: Store,
    thumbnails: Addr<ThumbnailActor>,
    stored: Recorded<ThumbnailStored>,
    crashed: UnboundedReceiver<&'static str>,
    dir: tempfile::TempDir,
}

fn id(text: &str) -> EventId {
    EventId::parse(text).unwrap()
}

impl Fixture {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(dir: tempfile::TempDir) -> Self {
        let store = crate::testing::database::open(&dir.path().join("liveobject.db")).await;
        let (recorder, stored) = Recorder::start_new();
        let (crash, crashed) = mpsc::unbounded_channel();
        let pictures = crate::testing::pictures(&store, dir.path()).await;
        let thumbnails = ThumbnailActor::new(store.clone(), pictures, recorder.recipient(), crash).start();
        Self { store, thumbnails, stored, crashed, dir }
    }

    async fn restart(self) -> Self {
        self.thumbnails.send(Stop).await.unwrap();
        self.store.close().await;
        Self::open(self.dir).await
    }

    async fn event(&self, id: &str, camera_id: &str) -> Receipt {
        let input = EventInput {
            event_id: Some(id.to_owned()),
            camera_id: camera_id.to_owned(),
            description: "Somebody".to_owned(),
            ..EventInput::default()
        };
        let batch = Batch { events: vec![input.validate().unwrap()], ..Batch::default() };
        self.store.commit(&batch, None, &commit_context()).await.unwrap().receipts.remove(0)
    }

    async fn put(&self, event_id: &str, image: &'static [u8]) -> Result<(), ThumbnailError> {
        let image = Bytes::from_static(image);
        self.thumbnails.send(PutThumbnail { event_id: id(event_id), image }).await.unwrap()
    }

    async fn store(&self, event_id: &str, image: &'static [u8]) -> Result<(), ThumbnailError> {
        let image = Bytes::from_static(image);
        let event_id = id(event_id);
        self.thumbnails.send(StageThumbnail { event_id: event_id.clone(), image }).await.unwrap()?;
        let place = self.store.find_event(&event_id).await.unwrap().ok_or(ThumbnailError::UnknownEvent)?;
        let failed = self.thumbnails.send(AdoptThumbnails(vec![(event_id, place.seq)])).await.unwrap();
        if failed.is_empty() { Ok(()) } else { Err(ThumbnailError::Storage(StoreFault::Other)) }
    }

    async fn get(&self, event_id: &str) -> Option<Picture> {
        let get = GetThumbnail { event_id: id(event_id), width: None };
        self.thumbnails.send(get).await.unwrap().unwrap().map(|stored| stored.picture)
    }

    async fn get_at(&self, seq: i64) -> Option<Picture> {
        self.small(seq, None).await.map(|stored| stored.picture)
    }

    async fn small(&self, seq: i64, width: Option<u32>) -> Option<StoredPicture> {
        let width = width.map(|pixels| RenditionWidth::new(pixels).unwrap());
        self.thumbnails.send(GetThumbnailAt { seq: Seq(seq), width }).await.unwrap().unwrap()
    }

    /// Returns what was reported, when it is at least this much.
    async fn notifications(&self, expected: usize) -> Vec<(String, i64, ImageType)> {
        let mut stored = Vec::new();
        wait_until("the pictures are reported", async || {
            stored.extend(self.stored.take());
            stored.len() >= expected
        })
        .await;
        settle().await;
        stored.extend(self.stored.take());
        stored.into_iter().map(|t| (t.camera_id.to_string(), t.thumbnail.seq.0, t.thumbnail.format)).collect()
    }
}

#[actix_rt::test(system = "crate::System")]
async fn many_requests_for_pictures_at_once_are_all_answered() {
    let it = Fixture::new().await;
    for event_id in ["a", "b"] {
        it.event(event_id, "door").await;
        it.put(event_id, JPEG).await.unwrap();
    }
    let found = join_all((0..40).map(|number| it.get_at(number % 2 + 1))).await;
    assert!(found.iter().all(|found| *found == Some(picture(ImageType::Jpeg, JPEG))), "{found:?}");
}

fn picture(format: ImageType, image: &'static [u8]) -> Picture {
    Picture { format, image: Bytes::from_static(image) }
}

#[actix_rt::test(system = "crate::System")]
async fn a_picture_is_found_by_its_event_even_after_a_restart() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    it.event("..b", "garden").await;
    assert_eq!(it.get("a").await, None);
    it.put("a", JPEG).await.unwrap();
    it.put("..b", WEBP).await.unwrap();
    let it = it.restart().await;
    assert_eq!(it.get("a").await, Some(picture(ImageType::Jpeg, JPEG)));
    assert_eq!(it.get("..b").await, Some(picture(ImageType::WebP, WEBP)));
    assert_eq!(it.get_at(2).await, Some(picture(ImageType::WebP, WEBP)));
    assert_eq!((it.get("nothing").await, it.get_at(3).await), (None, None));
}

#[actix_rt::test(system = "crate::System")]
async fn each_stored_picture_is_reported() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    it.put("a", JPEG).await.unwrap();
    it.put("a", PNG).await.unwrap();
    let notifications = it.notifications(2).await;
    assert_eq!(
        notifications,
        [("door".to_owned(), 1, ImageType::Jpeg), ("door".to_owned(), 1, ImageType::Png)]
    );
    assert_eq!(it.get("a").await, Some(picture(ImageType::Png, PNG)));
}

#[actix_rt::test(system = "crate::System")]
async fn the_picture_of_a_repeated_event_does_not_replace_the_first_one() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    it.store("a", JPEG).await.unwrap();
    it.store("a", PNG).await.unwrap();
    assert_eq!(it.get("a").await, Some(picture(ImageType::Jpeg, JPEG)));
    assert_eq!(it.notifications(1).await.len(), 1);
}

#[actix_rt::test(system = "crate::System")]
async fn the_error_states_why_a_picture_was_not_stored() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    assert_eq!(it.put("b", JPEG).await, Err(ThumbnailError::UnknownEvent));
    assert_eq!(it.put("a", b"GIF89a").await, Err(ImageError::NotAPicture.into()));
    let large: &'static [u8] = vec![0; MAX_THUMBNAIL_BYTES + 1].leak();
    assert_eq!(it.put("a", large).await, Err(ImageError::TooLarge { bytes: large.len() }.into()));
    if it.store.is_on_server() {
        return;
    }
    fs::write(it.dir.path().join("thumbnails/0"), "in the way").unwrap();
    assert_eq!(it.put("a", JPEG).await, Err(ThumbnailError::Storage(StoreFault::Other)));
    assert_eq!(it.notifications(0).await, []);
    fs::remove_file(it.dir.path().join("thumbnails/0")).unwrap();
    it.put("a", JPEG).await.unwrap();
}

#[actix_rt::test(system = "crate::System")]
async fn an_unavailable_database_is_an_error() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    it.store.close().await;
    assert!(matches!(it.put("a", JPEG).await, Err(ThumbnailError::Storage(_))));
    assert!(it.thumbnails.send(GetThumbnail { event_id: id("a"), width: None }).await.unwrap().is_err());
}

#[actix_rt::test(system = "crate::System")]
async fn two_pictures_of_one_event_are_not_written_at_the_same_time() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    let (one, two) = tokio::join!(it.put("a", JPEG), it.put("a", PNG));
    assert_eq!((one, two), (Ok(()), Err(ThumbnailError::Busy)));
    assert_eq!(it.get("a").await, Some(picture(ImageType::Jpeg, JPEG)));
    it.put("a", PNG).await.unwrap();
}

#[actix_rt::test(system = "crate::System")]
async fn requests_above_the_limit_are_rejected_but_those_of_the_outbox_wait() {
    let it = Fixture::new().await;
    let ids: Vec<_> = (0..3 * MAX_WRITES).map(|n| format!("e{n}")).collect();
    for id in &ids {
        it.event(id, "door").await;
    }
    let puts = futures_util::future::join_all(ids.iter().map(|id| it.put(id, JPEG))).await;
    assert_eq!(
        puts.iter().filter(|put| **put == Err(ThumbnailError::Busy)).count(),
        2 * MAX_WRITES,
        "{puts:?}"
    );
    assert_eq!(puts.iter().filter(|put| put.is_ok()).count(), MAX_WRITES);
    let stores = futures_util::future::join_all(ids.iter().map(|id| it.store(id, JPEG))).await;
    assert!(stores.iter().all(Result::is_ok), "{stores:?}");
    let mut reported = 0;
    while reported < 3 * MAX_WRITES {
        reported += it.notifications(0).await.len();
    }
}

#[actix_rt::test(system = "crate::System")]
async fn swept_pictures_are_removed() {
    let it = Fixture::new().await;
    for id in ["a", "b", "c"] {
        it.event(id, "door").await;
        it.put(id, JPEG).await.unwrap();
    }
    it.thumbnails.send(Sweep { up_to: Seq(2), kept: BTreeSet::new() }).await.unwrap();
    assert_eq!((it.get_at(1).await, it.get_at(2).await), (None, None));
    assert!(it.get("c").await.is_some());
}

#[actix_rt::test(system = "crate::System")]
async fn the_picture_of_an_event_that_is_kept_is_not_swept() {
    let it = Fixture::new().await;
    for id in ["a", "b", "c"] {
        it.event(id, "door").await;
        it.put(id, JPEG).await.unwrap();
    }
    it.thumbnails.send(Sweep { up_to: Seq(3), kept: [Seq(2)].into() }).await.unwrap();
    assert_eq!((it.get_at(1).await, it.get_at(3).await), (None, None));
    assert!(it.get("b").await.is_some(), "it waits to be sent again");
}

#[actix_rt::test(system = "crate::System")]
async fn a_panic_in_the_actor_is_reported() {
    let mut it = Fixture::new().await;
    let _closed = it.thumbnails.send(Crash).await;
    assert_eq!(it.crashed.recv().await, Some("thumbnails"));
}

#[actix_rt::test(system = "crate::System")]
async fn a_panic_in_a_file_operation_fails_only_the_request() {
    let failed = storage::run_blocking(|| -> Result<(), FilesError> { panic!("panic on request") }).await;
    assert_eq!(failed, Err(StoreFault::Other));
}

#[actix_rt::test(system = "crate::System")]
async fn a_picture_that_was_staged_before_a_crash_is_adopted_if_its_event_was_committed() {
    let it = Fixture::new().await;
    for event_id in ["a", "b"] {
        let staged = StageThumbnail { event_id: id(event_id), image: Bytes::from_static(JPEG) };
        it.thumbnails.send(staged).await.unwrap().unwrap();
    }
    it.event("a", "door").await;
    assert_eq!(it.get("a").await, None);
    let recovered = if it.store.is_on_server() {
        crate::testing::pictures(&it.store, it.dir.path()).await.recovered
    } else {
        let files = Files::open(it.dir.path(), u64::MAX).unwrap();
        let recovered = recover_staged(&it.store, &files).await.unwrap();
        assert!(files.staged().unwrap().is_empty(), "that of an event that was not committed is removed");
        recovered
    };
    assert_eq!(recovered.len(), 1);
    assert_eq!((recovered[0].camera_id.as_str(), recovered[0].thumbnail.seq), ("door", Seq(1)));
    assert_eq!(recovered[0].thumbnail.format, ImageType::Jpeg);
    assert_eq!(it.get("a").await, Some(picture(ImageType::Jpeg, JPEG)));
    it.event("b", "door").await;
    let failed = it.thumbnails.send(AdoptThumbnails(vec![(id("b"), Seq(2))])).await.unwrap();
    assert_eq!(failed, [id("b")], "it was removed");
}

#[actix_rt::test(system = "crate::System")]
async fn a_picture_file_that_cannot_be_recovered_does_not_prevent_the_start() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    let files = Files::open(it.dir.path(), u64::MAX).unwrap();
    files.stage(&id("a"), JPEG).unwrap();
    it.store.close().await;
    assert_eq!(recover_staged(&it.store, &files).await.unwrap().len(), 0);
    assert_eq!(files.staged().unwrap(), [id("a")], "it is left for the next start");
}

#[actix_rt::test(system = "crate::System")]
async fn a_staged_picture_is_not_replaced_by_another_one_until_its_event_is_decided() {
    let it = Fixture::new().await;
    it.event("a", "door").await;
    let stage = |image| StageThumbnail { event_id: id("a"), image: Bytes::from_static(image) };
    it.thumbnails.send(stage(JPEG)).await.unwrap().unwrap();
    assert_eq!(it.put("a", PNG).await, Err(ThumbnailError::Busy));
    it.thumbnails.send(DiscardThumbnails(vec![id("a")])).await.unwrap();
    it.put("a", PNG).await.unwrap();
    it.thumbnails.send(stage(JPEG)).await.unwrap().unwrap();
    assert!(it.thumbnails.send(AdoptThumbnails(vec![(id("a"), Seq(1))])).await.unwrap().is_empty());
    assert_eq!(it.get("a").await, Some(picture(ImageType::Png, PNG)), "the first picture is kept");
    let failed = it.thumbnails.send(AdoptThumbnails(vec![(id("b"), Seq(2))])).await.unwrap();
    assert_eq!(failed, [id("b")], "nothing is staged");
}

/// A picture of 1,000 × 500 pixels with little content, larger than its renditions.
fn wide() -> &'static [u8] {
    let noise = |x: u32, y: u32| (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)).to_le_bytes()[1];
    let picture = image::RgbImage::from_fn(1000, 500, |x, y| image::Rgb([noise(x, y), noise(y, x), 9]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner().leak()
}

#[actix_rt::test(system = "crate::System")]
async fn small_renditions_are_made_for_many_requests_at_once_and_removed_with_their_picture() {
    let it = Fixture::new().await;
    let seq = it.event("a", "door").await.seq;
    it.put("a", wide()).await.unwrap();
    let requests = (0..12).map(|n| it.small(seq.0, Some([192, 384, 768][n % 3])));
    for (n, found) in futures_util::future::join_all(requests).await.into_iter().enumerate() {
        let image = found.unwrap().picture.image;
        assert_eq!(image::load_from_memory(&image).unwrap().width(), [192, 384, 768][n % 3]);
    }
    let get = GetThumbnail { event_id: id("a"), width: RenditionWidth::new(192) };
    let by_event = it.thumbnails.send(get).await.unwrap().unwrap().unwrap();
    assert_eq!(Some(by_event.clone()), it.small(seq.0, Some(192)).await);
    let versions = it.thumbnails.send(GetThumbnailVersions(vec![seq, Seq(99)])).await.unwrap().unwrap();
    assert_eq!(versions, [Some(by_event.version), None]);
    assert_eq!(it.small(99, Some(192)).await, None);
    let it = it.restart().await;
    assert_eq!(it.small(seq.0, Some(192)).await, Some(by_event));
    it.put("a", PNG).await.unwrap();
    assert_eq!(it.small(seq.0, Some(192)).await.unwrap().picture, picture(ImageType::Png, PNG));
    it.thumbnails.send(Sweep { up_to: seq, kept: BTreeSet::new() }).await.unwrap();
    assert_eq!(it.small(seq.0, Some(192)).await, None);
    if !it.store.is_on_server() {
        let left = fs::read_dir(it.dir.path().join(DIRECTORY).join("0")).unwrap();
        assert_eq!(left.count(), 0, "no rendition is left");
    }
}
