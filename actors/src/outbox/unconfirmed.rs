//! Commits that were written to a database file that was not in place any more. Their events were refused, and
//! their cameras were not reported. If the file is put back, they are part of the log after all.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::domain::{camera::CameraSighting, ids::CameraId};

/// The cameras of such commits. There are at most as many as are registered.
#[derive(Debug, Default)]
pub struct Unconfirmed(BTreeMap<CameraId, CameraSighting>);

impl Unconfirmed {
    /// Adds the cameras of a commit, as it changed them.
    pub fn extend(&mut self, seen: Option<Vec<CameraSighting>>) {
        for newer in seen.into_iter().flatten() {
            match self.0.entry(newer.camera.camera_id.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(newer);
                }
                Entry::Occupied(mut entry) => {
                    let CameraSighting { camera, days } = entry.get_mut();
                    *camera = newer.camera;
                    days.retain(|(day, _)| newer.days.iter().all(|(newer, _)| newer != day));
                    days.extend(newer.days);
                }
            }
        }
    }

    /// Takes the cameras, because the file is in place again.
    pub fn take(&mut self) -> Option<Vec<CameraSighting>> {
        (!self.0.is_empty()).then(|| std::mem::take(&mut self.0).into_values().collect())
    }
}
