//! Pictures in a database on a server.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::{PicturesRemoved, Store, StoreError, pictures};
use crate::domain::{
    ids::{EventId, Seq},
    image::PictureVersion,
};

/// Pictures in a database on a server.
impl Store {
    /// Stores the picture of an event that is about to be committed. Returns the size of the staged picture that it
    /// replaces, or 0.
    pub(crate) async fn stage_picture(&self, event_id: &EventId, image: &Bytes) -> Result<u64, StoreError> {
        Ok(pictures::stage(self, event_id, image).await?)
    }

    /// Stores the picture of the event at this position. Returns the size of the picture that it replaces; `None` if
    /// there was none.
    pub(crate) async fn put_picture(
        &self,
        event_id: &EventId,
        seq: Seq,
        image: &Bytes,
    ) -> Result<Option<u64>, StoreError> {
        Ok(pictures::put(self, event_id, seq, image).await?)
    }

    /// Makes staged pictures those of their events, unless these have one. Returns the events whose picture was
    /// adopted. The others stay staged.
    pub(crate) async fn adopt_pictures(
        &self,
        events: &[(EventId, Seq)],
    ) -> Result<BTreeSet<EventId>, StoreError> {
        Ok(pictures::adopt(self, events).await?)
    }

    /// Removes the staged pictures of these events.
    pub(crate) async fn discard_pictures(
        &self,
        event_ids: &[EventId],
    ) -> Result<PicturesRemoved, StoreError> {
        Ok(pictures::discard(self, event_ids).await?)
    }

    /// At the start: adopts the staged pictures of the events in the log, unless these have one, and removes the
    /// others. Returns the events, and the beginnings of the pictures.
    pub(crate) async fn recover_pictures(&self) -> Result<Vec<(EventId, Vec<u8>)>, StoreError> {
        Ok(pictures::recover(self).await?)
    }

    /// Returns the versions of the pictures at these positions, as far as there are any.
    pub(crate) async fn picture_versions(
        &self,
        seqs: &[Seq],
    ) -> Result<Vec<(Seq, PictureVersion)>, StoreError> {
        Ok(pictures::versions(self, seqs).await?)
    }

    /// Returns the positions of at most this many pictures after this one, in order.
    pub(crate) async fn list_pictures(&self, after: Seq, limit: usize) -> Result<Vec<Seq>, StoreError> {
        Ok(pictures::list(self, after, limit).await?)
    }

    /// Returns the ids of the events at these positions, as far as there are any.
    pub(crate) async fn find_event_ids(&self, seqs: &[Seq]) -> Result<Vec<(Seq, EventId)>, StoreError> {
        Ok(pictures::event_ids(self, seqs).await?)
    }

    /// Returns the picture at this position and its version; only the version if it is `known`.
    pub(crate) async fn load_picture(
        &self,
        seq: Seq,
        known: Option<PictureVersion>,
    ) -> Result<Option<(Option<Bytes>, PictureVersion)>, StoreError> {
        Ok(pictures::load(self, seq, known).await?)
    }

    /// Returns the number and the size of all pictures.
    pub(crate) async fn measure_pictures(&self) -> Result<PicturesRemoved, StoreError> {
        Ok(pictures::measure(self).await?)
    }

    /// Removes the oldest pictures of at least this size together, or a part of them. Returns what was removed.
    pub(crate) async fn remove_oldest_pictures(&self, bytes: u64) -> Result<PicturesRemoved, StoreError> {
        Ok(pictures::remove_oldest(self, bytes).await?)
    }

    /// Removes pictures up to this position, except for those that are kept. Returns what was removed; there may be
    /// more.
    pub(crate) async fn remove_pictures_up_to(
        &self,
        up_to: Seq,
        kept: &BTreeSet<Seq>,
    ) -> Result<PicturesRemoved, StoreError> {
        Ok(pictures::remove_up_to(self, up_to, kept).await?)
    }
}
