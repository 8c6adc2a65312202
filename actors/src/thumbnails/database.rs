//! The pictures in a database on a server, which all nodes with this database have.
//!
//! Their small renditions are made again by each owner of the log, and are only in memory. So are the pictures that
//! were read last: usually, several clients read the newest one.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    domain::{
        camera::ImageType,
        ids::{EventId, Seq},
        image::{MAX_THUMBNAIL_BYTES, Picture, PictureVersion, RenditionWidth, StoredPicture, detect_format},
        numbers::saturate,
    },
    messages::thumbnails::PictureStock,
    store::{PicturesRemoved as Removed, Store, StoreError},
};

/// Maximum total size of the pictures in memory.
const MAX_RECENT_BYTES: usize = 8 * 1024 * 1024;
/// Maximum total size of the small renditions in memory.
const MAX_SMALL_BYTES: usize = 16 * 1024 * 1024;
/// What a rendition in memory counts at least.
const ENTRY_BYTES: usize = 128;

/// The pictures. Cheap to clone. Only the owner of the log writes them.
#[derive(Debug, Clone)]
pub struct Database {
    store: Store,
    max_bytes: u64,
    stock: Arc<Mutex<Removed>>,
    small: Arc<Mutex<SmallPictures>>,
    recent: Arc<Mutex<VecDeque<(Seq, PictureVersion, Bytes)>>>,
    /// Pictures are read one at a time, so that they leave connections for other queries.
    turn: Arc<Semaphore>,
}

/// A picture that was staged before the start, and that its event has now.
#[derive(Debug, Clone)]
pub struct RecoveredPicture {
    pub event_id: EventId,
    pub format: ImageType,
}

impl Database {
    /// Opens the pictures. Adopts those that were staged when an owner of the log crashed or lost it, as far as their
    /// events were committed, and removes the others.
    ///
    /// When the pictures together exceed `max_bytes`, the oldest ones are removed.
    pub async fn open(store: &Store, max_bytes: u64) -> Result<(Self, Vec<RecoveredPicture>), StoreError> {
        let recovered = store.recover_pictures().await?.into_iter().filter_map(|(event_id, head)| {
            Some(RecoveredPicture { event_id, format: detect_format(&head)? })
        });
        let recovered = recovered.collect();
        let stock = Arc::new(Mutex::new(store.measure_pictures().await?));
        let database = Self {
            store: store.clone(),
            max_bytes,
            stock,
            small: Arc::default(),
            recent: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        };
        Ok((database, recovered))
    }

    /// Stores the picture of an event that is about to be committed. It is durable when this returns.
    pub async fn stage(&self, event_id: &EventId, image: &Bytes) -> Result<(), StoreError> {
        self.make_room(image).await?;
        let replaced = self.store.stage_picture(event_id, image).await?;
        self.added(image, replaced, 0);
        Ok(())
    }

    /// Stores the picture of an event, and replaces an earlier one. It is durable when this returns.
    pub async fn put(&self, event_id: &EventId, seq: Seq, image: &Bytes) -> Result<(), StoreError> {
        self.make_room(image).await?;
        let replaced = self.store.put_picture(event_id, seq, image).await?;
        self.added(image, replaced.unwrap_or(0), u64::from(replaced.is_none()));
        Ok(())
    }

    /// Makes staged pictures those of their events. Returns for each whether it was adopted; `false` if the event has
    /// one already, which is kept, and `None` if there is nothing staged.
    pub async fn adopt(&self, events: &[(EventId, Seq)]) -> Result<Vec<(EventId, Option<bool>)>, StoreError> {
        let adopted = self.store.adopt_pictures(events).await?;
        self.stock().pictures += saturate::<_, u64>(adopted.len());
        let others = events.iter().filter(|(event_id, _)| !adopted.contains(event_id));
        let (others, seqs): (Vec<_>, Vec<_>) = others.cloned().unzip();
        let has: HashSet<Seq> = if others.is_empty() {
            HashSet::new()
        } else {
            self.discard(&others).await?;
            self.store.picture_versions(&seqs).await?.into_iter().map(|(seq, _)| seq).collect()
        };
        let outcome = |(event_id, seq): &(EventId, Seq)| {
            let is_adopted = adopted.contains(event_id);
            (event_id.clone(), (is_adopted || has.contains(seq)).then_some(is_adopted))
        };
        Ok(events.iter().map(outcome).collect())
    }

