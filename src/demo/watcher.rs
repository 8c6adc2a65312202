//! One simulated camera with its classifier: a scene, and the motion detector that looks at it.
//!
//! Pure: given the time, it says what it has noticed. It makes no events and publishes nothing.

use std::time::Duration;

use image::GrayImage;

use super::camera::Camera;
use super::motion::{Detection, Detector, Label};
use super::scene::Scene;

/// Watches one camera.
#[derive(Debug)]
pub struct Watcher {
    scene: Scene,
    detector: Detector,
}

impl Watcher {
    /// Watches `camera`; the seed varies what can be seen.
    #[must_use]
    pub fn new(camera: Camera, seed: u32) -> Self {
        Self { scene: Scene::new(camera, seed), detector: Detector::new() }
    }

    /// Looks at the picture of the time `t` after the start. To be called with growing times, five to ten times a
    /// second; answers once for each visitor.
    pub fn look(&mut self, t: Duration) -> Option<(Detection, GrayImage)> {
        let picture = self.scene.frame(t);
        self.detector.observe(&picture).map(|detection| (detection, picture))
    }
}

/// A sentence about it for people, such as "Person at the front door".
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

    /// The slowest pace that is promised to do.
    const STEP: Duration = Duration::from_millis(200);

    const fn label_of(visitor: Visitor) -> Label {
        match visitor {
            Visitor::Person => Label::Person,
            Visitor::Vehicle => Label::Vehicle,
            Visitor::Animal => Label::Animal,
            Visitor::Package => Label::Package,
        }
    }

    /// Everything noticed in so many looks, with the visitor that was in view and the number of its visit.
    fn watch(camera: Camera, looks: u32) -> Vec<(Detection, Option<(Visitor, u32)>)> {
        let mut watcher = Watcher::new(camera, 3);
        (0..looks)
            .filter_map(|n| {
                let (detection, _) = watcher.look(STEP * n)?;
                Some((detection, watcher.scene.visit(STEP * n)))
            })
            .collect()
    }

    #[test]
    fn noise_and_drift_are_no_motion() {
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
    fn a_person_crossing_is_reported_once() {
        let noticed = watch(Camera::FrontDoor, 60);
        assert_eq!(noticed.len(), 1, "{noticed:?}");
        assert_eq!(noticed[0].0.label, Label::Person);
    }

    #[test]
    fn every_visit_is_reported_once_and_named_rightly() {
        for (camera, visits) in [(Camera::FrontDoor, 4), (Camera::Driveway, 4), (Camera::Garden, 3)] {
            let noticed = watch(camera, 230);
            for (expected, (detection, visit)) in (0..).zip(&noticed) {
                let (visitor, number) = visit.expect("somebody is in view");
                assert_eq!(number, expected, "{camera:?}");
                assert_eq!(detection.label, label_of(visitor), "{camera:?} {detection:?}");
                assert!(detection.confidence >= 50, "{camera:?} {detection:?}");
            }
            assert_eq!(noticed.len(), visits, "{camera:?}");
        }
    }

    #[test]
    fn a_description_says_what_and_where() {
        assert_eq!(describe(Camera::Driveway, Label::Vehicle), "Vehicle on the driveway");
    }
}
