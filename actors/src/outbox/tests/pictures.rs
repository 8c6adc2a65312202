//! Events that come with a picture.

use super::*;
use crate::{
    domain::{
        camera::ImageType,
        image::{ImageError, MAX_THUMBNAIL_BYTES, samples},
    },
    messages::{
        outbox::{PublishBatch, PublishError, PublishEvent},
        thumbnails::{GetThumbnailAt, ThumbnailError},
    },
    store::Batch,
    testing::PictureKeeper,
};

/// Starts an outbox and the actor that stores its pictures. Also returns the picture directory.
async fn with_thumbnails(store: Store) -> (Addr<OutboxActor>, PictureKeeper, tempfile::TempDir) {
    with_thumbnails_and_limit(store, 100).await
}

async fn with_thumbnails_and_limit(
    store: Store,
    max_pending: u64,
) -> (Addr<OutboxActor>, PictureKeeper, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let keeper = PictureKeeper::start(store.clone(), dir.path()).await;
    let limits = OutboxLimits { max_pending, window: 10, retention_days: 7, commit: commit_context() };
    let settings = Arc::new(MqttSettings::defaults("c"));
    let peer = ThumbnailPeer {
        stage: keeper.stage.clone(),
        adopt: keeper.adopt.clone(),
        have: keeper.have.clone(),
        discard: keeper.discard.clone(),
        sweep: keeper.sweep.clone(),
        free_space: keeper.free_space.clone(),
    };
    let peers = OutboxPeers { thumbnails: peer, ..outbox_peers() };
    let crashed = mpsc::unbounded_channel().0;
    let outbox = OutboxActor::recover(store, Metrics::new(), limits, settings, peers, crashed).await;
    (outbox.unwrap().start(), keeper, dir)
}

async fn format_at(pictures: &PictureKeeper, seq: i64) -> Option<ImageType> {
    let found = pictures.get.send(GetThumbnailAt { seq: Seq(seq), width: None }).await.unwrap().unwrap();
    found.map(|stored| stored.picture.format)
}

