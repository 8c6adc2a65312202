//! A cache of the cameras that recent commits used, so that the next commit need not query them.
//!
//! Only the owner of the writing connection reads or changes the cache, and does so before its transaction
//! ends. The cache is therefore consistent with the table.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::{camera::Camera, ids::CameraId};

/// The maximum number of cameras in the cache, of about 1 KiB each. Rarely are more cameras active at the
/// same time.
const MAX_CAMERAS: usize = 256;

/// The cache of cameras, see the module documentation. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KnownCameras(Arc<Mutex<HashMap<CameraId, Camera>>>);

impl KnownCameras {
    /// Returns these cameras, or `None` if one of them is not in the cache.
    pub fn all<'a>(&self, ids: impl Iterator<Item = &'a CameraId>) -> Option<Vec<Camera>> {
        let known = self.lock();
        ids.map(|id| known.get(id).cloned()).collect()
    }

    /// Stores cameras as they are, or are about to be, in the table.
    pub fn learn<'a>(&self, cameras: impl Iterator<Item = &'a Camera>) {
        let mut known = self.lock();
        for camera in cameras {
            if known.len() >= MAX_CAMERAS && !known.contains_key(&camera.camera_id) {
                known.clear();
            }
            known.insert(camera.camera_id.clone(), camera.clone());
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

    fn lock(&self) -> MutexGuard<'_, HashMap<CameraId, Camera>> {
        // A thread that panicked cannot have left a partly updated camera.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{self, Moment};

    fn camera(number: usize) -> Camera {
        Camera::new(CameraId::parse(format!("c{number}")).unwrap(), Moment::at(clock::from_micros(0)))
    }

    #[test]
    fn either_all_cameras_are_returned_or_none() {
        let known = KnownCameras::default();
        let cameras: Vec<_> = (0..3).map(camera).collect();
        known.learn(cameras[..2].iter());
        let get = |cameras: &[Camera]| known.all(cameras.iter().map(|camera| &camera.camera_id));
        assert_eq!(get(&cameras[..2]).unwrap(), cameras[..2]);
        assert_eq!(get(&cameras), None);
        known.forget(&cameras[0].camera_id);
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
        assert_eq!(known.all([&cameras[1].camera_id].into_iter()).unwrap(), cameras[1..2]);
    }
}
