//! Finds moving things in the pictures of one still camera, and says what they are by their shape.
//!
//! Keeps a running average of the empty view, takes the difference, joins what differs into blobs, and reports the
//! largest one once: when it has come in completely and its size has been steady for a few pictures. It reports
//! nothing more until the view has been quiet again.
//!
//! Slow or sudden changes of the light, and noise, are no motion. It follows one thing at a time, expects an empty
//! view in the first picture, and takes what stays for a minute or so into the background. It reads no clock: all its
//! patience is counted in pictures (about ten a second are expected).

use image::GrayImage;

use super::blob::{Blob, CELL, Grid};
pub use super::shape::{Detection, Label};

/// If more than this share of the view changes, in percent, it is the view itself: the camera was turned, a lamp lit.
const WHOLE_VIEW: usize = 50;
/// So many pictures in a row must show the same size.
const STEADY: u32 = 4;
/// After so many pictures at the edge it is reported as it is.
const PATIENCE: u32 = 60;
/// So many pictures without motion make the view quiet again.
const QUIET: u32 = 5;
/// How fast the background follows, as a part per picture: where all is quiet, and where something is.
const FOLLOW: f32 = 1.0 / 16.0;
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
    /// Something is there, not yet reported: how long, how long of the same size, where it was when that began.
    Entering { pictures: u32, steady: u32, last: Blob, from: Blob },
    /// Reported; how long nothing has moved since.
    Reported { quiet: u32 },
}

impl Detector {
    /// A detector that takes the first picture for its background.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next picture. Answers when something new has come into view, once for each time.
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
                // A grey picture has one byte for each pixel, row by row, as has the background.
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
    /// What follows, given what is seen; and if it is time to report: the blob, and where it was a moment ago.
    fn next(self, seen: Option<Blob>) -> (Self, Option<(Blob, Blob)>) {
        match (self, seen) {
            (Self::Quiet | Self::Entering { .. }, None) => (Self::Quiet, None),
            (Self::Quiet, Some(blob)) => {
                (Self::Entering { pictures: 1, steady: 0, last: blob, from: blob }, None)
            }
            (Self::Entering { pictures, steady, last, from }, Some(blob)) => {
                let (steady, from) =
                    if blob.complete && blob.has_the_size_of(last) { (steady + 1, from) } else { (0, blob) };
                if steady >= STEADY || pictures >= PATIENCE {
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

    /// A plain picture with one dark rectangle.
    fn picture(light: u8, rectangle: Option<(u32, u32, u32, u32)>) -> GrayImage {
        GrayImage::from_fn(WIDTH, HEIGHT, |x, y| {
            let inside = rectangle.is_some_and(|(left, top, width, height)| {
                (left..left + width).contains(&x) && (top..top + height).contains(&y)
            });
            Luma([if inside { 40 } else { light }])
        })
    }

    /// Shows a rectangle that moves to the right by `speed` pixels a picture, after an empty view.
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
    fn a_tall_moving_thing_is_a_person() {
        let reports = crossing((40, 60, 26, 80), 6);
        assert_eq!(labels(&reports), [Label::Person]);
    }

    #[test]
    fn a_wide_large_moving_thing_is_a_vehicle() {
        let reports = crossing((40, 90, 110, 50), 6);
        assert_eq!(labels(&reports), [Label::Vehicle]);
    }

    #[test]
    fn a_small_moving_thing_is_an_animal() {
        let reports = crossing((40, 140, 36, 18), 6);
        assert_eq!(labels(&reports), [Label::Animal]);
    }

    #[test]
    fn a_small_still_thing_is_a_package() {
        let reports = crossing((150, 146, 22, 18), 0);
        assert_eq!(labels(&reports), [Label::Package]);
    }

    #[test]
    fn the_bounds_are_where_the_thing_is() {
        let reports = crossing((152, 144, 20, 16), 0);
        let Bounds { x, y, width, height } = reports[0].bounds;
        assert_eq!((x, y, width, height), (152, 144, 20, 16));
        assert_eq!(reports[0].area, 20 * 16);
    }

    #[test]
    fn a_lamp_that_is_switched_on_is_no_motion() {
        let mut detector = Detector::new();
        for light in [100, 100, 180, 180, 180, 100, 100] {
            assert_eq!(detector.observe(&picture(light, None)), None);
        }
    }

    #[test]
    fn a_speck_is_no_motion() {
        assert_eq!(crossing((100, 100, 6, 6), 3), []);
    }

    #[test]
    fn what_stays_at_the_edge_is_reported_after_a_while_with_less_confidence() {
        let mut detector = Detector::new();
        detector.observe(&picture(140, None));
        let reports: Vec<_> =
            (0..100).filter_map(|_| detector.observe(&picture(140, Some((0, 90, 110, 50))))).collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].confidence < 70, "{reports:?}");
    }

    #[test]
    fn the_next_one_is_reported_after_the_view_was_quiet() {
        let mut detector = Detector::new();
        let person = picture(140, Some((100, 60, 26, 80)));
        let empty = picture(140, None);
        let mut reports = 0;
        let shown = [(&empty, 1), (&person, 10), (&empty, 2), (&person, 10), (&empty, 10), (&person, 10)];
        for (shown, times) in shown {
            reports += (0..times).filter(|_| detector.observe(shown).is_some()).count();
        }
        assert_eq!(reports, 2, "a gap of two pictures is no end");
    }

    #[test]
    fn pictures_of_another_size_start_anew() {
        let mut detector = Detector::new();
        assert_eq!(detector.observe(&picture(140, None)), None);
        assert_eq!(detector.observe(&GrayImage::from_pixel(64, 48, Luma([0]))), None);
        assert_eq!(detector.observe(&GrayImage::new(0, 0)), None);
        assert_eq!(detector.observe(&GrayImage::new(0, 0)), None);
    }
}
