//! Cameras, and the topics of their retained messages.

use std::collections::BTreeMap;

use super::super::{Store, StoreError, camera_days, cameras, discovery_topics, heard_topics, tracked};
use crate::domain::{
    calendar::Day,
    camera::{Camera, Thumbnail},
    clock::LogTime,
    ids::CameraId,
    retained::Kind,
};

/// Cameras and their counts.
impl Store {
    /// Returns every camera as of the last commit, sorted by id.
    pub(crate) async fn list_cameras(&self) -> Result<Vec<Camera>, StoreError> {
        let txn = self.begin().await?;
        let cameras = tracked::all(&txn).await?;
        txn.rollback().await?;
        Ok(cameras.into_iter().map(|tracked| tracked.camera).collect())
    }

    /// Returns the registered cameras among `ids`, as of the last commit.
    pub(crate) async fn find_cameras(&self, ids: &[CameraId]) -> Result<Vec<Camera>, StoreError> {
        let txn = self.begin().await?;
        let cameras = tracked::find(&txn, ids).await?;
        txn.rollback().await?;
        Ok(cameras.into_iter().map(|tracked| tracked.camera).collect())
    }

    /// Changes one camera in a transaction. `change` receives the camera, or `None` if it is not registered,
    /// and whether another one may be registered. Returns the camera as it is stored afterwards.
    pub(crate) async fn change_camera<E: From<StoreError>>(
        &self,
        id: &CameraId,
        max_cameras: u32,
        change: impl FnOnce(Option<Camera>, bool) -> Result<Camera, E>,
    ) -> Result<Camera, E> {
        enum Failure<E> {
            Change(E),
            Database(sea_orm::DbErr),
        }
        impl<E> From<sea_orm::DbErr> for Failure<E> {
            fn from(error: sea_orm::DbErr) -> Self {
                Self::Database(error)
            }
        }
        let change = |camera, has_room| change(camera, has_room).map_err(Failure::Change);
        cameras::change(self, id, max_cameras, change).await.map_err(|failure| match failure {
            Failure::Change(error) => error,
            Failure::Database(error) => StoreError::from(error).into(),
        })
    }

    /// Stores the newest picture of each camera. Skips pictures that are older than the stored one, and
    /// unknown cameras. Returns the cameras whose newest picture is the given one.
    pub(crate) async fn note_pictures(
        &self,
        pictures: &BTreeMap<CameraId, Thumbnail>,
    ) -> Result<Vec<Camera>, StoreError> {
        Ok(cameras::note_pictures(self, pictures).await?)
    }

    /// Removes a camera and its counts. Returns whether it was registered.
    pub(crate) async fn delete_camera(&self, id: &CameraId) -> Result<bool, StoreError> {
        Ok(cameras::delete(self, id).await?)
    }

    /// Returns the counts of all cameras as of the last commit, starting with this day.
    pub(crate) async fn days_since(&self, day: Day) -> Result<camera_days::Counts, StoreError> {
        let txn = self.begin().await?;
        let mut counts = camera_days::since(&txn, day).await?;
        tracked::add_uncounted(&mut counts, &tracked::all(&txn).await?, day);
        txn.rollback().await?;
        Ok(counts)
    }

    /// Returns the counts of these cameras as of the last commit, starting with this day.
    pub(crate) async fn days_of_cameras(
        &self,
        ids: &[CameraId],
        day: Day,
    ) -> Result<camera_days::Counts, StoreError> {
        let txn = self.begin().await?;
        let mut counts = camera_days::of_since(&txn, ids, day).await?;
        tracked::add_uncounted(&mut counts, &tracked::find(&txn, ids).await?, day);
        txn.rollback().await?;
        Ok(counts)
    }

    /// Removes the counts of all days before this one.
    pub(crate) async fn delete_days_before(&self, day: Day) -> Result<u64, StoreError> {
        let txn = self.begin().await?;
        self.known.forget_all();
        let deleted = camera_days::delete_before(&txn, day).await?;
        txn.commit().await?;
        Ok(deleted)
    }
}

/// Topics that may have a retained message.
impl Store {
    /// Returns the topics on this broker.
    pub(crate) async fn list_topics(&self, broker: &str) -> Result<Vec<(String, Kind)>, StoreError> {
        Ok(discovery_topics::of_broker(&self.read, broker).await?)
    }

    /// Removes the topics that were cleared, then adds the new ones, in one transaction.
    pub(crate) async fn change_topics(
        &self,
        broker: &str,
        cleared: &[String],
        new: &[(String, Kind)],
    ) -> Result<(), StoreError> {
        Ok(discovery_topics::change(self, broker, cleared, new).await?)
    }
}

/// The topics that had a subscriber.
impl Store {
    /// Returns at most `limit` topics that had a subscriber on this broker, with the log time of the last one, the
    /// latest first.
    pub(crate) async fn heard_topics(
        &self,
        broker: &str,
        limit: u64,
    ) -> Result<Vec<(String, LogTime)>, StoreError> {
        Ok(heard_topics::of_broker(&self.read, broker, limit).await?)
    }

    /// Adds topics on this broker, or sets when they last had a subscriber.
    pub(crate) async fn note_heard_topics(
        &self,
        broker: &str,
        topics: &[(String, LogTime)],
    ) -> Result<(), StoreError> {
        Ok(heard_topics::note(self, broker, topics).await?)
    }

    /// Removes the topics, on every broker, that last had a subscriber before this time.
    pub(crate) async fn forget_heard_topics(&self, before: LogTime) -> Result<(), StoreError> {
        Ok(heard_topics::forget(&self.write, before).await?)
    }
}
