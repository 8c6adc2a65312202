//! Detects moving objects in the pictures of one fixed camera.
//!
//! The detector keeps a running average of the empty view, joins the pixels that differ into blobs, and
//! reports the largest blob once: when it is completely in view and its size has been steady for a few
//! pictures. It reports nothing more until the view has been quiet.
//!
//! Noise and changes in lighting, slow or sudden, are not motion. The detector follows one object at a time,
//! expects an empty view in the first picture, and treats an object that stays for about a minute as part of
//! the background. It has no clock: all times are counted in pictures, about ten per second.

use image::GrayImage;

use super::blob::{Blob, CELL, Grid};
pub use super::shape::{Detection, Label};

/// If more than this share of the view changes, in percent, the view itself changed: the camera was moved, or
/// a lamp was switched on.
const WHOLE_VIEW: usize = 50;
/// A blob is reported after this many pictures in a row with the same size.
const STEADY: u32 = 4;
/// A blob that stays at the edge is reported after this many pictures.
const MAX_PICTURES_AT_EDGE: u32 = 60;
/// The view is quiet after this many pictures without motion.
const QUIET: u32 = 5;
/// How fast the background follows the picture: the fraction of the difference that is added per picture.
const FOLLOW: f32 = 1.0 / 16.0;
/// The same for cells that an object hides.
const FOLLOW_HIDDEN: f32 = 1.0 / 512.0;

/// The motion detector of one camera.
#[derive(Debug, Default)]
pub struct Detector {
    size: (u32, u32),
    background: Vec<f32>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Quiet,
    /// An object is in view and not yet reported. `pictures` counts the pictures with it, `steady` those with
    /// the same size; `from` is the blob when the size became steady.
    Entering { pictures: u32, steady: u32, last: Blob, from: Blob },
    /// The object is reported. `quiet` counts the pictures without motion since.
    Reported { quiet: u32 },
}

impl Detector {
    /// Returns a detector that uses the first picture as its background.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Processes the next picture. Returns a detection once for each object that comes into view.
    pub fn observe(&mut self, picture: &GrayImage) -> Option<Detection> {
        if self.size != picture.dimensions() {
            self.restart(picture);
            return None;
        }
        let grid = Grid::changed(&self.background, picture);
        if grid.percent() > WHOLE_VIEW {
            self.restart(picture);
            return None;
        }
        self.follow(picture, &grid);
        let (phase, steady) = std::mem::take(&mut self.phase).next(grid.largest_blob());
        self.phase = phase;
        steady.map(|(blob, from)| Detection::of(blob, from, self.size))
    }

    fn restart(&mut self, picture: &GrayImage) {
        self.size = picture.dimensions();
        self.background = picture.pixels().map(|pixel| f32::from(pixel.0[0])).collect();
        self.phase = Phase::Quiet;
    }

    fn follow(&mut self, picture: &GrayImage, grid: &Grid) {
        let mut pixels = picture.as_raw().iter().zip(&mut self.background);
        for y in 0..picture.height() {
            for x in 0..picture.width() {
                // A gray picture has one byte per pixel, row by row, like the background.
                let Some((pixel, known)) = pixels.next() else {
                    return;
                };
                let speed = if grid.at(x / CELL, y / CELL) { FOLLOW_HIDDEN } else { FOLLOW };
                *known += (f32::from(*pixel) - *known) * speed;
            }
        }
    }
}

