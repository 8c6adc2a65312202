//! What the table of cameras holds, as far as commits have met it: so that the next one need not ask.
//!
//! Only whoever holds the one connection that writes looks, learns or forgets here, and does so before its transaction ends:
//! what is known here is then what the table holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::{camera::Camera, ids::CameraId};

/// More are seldom active at a time; at some 1 KiB each.
const MOST: usize = 256;

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KnownCameras(Arc<Mutex<HashMap<CameraId, Camera>>>);

impl KnownCameras {
    /// All of these, or `None` when one of them is not known here.
    pub fn all<'a>(&self, ids: impl Iterator<Item = &'a CameraId>) -> Option<Vec<Camera>> {
        let known = self.lock();
        ids.map(|id| known.get(id).cloned()).collect()
    }

    /// The table holds, or is about to hold, these as they are.
    pub fn learn<'a>(&self, cameras: impl Iterator<Item = &'a Camera>) {
        let mut known = self.lock();
        for camera in cameras {
            if known.len() >= MOST && !known.contains_key(&camera.camera_id) {
                known.clear();
            }
            known.insert(camera.camera_id.clone(), camera.clone());
        }
    }

    /// The camera is about to change.
    pub fn forget(&self, id: &CameraId) {
        self.lock().remove(id);
    }

    /// What the table holds is not certain.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CameraId, Camera>> {
        // Whoever panicked had not changed a camera by half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    fn camera(number: usize) -> Camera {
        Camera::new(CameraId::parse(format!("c{number}")).unwrap(), clock::from_micros(0))
    }

    #[test]
    fn all_of_them_or_none() {
        let known = KnownCameras::default();
        let cameras: Vec<_> = (0..3).map(camera).collect();
        known.learn(cameras[..2].iter());
        let ask = |cameras: &[Camera]| known.all(cameras.iter().map(|camera| &camera.camera_id));
        assert_eq!(ask(&cameras[..2]).unwrap(), cameras[..2]);
        assert_eq!(ask(&cameras), None);
        known.forget(&cameras[0].camera_id);
        assert_eq!(ask(&cameras[..2]), None);
        assert_eq!(ask(&cameras[1..2]).unwrap(), cameras[1..2]);
        known.forget_all();
        assert_eq!(ask(&cameras[1..2]), None);
    }

    #[test]
    fn memory_is_bounded() {
        let known = KnownCameras::default();
        let cameras: Vec<_> = (0..MOST * 3).map(camera).collect();
        known.learn(cameras.iter());
        assert!(known.lock().len() <= MOST);
        known.learn(cameras[..2].iter());
        assert_eq!(known.all([&cameras[1].camera_id].into_iter()).unwrap(), cameras[1..2]);
    }
}
