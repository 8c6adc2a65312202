//! A simulated camera with its motion detector.
//!
//! Given the time, it returns what it has detected. It creates no events and publishes nothing.

use std::time::Duration;

use image::GrayImage;

use super::camera::Camera;
use super::motion::{Detection, Detector, Label};
use super::scene::Scene;

/// The scene in front of one camera, and the detector that watches it.
#[derive(Debug)]
pub struct Watcher {
    scene: Scene,
    detector: Detector,
}

impl Watcher {
    /// Returns a watcher for `camera`; the seed varies the scene.
    #[must_use]
    pub fn new(camera: Camera, seed: u32) -> Self {
        Self { scene: Scene::new(camera, seed), detector: Detector::new() }
    }

    /// Processes the picture at `t` after the start. Must be called with increasing times, five to ten times
    /// per second. Returns a detection and its picture once for each visitor.
    pub fn look(&mut self, t: Duration) -> Option<(Detection, GrayImage)> {
        let picture = self.scene.frame(t);
        self.detector.observe(&picture).map(|detection| (detection, picture))
    }
}

/// Returns a description such as "Person at the front door".
#[must_use]
pub fn describe(camera: Camera, label: Label) -> String {
    let what = match label {
        Label::Person => "Person",
        Label::Vehicle => "Vehicle",
        Label::Animal => "Animal",
        Label::Package => "Package",
    };
    let place = match camera {
        Camera::FrontDoor => "at the front door",
        Camera::Driveway => "on the driveway",
        Camera::Garden => "in the garden",
    };
    format!("{what} {place}")
}

#[cfg(test)]
mod tests {
    use super::super::camera::Visitor;
    use super::*;

    /// The largest step with which the detector must work.
    const STEP: Duration = Duration::from_millis(200);

    const fn label_of(visitor: Visitor) -> Label {
        match visitor {
            Visitor::Person => Label::Person,
            Visitor::Vehicle => Label::Vehicle,
            Visitor::Animal => Label::Animal,
            Visitor::Package => Label::Package,
        }
    }

    /// Returns all detections in this many pictures, each with the visitor in view and the number of the
    /// visit.
    fn watch(camera: Camera, pictures: u32) -> Vec<(Detection, Option<(Visitor, u32)>)> {
        let mut watcher = Watcher::new(camera, 3);
        (0..pictures)
            .filter_map(|n| {
                let (detection, _) = watcher.look(STEP * n)?;
                Some((detection, watcher.scene.visit(STEP * n)))
            })
            .collect()
    }

    #[test]
    fn noise_and_drift_are_not_motion() {
        for camera in Camera::ALL {
            let mut watcher = Watcher::new(camera, 3);
            let quiet = |scene: &Scene, t| scene.visit(t).is_none() && scene.visit(t + STEP * 3).is_none();
            for t in (0..240).map(|n| STEP * n) {
                if quiet(&watcher.scene, t) {
                    assert!(watcher.look(t).is_none(), "{camera:?} at {t:?}");
                }
            }
        }
    }

    #[test]
    fn a_person_who_crosses_the_view_is_reported_once() {
        let detections = watch(Camera::FrontDoor, 60);
        assert_eq!(detections.len(), 1, "{detections:?}");
        assert_eq!(detections[0].0.label, Label::Person);
    }

    #[test]
    fn every_visit_is_reported_once_and_classified_correctly() {
        for (camera, visits) in [(Camera::FrontDoor, 4), (Camera::Driveway, 4), (Camera::Garden, 3)] {
            let detections = watch(camera, 230);
            for (expected, (detection, visit)) in (0..).zip(&detections) {
                let (visitor, number) = visit.expect("somebody is in view");
                assert_eq!(number, expected, "{camera:?}");
                assert_eq!(detection.label, label_of(visitor), "{camera:?} {detection:?}");
                assert!(detection.confidence >= 50, "{camera:?} {detection:?}");
            }
            assert_eq!(detections.len(), visits, "{camera:?}");
        }
    }

    #[test]
    fn a_description_names_the_object_and_the_place() {
        assert_eq!(describe(Camera::Driveway, Label::Vehicle), "Vehicle on the driveway");
    }
}
