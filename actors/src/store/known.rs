//! A cache of the cameras that recent commits used, so that the next commit need not query them.
//!
//! Only the owner of the writing connection reads or changes the cache, and does so before its transaction
//! ends. The cache is therefore consistent with the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::tracked::TrackedCamera;
use crate::domain::ids::CameraId;

/// The maximum number of cameras in the cache, of about 1 KiB each. Rarely are more cameras active at the
/// same time.
const MAX_CAMERAS: usize = 1024;

/// The cache of cameras, see the module documentation. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KnownCameras(Arc<Mutex<HashMap<CameraId, TrackedCamera>>>);

impl KnownCameras {
    /// Returns these cameras, or `None` if one of them is not in the cache.
    pub fn all<'a>(&self, ids: impl Iterator<Item = &'a CameraId>) -> Option<Vec<TrackedCamera>> {
        let known = self.lock();
        ids.map(|id| known.get(id).cloned()).collect()
    }

    /// Stores cameras as they are, or are about to be, in the database.
    pub fn learn<'a>(&self, cameras: impl Iterator<Item = &'a TrackedCamera>) {
        let mut known = self.lock();
        for tracked in cameras {
            let id = &tracked.camera.camera_id;
            if known.len() >= MAX_CAMERAS && !known.contains_key(id) {
                known.clear();
            }
            known.insert(id.clone(), tracked.clone());
        }
    }

    /// Removes a camera that is about to change.
    pub fn forget(&self, id: &CameraId) {
        self.lock().remove(id);
    }

    /// Removes all cameras, because the table's contents are uncertain.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CameraId, TrackedCamera>> {
        // A thread that panicked cannot have left a partly updated camera.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        camera::Camera,
        clock::{self, Moment},
    };

    fn camera(number: usize) -> TrackedCamera {
        let id = CameraId::parse(format!("c{number}")).unwrap();
        TrackedCamera::new(Camera::new(id, Moment::at(clock::from_micros(0))), None)
    }

    #[test]
    fn either_all_cameras_are_returned_or_none() {
        let known = KnownCameras::default();
        let cameras: Vec<_> = (0..3).map(camera).collect();
        known.learn(cameras[..2].iter());
        let get =
            |cameras: &[TrackedCamera]| known.all(cameras.iter().map(|tracked| &tracked.camera.camera_id));
        assert_eq!(get(&cameras[..2]).unwrap(), cameras[..2]);
        assert_eq!(get(&cameras), None);
        known.forget(&cameras[0].camera.camera_id);
        assert_eq!(get(&cameras[..2]), None);
        assert_eq!(get(&cameras[1..2]).unwrap(), cameras[1..2]);
        known.forget_all();
        assert_eq!(get(&cameras[1..2]), None);
    }

    #[test]
    fn the_size_is_bounded() {
        let known = KnownCameras::default();
        let cameras: Vec<_> = (0..MAX_CAMERAS * 3).map(camera).collect();
        known.learn(cameras.iter());
        assert!(known.lock().len() <= MAX_CAMERAS);
        known.learn(cameras[..2].iter());
        assert_eq!(known.all([&cameras[1].camera.camera_id].into_iter()).unwrap(), cameras[1..2]);
    }
}
