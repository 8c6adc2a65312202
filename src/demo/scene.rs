//! Draws what the simulated cameras see, as gray pictures.
//!
//! The result is deterministic: the same camera at the same time gives the same picture. A picture has a
//! textured background, slowly drifting light, a little noise in each pixel, and from time to time a visitor:
//! a person, a vehicle, an animal, or a package that is put down and taken away after a while.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "picture sizes and ratios are small numbers, and rounding them does no harm"
)]

use std::time::Duration;

use image::{GrayImage, Luma};

use super::camera::{Camera, Visitor};

/// Width of a picture in pixels.
pub const WIDTH: u32 = 320;
/// Height of a picture in pixels.
pub const HEIGHT: u32 = 180;

/// Time from the start of one visit to the next.
const PERIOD: Duration = Duration::from_secs(12);
/// How long a visitor takes to cross the picture, or how long a package stays.
const STAY: Duration = Duration::from_secs(5);
/// Amplitude of the noise in the brightness of each pixel.
const NOISE: i32 = 4;
/// Amplitude of the drift of the lighting.
const DRIFT: f32 = 12.0;
/// Period of the drift in seconds.
const DRIFT_PERIOD: f32 = 45.0;

/// One camera's view.
#[derive(Debug, Clone)]
pub struct Scene {
    camera: Camera,
    seed: u32,
    background: GrayImage,
}

impl Scene {
    /// Returns the view of `camera`. The seed determines texture, noise and the paths of the visitors, but
    /// not when they appear.
    #[must_use]
    pub fn new(camera: Camera, seed: u32) -> Self {
        let seed = hash(seed, camera as u32, 0);
        let background = GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([background(camera, seed, x, y)]));
        Self { camera, seed, background }
    }

    /// Returns the visitor in the picture at `t` and the number of the visit, counted from 0. For tests.
    #[cfg(test)]
    #[must_use]
    pub fn visit(&self, t: Duration) -> Option<(Visitor, u32)> {
        let (visitor, number, _) = self.visit_at(t)?;
        Some((visitor, number))
    }

    /// Draws the picture at `t` after the start.
    #[must_use]
    pub fn frame(&self, t: Duration) -> GrayImage {
        let mut picture = self.background.clone();
        if let Some((visitor, number, progress)) = self.visit_at(t) {
            draw(&mut picture, visitor, hash(self.seed, number, 1), progress);
        }
        let light = (t.as_secs_f32() / DRIFT_PERIOD * std::f32::consts::TAU).sin() * DRIFT;
        let moment = hash(self.seed, t.subsec_millis(), u32::try_from(t.as_secs()).unwrap_or(u32::MAX));
        for (n, pixel) in (0..).zip(picture.pixels_mut()) {
            let noise = (hash(moment, n, 2) % (2 * NOISE as u32 + 1)) as i32 - NOISE;
            pixel.0[0] = (i32::from(pixel.0[0]) + light as i32 + noise).clamp(0, 255) as u8;
        }
        picture
    }

    /// Returns the visitor, the number of the visit, and its progress from 0 to 1.
    fn visit_at(&self, t: Duration) -> Option<(Visitor, u32, f32)> {
        let since_first = t.checked_sub(self.camera.first_visit())?.as_secs_f32();
        let number = (since_first / PERIOD.as_secs_f32()).floor();
        let progress = (since_first - number * PERIOD.as_secs_f32()) / STAY.as_secs_f32();
        let visitors = self.camera.visitors();
        let number = number as u32;
        (progress < 1.0).then(|| (visitors[number as usize % visitors.len()], number, progress))
    }
}

/// Mixes three numbers into a pseudo-random one.
const fn hash(a: u32, b: u32, c: u32) -> u32 {
    let mut h = a ^ b.wrapping_mul(0x9e37_79b1) ^ c.wrapping_mul(0x85eb_ca77);
    h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
    h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}

/// Returns the brightness of a pixel of the empty view: 90 to 190, so that dark and bright visitors are both
/// visible.
fn background(camera: Camera, seed: u32, x: u32, y: u32) -> u8 {
    let grain = |size: u32, depth: u32| hash(seed, x / size, y / size) % depth;
    let base = match camera {
        // A brick wall with a door, and a step in front of it.
        Camera::FrontDoor => match (x, y) {
            (200..=260, 40..=139) => 96,
            (_, 140..) => 120,
            _ if y.is_multiple_of(12) || (x + (y / 12 % 2) * 12).is_multiple_of(24) => 112,
            _ => 140,
        },
        // The sky, a hedge and the paved driveway.
        Camera::Driveway => match y {
            0..=59 => 165 - y / 3,
            60..=89 => 95 + grain(5, 14),
            _ if (y - 90).is_multiple_of(30) => 108,
            _ => 128,
        },
        // A fence and the lawn.
        Camera::Garden => match y {
            0..=79 if x % 20 < 3 => 100,
            0..=79 => 150,
            _ => 115 + grain(7, 10),
        },
    };
    (base + grain(3, 8) + grain(1, 4)) as u8
}

