//! Says what a moving thing is by its shape, size and movement alone.
//!
//! A table of prototypes and a distance; the nearest one wins. It knows four kinds and always names one of them: what
//! is like none gets a low confidence.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "sizes and shares of a picture: small numbers, of which a rounded one is good enough"
)]

use super::blob::{Blob, CELL};

/// What a moving thing may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// Taller than wide.
    Person,
    /// Large, wider than high.
    Vehicle,
    /// Small, moves.
    Animal,
    /// Small, lies still.
    Package,
}

impl Label {
    /// The name in event payloads.
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

/// Something that came into view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// What it most likely is.
    pub label: Label,
    /// How sure that is, 0 to 100.
    pub confidence: u8,
    /// Where it is.
    pub bounds: Bounds,
    /// How many pixels of the picture it covers, roughly.
    pub area: u32,
}

/// A rectangle in the picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The left edge.
    pub x: u32,
    /// The upper edge.
    pub y: u32,
    /// How wide.
    pub width: u32,
    /// How high.
    pub height: u32,
}

impl Detection {
    /// What a blob is, given where it was when it became steady.
    pub(super) fn of(blob: Blob, from: Blob, (width, height): (u32, u32)) -> Self {
        let bounds = Bounds {
            x: blob.left * CELL,
            y: blob.top * CELL,
            width: blob.width * CELL,
            height: blob.height * CELL,
        };
        let (label, confidence) = classify(&Sighting {
            aspect: blob.width as f32 / blob.height as f32,
            share: (bounds.width * bounds.height) as f32 / (width * height) as f32,
            fill: blob.cells as f32 / (blob.width * blob.height) as f32,
            moved: blob.left.abs_diff(from.left).max(blob.top.abs_diff(from.top)) > 1,
            complete: blob.complete,
        });
        Self { label, confidence, bounds, area: blob.cells as u32 * CELL * CELL }
    }
}

/// What was seen of it.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// Width by height.
    aspect: f32,
    /// The part of the view that its rectangle takes, 0 to 1.
    share: f32,
    /// The part of its rectangle that it fills, 0 to 1.
    fill: f32,
    /// Whether it moved while it was watched.
    moved: bool,
    /// Whether all of it was in view.
    complete: bool,
}

/// A typical one of its kind, in a view across a yard.
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

/// How much each property may vary within a kind (the first two as logarithms).
const ASPECT_SPREAD: f32 = 0.45;
const SHARE_SPREAD: f32 = 0.7;
const MOVEMENT_WEIGHT: f32 = 4.0;
/// What fills less of its rectangle than this is a scatter rather than a thing.
const SOLID: f32 = 0.45;

/// The most likely kind, and how sure that is, 1 to 99.
fn classify(seen: &Sighting) -> (Label, u8) {
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
    fn distance(&self, seen: &Sighting) -> f32 {
        let aspect = (seen.aspect / self.aspect).ln() / ASPECT_SPREAD;
        let share = (seen.share / self.share).ln() / SHARE_SPREAD;
        let movement = if seen.moved == self.moves { 0.0 } else { MOVEMENT_WEIGHT };
        aspect * aspect + share * share + movement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAR: Sighting = Sighting { aspect: 2.2, share: 0.1, fill: 0.9, moved: true, complete: true };

    #[test]
    fn each_prototype_is_its_own_kind_and_sure() {
        for kind in &PROTOTYPES {
            let Prototype { aspect, share, moves: moved, label } = *kind;
            let typical = Sighting { aspect, share, moved, ..CAR };
            let (found, confidence) = classify(&typical);
            assert_eq!(found, label);
            assert!(confidence >= 85, "{found:?} {confidence}");
        }
    }

    #[test]
    fn what_is_cut_off_or_scattered_is_less_sure() {
        let (_, whole) = classify(&CAR);
        let (_, cut) = classify(&Sighting { complete: false, ..CAR });
        let (_, scattered) = classify(&Sighting { fill: 0.2, ..CAR });
        assert!(cut < whole && scattered < whole, "{whole} {cut} {scattered}");
    }

    #[test]
    fn what_is_like_nothing_known_is_named_with_little_confidence() {
        let (_, confidence) = classify(&Sighting { aspect: 0.05, share: 0.4, ..CAR });
        assert!(confidence < 60, "{confidence}");
    }

    #[test]
    fn a_still_small_thing_is_a_package_and_a_running_one_an_animal() {
        let small = Sighting { aspect: 1.3, share: 0.01, fill: 0.8, moved: false, complete: true };
        assert_eq!(classify(&small).0, Label::Package);
        assert_eq!(classify(&Sighting { moved: true, ..small }).0, Label::Animal);
    }
}