#[actix_rt::test(system = "crate::System")]
async fn the_receipt_of_an_event_with_a_picture_means_that_both_are_on_disk() {
    let it = Fixture::new().await;
    let (outbox, thumbnails, _dir) = with_thumbnails(it.store.clone()).await;
    let publish = |id: &str, image| outbox.send(PublishEvent::new(event(id)).with_thumbnail(image));
    let receipt = publish("a", samples::JPEG).await.unwrap().unwrap();
    assert_eq!((receipt.seq, receipt.duplicate), (Seq(1), false));
    assert_eq!(format_at(&thumbnails, 1).await, Some(ImageType::Jpeg));

    outbox.send(PublishEvent::new(event("b"))).await.unwrap().unwrap();
    assert_eq!(format_at(&thumbnails, 2).await, None);
    assert!(publish("b", samples::PNG).await.unwrap().unwrap().duplicate);
    assert_eq!(
        format_at(&thumbnails, 2).await,
        Some(ImageType::Png),
        "a repeated event adds a missing picture"
    );
    publish("b", samples::JPEG).await.unwrap().unwrap();
    assert_eq!(format_at(&thumbnails, 2).await, Some(ImageType::Png), "but does not replace one");
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_with_an_invalid_picture_is_not_accepted() {
    let it = Fixture::new().await;
    let (outbox, _thumbnails, _dir) = with_thumbnails(it.store.clone()).await;
    let large = vec![0; MAX_THUMBNAIL_BYTES + 1];
    let too_large = ImageError::TooLarge { bytes: large.len() }.into();
    for (image, error) in [(b"GIF89a".to_vec(), ImageError::NotAPicture.into()), (large, too_large)] {
        let refused = outbox.send(PublishEvent::new(event("a")).with_thumbnail(image)).await.unwrap();
        assert_eq!(refused.unwrap_err(), PublishError::Thumbnail(error));
    }
    assert_eq!(it.store.last_seq().await.unwrap(), Seq(0));
}

#[actix_rt::test(system = "crate::System")]
async fn a_picture_that_was_not_written_is_stored_when_the_event_is_resent() {
    let it = Fixture::new().await;
    if it.store.is_on_server() {
        // There, the picture is not a file.
        return;
    }
    let (outbox, thumbnails, dir) = with_thumbnails(it.store.clone()).await;
    let in_the_way = dir.path().join("thumbnails/0");
    std::fs::write(&in_the_way, "").unwrap();
    let publish = || outbox.send(PublishEvent::new(event("a")).with_thumbnail(samples::JPEG));
    let failed = publish().await.unwrap().unwrap_err();
    assert!(matches!(failed, PublishError::Thumbnail(ThumbnailError::Storage(_))), "{failed:?}");
    std::fs::remove_file(&in_the_way).unwrap();
    assert!(publish().await.unwrap().unwrap().duplicate, "the event was stored");
    assert_eq!(format_at(&thumbnails, 1).await, Some(ImageType::Jpeg));
}

#[actix_rt::test(system = "crate::System")]
async fn a_repeated_event_adds_its_picture_while_the_outbox_is_full() {
    let it = Fixture::new().await;
    let (outbox, thumbnails, _dir) = with_thumbnails_and_limit(it.store.clone(), 2).await;
    for id in ["a", "b"] {
        outbox.send(PublishEvent::new(event(id))).await.unwrap().unwrap();
    }
    let with_picture = |id: &str| PublishEvent::new(event(id)).with_thumbnail(samples::JPEG);
    let full = PublishError::Full { pending: 2, max_pending: 2 };
    assert_eq!(outbox.send(with_picture("c")).await.unwrap().unwrap_err(), full);
    let batch = PublishBatch(vec![with_picture("a"), with_picture("c")]);
    assert_eq!(outbox.send(batch).await.unwrap().unwrap_err(), full);
    assert_eq!(format_at(&thumbnails, 1).await, None, "nothing of a refused batch is stored");
    assert!(outbox.send(with_picture("a")).await.unwrap().unwrap().duplicate);
    assert_eq!(format_at(&thumbnails, 1).await, Some(ImageType::Jpeg));
}

#[actix_rt::test(system = "crate::System")]
async fn the_pictures_of_many_events_at_once_are_all_stored() {
    let it = Fixture::new().await;
    let (outbox, thumbnails, _dir) = with_thumbnails(it.store.clone()).await;
    let publish =
        |n: i64| outbox.send(PublishEvent::new(event(&format!("e{n}"))).with_thumbnail(samples::JPEG));
    let answers = futures_util::future::join_all((1..=64).map(publish)).await;
    for answer in answers {
        let seq = answer.unwrap().unwrap().seq;
        assert_eq!(format_at(&thumbnails, seq.0).await, Some(ImageType::Jpeg));
    }
}

#[actix_rt::test(system = "crate::System")]
async fn pictures_are_removed_with_their_events() {
    let mut it = Fixture::new().await;
    let (outbox, thumbnails, _dir) = with_thumbnails(it.store.clone()).await;
    for id in ["a", "b", "c"] {
        outbox.send(PublishEvent::new(event(id)).with_thumbnail(samples::JPEG)).await.unwrap().unwrap();
    }
    it.outbox = outbox;
    it.link_up(100).await;
    it.sent(3).await;
    it.acknowledge([1, 2]).await;
    it.wait_for_checkpoint(2).await;
    let aged = "UPDATE deliveries SET log_time = log_time - 8 * 86400000000";
    it.store.execute(aged).await.unwrap();
    it.outbox.send(SweepNow).await.unwrap();
    wait_until("the pictures are gone", || async {
        format_at(&thumbnails, 1).await.is_none() && format_at(&thumbnails, 2).await.is_none()
    })
    .await;
    assert_eq!(
        format_at(&thumbnails, 3).await,
        Some(ImageType::Jpeg),
        "the picture of a pending event is kept"
    );
    let rows = async || it.store.read_page(Seq(0), 10, Seq(3)).await.unwrap().rows.len();
    wait_until("the events are gone", async || rows().await == 1).await;
}

/// Runs the hourly sweep.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct SweepNow;

impl Handler<SweepNow> for OutboxActor {
    type Result = ();

    fn handle(&mut self, _: SweepNow, ctx: &mut Self::Context) {
        self.sweep(ctx);
    }
}

#[actix_rt::test(system = "crate::System")]
async fn the_payload_contains_a_valid_link_to_the_picture() {
    let it = Fixture::new().await;
    let (context, now) = (commit_context(), it.store.clock().now());
    let batch = Batch { events: vec![event("a")], ..Batch::default() };
    let committed = it.store.commit(&batch, None, &context).await.unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&committed.stored[0].payload).unwrap();
    let url = payload["thumbnail_url"].as_str().unwrap();
    let id = EventId::parse("a").unwrap();
    assert_eq!(url, context.links.url(&id, committed.stored[0].times.accepted));
    let (_, query) = url.split_once("?expires=").unwrap();
    let (expires, signature) = query.split_once("&signature=").unwrap();
    assert!(context.links.verify(&id, expires.parse().unwrap(), signature, now.log));
}