/// Draws a visitor; `progress` runs from 0 to 1 during the visit.
fn draw(picture: &mut GrayImage, visitor: Visitor, variant: u32, progress: f32) {
    let brush = if variant & 1 == 0 { 32 } else { 46 };
    let leftwards = variant & 2 != 0;
    let depth = (variant >> 2) % 13;
    let cross = |width: f32| {
        let x = progress * (WIDTH as f32 + 2.0 * width) - width;
        if leftwards { WIDTH as f32 - x } else { x }
    };
    let stride = (progress * 60.0).sin();
    let mut pen = Pen { picture, brush, leftwards };
    match visitor {
        Visitor::Person => {
            let (x, y) = (cross(30.0), 66.0 + depth as f32);
            pen.ellipse(x, y + 8.0, 7.0, 8.0);
            pen.block(x - 11.0, y + 17.0, 22.0, 34.0);
            pen.block(x - 7.0 - stride * 3.0, y + 51.0, 7.0, 30.0);
            pen.block(x + stride * 3.0, y + 51.0, 7.0, 30.0);
        }
        Visitor::Vehicle => {
            let (x, y) = (cross(70.0), 96.0 + depth as f32);
            pen.block(x - 56.0, y + 18.0, 112.0, 24.0);
            pen.block(x - 34.0, y, 62.0, 18.0);
            pen.ellipse(x - 34.0, y + 42.0, 9.0, 9.0);
            pen.ellipse(x + 34.0, y + 42.0, 9.0, 9.0);
        }
        Visitor::Animal => {
            let (x, y) = (cross(30.0), 132.0 + depth as f32);
            pen.ellipse(x, y + 8.0, 15.0, 6.0);
            pen.ellipse(pen.ahead(x, 15.0), y + 3.0, 5.0, 5.0);
            for leg in [-10.0, -5.0, 6.0, 11.0] {
                pen.block(x + leg - 1.5 + stride, y + 11.0, 3.0, 8.0);
            }
        }
        Visitor::Package => {
            let x = 150.0 + depth as f32 * 2.0;
            pen.block(x, 146.0, 22.0, 18.0);
            pen.brush = 205;
            pen.block(x + 9.0, 146.0, 3.0, 18.0);
        }
    }
}

/// Fills shapes with one brightness, clipped at the edges of the picture.
struct Pen<'a> {
    picture: &'a mut GrayImage,
    brush: u8,
    leftwards: bool,
}

impl Pen<'_> {
    fn block(&mut self, x: f32, y: f32, width: f32, height: f32) {
        self.fill(x, y, width, height, |_, _| true);
    }

    fn ellipse(&mut self, x: f32, y: f32, rx: f32, ry: f32) {
        self.fill(x - rx, y - ry, 2.0 * rx, 2.0 * ry, |px, py| {
            ((px - x) / rx).powi(2) + ((py - y) / ry).powi(2) <= 1.0
        });
    }

    /// Returns the coordinate `by` pixels ahead of `x` in the direction of movement.
    fn ahead(&self, x: f32, by: f32) -> f32 {
        if self.leftwards { x - by } else { x + by }
    }

    fn fill(&mut self, x: f32, y: f32, width: f32, height: f32, inside: impl Fn(f32, f32) -> bool) {
        // Casting a negative number to u32 gives 0, the edge of the picture.
        let columns = x as u32..((x + width) as u32).min(WIDTH);
        for py in y as u32..((y + height) as u32).min(HEIGHT) {
            for px in columns.clone() {
                if inside(px as f32 + 0.5, py as f32 + 0.5) {
                    self.picture.put_pixel(px, py, Luma([self.brush]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest_difference(a: &GrayImage, b: &GrayImage) -> u8 {
        a.pixels().zip(b.pixels()).map(|(a, b)| a.0[0].abs_diff(b.0[0])).max().unwrap()
    }

    #[test]
    fn the_same_camera_time_and_seed_give_the_same_picture() {
        for camera in Camera::ALL {
            let t = Duration::from_millis(7_300);
            assert_eq!(Scene::new(camera, 1).frame(t), Scene::new(camera, 1).frame(t));
            assert_ne!(Scene::new(camera, 1).frame(t), Scene::new(camera, 2).frame(t));
        }
    }

    #[test]
    fn without_a_visitor_only_light_and_noise_change() {
        let scene = Scene::new(Camera::Driveway, 7);
        let (a, b) = (Duration::from_millis(100), Duration::from_millis(200));
        assert_eq!((scene.visit(a), scene.visit(b)), (None, None));
        let difference = largest_difference(&scene.frame(a), &scene.frame(b));
        assert!((1..=2 * NOISE as u8 + 2).contains(&difference), "{difference}");
    }

    #[test]
    fn every_visitor_appears_and_leaves_again() {
        for camera in Camera::ALL {
            let scene = Scene::new(camera, 7);
            let seen: Vec<_> = (0..600).map(|s| scene.visit(Duration::from_secs(s))).collect();
            assert!(seen.contains(&None));
            for visitor in camera.visitors() {
                assert!(seen.iter().flatten().any(|(seen, _)| seen == visitor), "{visitor:?}");
            }
        }
    }

    #[test]
    fn every_background_contrasts_with_dark_and_bright_visitors() {
        for camera in Camera::ALL {
            let background = Scene::new(camera, 7).background;
            let darkest = background.pixels().map(|p| p.0[0]).min().unwrap();
            let brightest = background.pixels().map(|p| p.0[0]).max().unwrap();
            assert!(darkest >= 90 && brightest <= 190, "{camera:?}: {darkest} to {brightest}");
        }
    }
}
