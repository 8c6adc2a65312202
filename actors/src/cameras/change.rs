//! Changes to a camera by users and classifiers: first in the database, then in memory.

use actix::{ActorFutureExt as _, AtomicResponse, WrapFuture as _};

use super::CameraActor;
use crate::{
    domain::{camera::Camera, causes::with_causes, event_log::QueryError, ids::CameraId},
    messages::cameras::{CameraError, CameraView},
    store::StoreError,
};

/// Why a change failed.
enum ChangeError {
    Camera(CameraError),
    Database(StoreError),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Database(error)
    }
}

impl From<ChangeError> for CameraError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Camera(error) => error,
            ChangeError::Database(error) => storage_error(error),
        }
    }
}

pub(super) fn storage_error(error: StoreError) -> CameraError {
    tracing::error!(error = %with_causes(&error), "the camera could not be stored");
    CameraError::Storage(QueryError(error.fault()))
}

impl CameraActor {
    /// Changes a camera in the database, then in memory. `change` gets the camera, if it exists, and whether
    /// the camera limit allows a new one.
    pub(super) fn change(
        &mut self,
        id: CameraId,
        change: impl FnOnce(Option<Camera>, bool) -> Result<Camera, CameraError> + 'static,
    ) -> AtomicResponse<Self, Result<CameraView, CameraError>> {
        let (store, max, first_day) = (self.store.clone(), self.max_cameras, self.first_day());
        let is_known = self.cameras.contains_key(&id);
        let changed = async move {
            let change = |known, has_room| change(known, has_room).map_err(ChangeError::Camera);
            let camera = store.change_camera(&id, max, change).await?;
            // The database may already have a camera that this actor has not been notified of yet.
            let days = if is_known {
                None
            } else {
                let counts = store.days_of_cameras(std::slice::from_ref(&id), first_day).await?;
                Some(counts.into_values().next().unwrap_or_default())
            };
            Ok::<_, ChangeError>((camera, days))
        };
        AtomicResponse::new(Box::pin(changed.into_actor(self).map(|changed, act, _| {
            let (camera, days) = changed?;
            let id = camera.camera_id.clone();
            match days {
                None => {
                    if let Some(id) = act.apply(camera, &[]) {
                        act.publish(&id);
                    }
                }
                Some(days) => act.register(camera, days),
            }
            act.view(&id).ok_or(CameraError::Unknown)
        })))
    }
}