    /// Removes staged pictures.
    pub async fn discard(&self, event_ids: &[EventId]) -> Result<(), StoreError> {
        let removed = self.store.discard_pictures(event_ids).await?;
        self.removed(removed);
        Ok(())
    }

    /// Returns the versions of the pictures of these events, in the same order.
    pub async fn versions(&self, seqs: &[Seq]) -> Result<Vec<Option<PictureVersion>>, StoreError> {
        let found: HashMap<Seq, PictureVersion> =
            self.store.picture_versions(seqs).await?.into_iter().collect();
        Ok(seqs.iter().map(|seq| found.get(seq).copied()).collect())
    }

    /// Returns the picture of an event with its version; `None` if it has no picture.
    pub async fn load(&self, seq: Seq) -> Result<Option<StoredPicture>, StoreError> {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let known = self.recent().iter().find(|(known, ..)| *known == seq).cloned();
        let known_version = known.as_ref().map(|(_, version, _)| *version);
        let Some((image, version)) = self.store.load_picture(seq, known_version).await? else {
            return Ok(None);
        };
        let image = match (image, known) {
            (Some(image), _) => {
                self.keep_recent(seq, version, image.clone());
                image
            }
            (None, Some((_, _, image))) => image,
            (None, None) => return Ok(None),
        };
        let format = detect_format(&image).filter(|_| image.len() <= MAX_THUMBNAIL_BYTES);
        if format.is_none() {
            tracing::error!(%seq, "this row is damaged: it does not contain a picture");
        }
        Ok(format.map(|format| StoredPicture { picture: Picture { format, image }, version }))
    }

    fn keep_recent(&self, seq: Seq, version: PictureVersion, image: Bytes) {
        let mut recent = self.recent();
        recent.retain(|(known, ..)| *known != seq);
        recent.push_back((seq, version, image));
        while recent.iter().map(|(.., image)| image.len()).sum::<usize>() > MAX_RECENT_BYTES {
            recent.pop_front();
        }
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Seq, PictureVersion, Bytes)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the rendition of this width of a version of a picture, as far as it is in memory.
    pub fn small(&self, seq: Seq, width: RenditionWidth, version: PictureVersion) -> Option<Small> {
        self.small_pictures().find((seq, width.pixels(), version))
    }

    /// Keeps a rendition in memory.
    pub fn keep_small(&self, seq: Seq, width: RenditionWidth, version: PictureVersion, rendition: Small) {
        self.small_pictures().keep((seq, width.pixels(), version), rendition);
    }

    /// Removes the pictures of all events up to this one. Returns their number. If this fails, the next call removes
    /// the rest.
    pub async fn remove_up_to(&self, up_to: Seq, kept: &BTreeSet<Seq>) -> Result<u64, StoreError> {
        let mut pictures = 0;
        loop {
            let removed = self.store.remove_pictures_up_to(up_to, kept).await?;
            self.removed(removed);
            if removed.pictures == 0 {
                return Ok(pictures);
            }
            pictures += removed.pictures;
        }
    }

    /// Returns how many pictures there are.
    pub fn stock_now(&self) -> PictureStock {
        let Removed { pictures, bytes } = *self.stock();
        PictureStock { stored: Some((pictures, bytes)), max_bytes: self.max_bytes }
    }

    /// Removes old pictures until this one fits into the limit.
    async fn make_room(&self, image: &Bytes) -> Result<(), StoreError> {
        let needed = self.stock().bytes.saturating_add(saturate(image.len()));
        let over = needed.saturating_sub(self.max_bytes);
        if over == 0 {
            return Ok(());
        }
        // Somewhat more, so that not every picture removes another one.
        let mut rest = over.saturating_add(self.max_bytes / 20);
        while rest > 0 {
            let removed = self.store.remove_oldest_pictures(rest).await?;
            self.removed(removed);
            if removed.pictures == 0 {
                break;
            }
            rest = rest.saturating_sub(removed.bytes);
        }
        Ok(())
    }

    fn added(&self, image: &Bytes, replaced: u64, pictures: u64) {
        let mut stock = self.stock();
        let bytes = stock.bytes.saturating_add(saturate(image.len())).saturating_sub(replaced);
        *stock = Removed { pictures: stock.pictures + pictures, bytes };
    }

    fn removed(&self, Removed { pictures, bytes }: Removed) {
        let mut stock = self.stock();
        stock.pictures = stock.pictures.saturating_sub(pictures);
        stock.bytes = stock.bytes.saturating_sub(bytes);
    }

