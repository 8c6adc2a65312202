//! Classifies an object by its shape, size and movement.
//!
//! The nearest of four prototypes wins. An object that resembles none of them is still classified, with a low
//! confidence.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "picture sizes and ratios are small numbers, and rounding them does no harm"
)]

use super::blob::{Blob, CELL};

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// Taller than wide.
    Person,
    /// Large, wider than high.
    Vehicle,
    /// Small, moves.
    Animal,
    /// Small, does not move.
    Package,
}

impl Label {
    /// Returns the name in event payloads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Vehicle => "vehicle",
            Self::Animal => "animal",
            Self::Package => "package",
        }
    }
}

/// An object that came into view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The most likely kind.
    pub label: Label,
    /// Confidence, 0 to 100.
    pub confidence: u8,
    /// The rectangle around the object.
    pub bounds: Bounds,
    /// Approximate number of pixels that the object covers.
    pub area: u32,
}

/// A rectangle in the picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The left edge.
    pub x: u32,
    /// The upper edge.
    pub y: u32,
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
}

impl Detection {
    /// Classifies a blob; `from` is the blob when its size became steady.
    pub(super) fn of(blob: Blob, from: Blob, (width, height): (u32, u32)) -> Self {
        let bounds = Bounds {
            x: blob.left * CELL,
            y: blob.top * CELL,
            width: blob.width * CELL,
            height: blob.height * CELL,
        };
        let (label, confidence) = classify(&Features {
            aspect: blob.width as f32 / blob.height as f32,
            share: (bounds.width * bounds.height) as f32 / (width * height) as f32,
            fill: blob.cells as f32 / (blob.width * blob.height) as f32,
            moved: blob.left.abs_diff(from.left).max(blob.top.abs_diff(from.top)) > 1,
            complete: blob.complete,
        });
        Self { label, confidence, bounds, area: blob.cells as u32 * CELL * CELL }
    }
}

/// The properties that an object is classified by.
#[derive(Debug, Clone, Copy)]
struct Features {
    /// Width divided by height.
    aspect: f32,
    /// The share of the view that its rectangle covers, 0 to 1.
    share: f32,
    /// The share of its rectangle that the object fills, 0 to 1.
    fill: f32,
    /// Whether the object moved.
    moved: bool,
    /// Whether the whole object was in view.
    complete: bool,
}

/// A typical object of its kind, seen across a yard.
struct Prototype {
    label: Label,
    aspect: f32,
    share: f32,
    moves: bool,
}

const PROTOTYPES: [Prototype; 4] = [
    Prototype { label: Label::Person, aspect: 0.37, share: 0.045, moves: true },
    Prototype { label: Label::Vehicle, aspect: 2.1, share: 0.11, moves: true },
    Prototype { label: Label::Animal, aspect: 1.7, share: 0.013, moves: true },
    Prototype { label: Label::Package, aspect: 1.1, share: 0.008, moves: false },
];

/// How much aspect ratio and share vary within a kind, as logarithms, and the penalty for a movement that
/// does not match.
const ASPECT_SPREAD: f32 = 0.45;
const SHARE_SPREAD: f32 = 0.7;
const MOVEMENT_WEIGHT: f32 = 4.0;
/// An object that fills less of its rectangle than this is probably a few scattered cells.
const SOLID: f32 = 0.45;

/// Returns the most likely kind and the confidence, 1 to 99.
fn classify(seen: &Features) -> (Label, u8) {
    let mut distances = PROTOTYPES.map(|kind| (kind.distance(seen), kind.label));
    distances.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [(best, label), others @ ..] = distances;
    let rivals: f32 = others.iter().map(|(distance, _)| likeness(*distance)).sum();
    let alone = likeness(best) / (likeness(best) + rivals).max(f32::MIN_POSITIVE);
    let alike = 0.4 + 0.6 * (-best / 12.0).exp();
    let whole = if seen.complete { 1.0 } else { 0.7 };
    let solid = (seen.fill / SOLID).min(1.0);
    let confidence = (100.0 * alone * alike * whole * solid).round().clamp(1.0, 99.0);
    (label, confidence as u8)
}

fn likeness(distance: f32) -> f32 {
    (-distance / 2.0).exp()
}

impl Prototype {
    fn distance(&self, seen: &Features) -> f32 {
        let aspect = (seen.aspect / self.aspect).ln() / ASPECT_SPREAD;
        let share = (seen.share / self.share).ln() / SHARE_SPREAD;
        let movement = if seen.moved == self.moves { 0.0 } else { MOVEMENT_WEIGHT };
        aspect * aspect + share * share + movement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAR: Features = Features { aspect: 2.2, share: 0.1, fill: 0.9, moved: true, complete: true };

    #[test]
    fn each_prototype_is_classified_as_its_own_kind_with_high_confidence() {
        for kind in &PROTOTYPES {
            let Prototype { aspect, share, moves: moved, label } = *kind;
            let typical = Features { aspect, share, moved, ..CAR };
            let (found, confidence) = classify(&typical);
            assert_eq!(found, label);
            assert!(confidence >= 85, "{found:?} {confidence}");
        }
    }

    #[test]
    fn a_partly_visible_or_scattered_object_has_less_confidence() {
        let (_, whole) = classify(&CAR);
        let (_, cut) = classify(&Features { complete: false, ..CAR });
        let (_, scattered) = classify(&Features { fill: 0.2, ..CAR });
        assert!(cut < whole && scattered < whole, "{whole} {cut} {scattered}");
    }

    #[test]
    fn an_object_unlike_all_prototypes_has_low_confidence() {
        let (_, confidence) = classify(&Features { aspect: 0.05, share: 0.4, ..CAR });
        assert!(confidence < 60, "{confidence}");
    }

    #[test]
    fn a_small_object_at_rest_is_a_package_and_a_moving_one_an_animal() {
        let small = Features { aspect: 1.3, share: 0.01, fill: 0.8, moved: false, complete: true };
        assert_eq!(classify(&small).0, Label::Package);
        assert_eq!(classify(&Features { moved: true, ..small }).0, Label::Animal);
    }
}