impl Phase {
    /// Returns the next phase, given the blob in view. When the blob must be reported, also returns the blob
    /// and the blob when its size became steady.
    fn next(self, seen: Option<Blob>) -> (Self, Option<(Blob, Blob)>) {
        match (self, seen) {
            (Self::Quiet | Self::Entering { .. }, None) => (Self::Quiet, None),
            (Self::Quiet, Some(blob)) => {
                (Self::Entering { pictures: 1, steady: 0, last: blob, from: blob }, None)
            }
            (Self::Entering { pictures, steady, last, from }, Some(blob)) => {
                let (steady, from) =
                    if blob.complete && blob.has_same_size_as(last) { (steady + 1, from) } else { (0, blob) };
                if steady >= STEADY || pictures >= MAX_PICTURES_AT_EDGE {
                    return (Self::Reported { quiet: 0 }, Some((blob, from)));
                }
                (Self::Entering { pictures: pictures + 1, steady, last: blob, from }, None)
            }
            (Self::Reported { .. }, Some(_)) => (Self::Reported { quiet: 0 }, None),
            (Self::Reported { quiet }, None) if quiet + 1 >= QUIET => (Self::Quiet, None),
            (Self::Reported { quiet }, None) => (Self::Reported { quiet: quiet + 1 }, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::super::{
        scene::{HEIGHT, WIDTH},
        shape::Bounds,
    };
    use super::*;

    /// Returns a uniform picture with one dark rectangle.
    fn picture(light: u8, rectangle: Option<(u32, u32, u32, u32)>) -> GrayImage {
        GrayImage::from_fn(WIDTH, HEIGHT, |x, y| {
            let inside = rectangle.is_some_and(|(left, top, width, height)| {
                (left..left + width).contains(&x) && (top..top + height).contains(&y)
            });
            Luma([if inside { 40 } else { light }])
        })
    }

    /// Shows the detector an empty view, and then a rectangle that moves to the right by `speed` pixels per
    /// picture.
    fn crossing((x, y, width, height): (u32, u32, u32, u32), speed: u32) -> Vec<Detection> {
        let mut detector = Detector::new();
        detector.observe(&picture(140, None));
        (0..20)
            .filter_map(|n| detector.observe(&picture(140, Some((x + n * speed, y, width, height)))))
            .collect()
    }

    fn labels(reports: &[Detection]) -> Vec<Label> {
        reports.iter().map(|report| report.label).collect()
    }

    #[test]
    fn a_tall_moving_object_is_a_person() {
        let reports = crossing((40, 60, 26, 80), 6);
        assert_eq!(labels(&reports), [Label::Person]);
    }

    #[test]
    fn a_large_wide_moving_object_is_a_vehicle() {
        let reports = crossing((40, 90, 110, 50), 6);
        assert_eq!(labels(&reports), [Label::Vehicle]);
    }

    #[test]
    fn a_small_moving_object_is_an_animal() {
        let reports = crossing((40, 140, 36, 18), 6);
        assert_eq!(labels(&reports), [Label::Animal]);
    }

    #[test]
    fn a_small_object_at_rest_is_a_package() {
        let reports = crossing((150, 146, 22, 18), 0);
        assert_eq!(labels(&reports), [Label::Package]);
    }

    #[test]
    fn the_bounds_are_those_of_the_object() {
        let reports = crossing((152, 144, 20, 16), 0);
        let Bounds { x, y, width, height } = reports[0].bounds;
        assert_eq!((x, y, width, height), (152, 144, 20, 16));
        assert_eq!(reports[0].area, 20 * 16);
    }

    #[test]
    fn a_lamp_that_is_switched_on_is_not_motion() {
        let mut detector = Detector::new();
        for light in [100, 100, 180, 180, 180, 100, 100] {
            assert_eq!(detector.observe(&picture(light, None)), None);
        }
    }

    #[test]
    fn a_speck_is_not_motion() {
        assert_eq!(crossing((100, 100, 6, 6), 3), []);
    }

    #[test]
    fn an_object_that_stays_at_the_edge_is_reported_later_and_with_less_confidence() {
        let mut detector = Detector::new();
        detector.observe(&picture(140, None));
        let reports: Vec<_> =
            (0..100).filter_map(|_| detector.observe(&picture(140, Some((0, 90, 110, 50))))).collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].confidence < 70, "{reports:?}");
    }

    #[test]
    fn the_next_object_is_reported_only_after_the_view_was_quiet() {
        let mut detector = Detector::new();
        let person = picture(140, Some((100, 60, 26, 80)));
        let empty = picture(140, None);
        let mut reports = 0;
        let shown = [(&empty, 1), (&person, 10), (&empty, 2), (&person, 10), (&empty, 10), (&person, 10)];
        for (shown, times) in shown {
            reports += (0..times).filter(|_| detector.observe(shown).is_some()).count();
        }
        assert_eq!(reports, 2, "a gap of two pictures does not make the view quiet");
    }

    #[test]
    fn a_picture_of_another_size_restarts_the_detector() {
        let mut detector = Detector::new();
        assert_eq!(detector.observe(&picture(140, None)), None);
        assert_eq!(detector.observe(&GrayImage::from_pixel(64, 48, Luma([0]))), None);
        assert_eq!(detector.observe(&GrayImage::new(0, 0)), None);
        assert_eq!(detector.observe(&GrayImage::new(0, 0)), None);
    }
}