    fn stock(&self) -> MutexGuard<'_, Removed> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn small_pictures(&self) -> MutexGuard<'_, SmallPictures> {
        self.small.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Key = (Seq, u32, PictureVersion);

/// A small rendition in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Small {
    /// The rendition.
    Made(Bytes),
    /// There is none, and the picture itself is shown.
    Original,
}

impl Small {
    fn size(&self) -> usize {
        match self {
            Self::Made(image) => ENTRY_BYTES + image.len(),
            Self::Original => ENTRY_BYTES,
        }
    }
}

/// The small renditions that were made last.
#[derive(Debug, Default)]
struct SmallPictures {
    newest: VecDeque<(Key, Small)>,
    bytes: usize,
}

impl SmallPictures {
    fn find(&self, key: Key) -> Option<Small> {
        let found = self.newest.iter().find(|(known, _)| *known == key);
        found.map(|(_, rendition)| rendition.clone())
    }

    fn keep(&mut self, key: Key, rendition: Small) {
        if self.find(key).is_some() {
            return;
        }
        self.bytes += rendition.size();
        self.newest.push_back((key, rendition));
        while self.bytes > MAX_SMALL_BYTES {
            let Some((_, oldest)) = self.newest.pop_front() else { return };
            self.bytes -= oldest.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::image::samples::{JPEG, PNG},
        testing::database::TestDatabase,
    };

    fn id(text: &str) -> EventId {
        EventId::parse(text).unwrap()
    }

    #[tokio::test]
    async fn the_oldest_pictures_are_removed_above_the_size_limit_which_the_next_owner_knows() {
        let store = TestDatabase::postgres().open().await;
        let (image, size) = (Bytes::from_static(JPEG), JPEG.len() as u64);
        let (pictures, _) = Database::open(&store, 20 * size).await.unwrap();
        for seq in 1..=20 {
            pictures.put(&id(&seq.to_string()), Seq(seq), &image).await.unwrap();
        }
        assert_eq!(pictures.stock_now().stored, Some((20, 20 * size)));
        let (pictures, _) = Database::open(&store, 20 * size).await.unwrap();
        pictures.put(&id("20"), Seq(20), &image).await.unwrap();
        pictures.stage(&id("21"), &image).await.unwrap();
        assert_eq!(pictures.adopt(&[(id("21"), Seq(21))]).await.unwrap(), [(id("21"), Some(true))]);
        let left: Vec<_> = (1..=21).map(Seq).collect();
        let left = pictures.versions(&left).await.unwrap().iter().filter(|found| found.is_some()).count();
        let left = u64::try_from(left).unwrap();
        assert!((17..20).contains(&left), "{left}");
        assert_eq!(pictures.stock_now().stored, Some((left, left * size)));
    }

    #[tokio::test]
    async fn a_picture_in_memory_is_shown_until_it_is_replaced_or_removed() {
        let store = TestDatabase::postgres().open().await;
        let (pictures, _) = Database::open(&store, u64::MAX).await.unwrap();
        let load = async || pictures.load(Seq(1)).await.unwrap().map(|stored| stored.picture.image);
        pictures.put(&id("a"), Seq(1), &Bytes::from_static(JPEG)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(load().await.as_deref(), Some(JPEG));
        }
        pictures.put(&id("a"), Seq(1), &Bytes::from_static(PNG)).await.unwrap();
        assert_eq!(load().await.as_deref(), Some(PNG));
        assert_eq!(pictures.remove_up_to(Seq(1), &BTreeSet::new()).await.unwrap(), 1);
        assert_eq!(load().await, None);
        let large = |seq: i64| pictures.keep_recent(Seq(seq), PictureVersion(1), vec![0; 3 << 20].into());
        (0..5).for_each(large);
        assert_eq!(pictures.recent().len(), 2, "the memory is bounded");
    }

    #[test]
    fn the_renditions_in_memory_are_bounded() {
        let mut small = SmallPictures::default();
        let key = |seq| (Seq(seq), 192, PictureVersion(1));
        small.keep(key(0), Small::Original);
        for seq in 1..=20 {
            small.keep(key(seq), Small::Made(vec![0; 1024 * 1024].into()));
            small.keep(key(seq), Small::Original);
        }
        assert!(small.bytes <= MAX_SMALL_BYTES && small.newest.len() == 15, "{}", small.newest.len());
        assert_eq!(small.find(key(0)), None);
        assert_eq!(
            small.find(key(20)),
            Some(Small::Made(vec![0; 1024 * 1024].into())),
            "the first one is kept"
        );
    }
}
