//! The three simulated cameras: their names, and the visitors that each of them sees.

use std::time::Duration;

/// A simulated camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Camera {
    /// Sees people and packages, sometimes an animal.
    FrontDoor,
    /// Sees vehicles, sometimes a person.
    Driveway,
    /// Sees animals, sometimes a person.
    Garden,
}

impl Camera {
    /// All cameras.
    pub const ALL: [Self; 3] = [Self::FrontDoor, Self::Driveway, Self::Garden];

    /// Returns the camera's id in topics and in the API.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::FrontDoor => "front_door",
            Self::Driveway => "driveway",
            Self::Garden => "garden",
        }
    }

    /// Returns the camera's display name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrontDoor => "Front Door",
            Self::Driveway => "Driveway",
            Self::Garden => "Garden",
        }
    }

    /// Returns the visitors in the order of their appearance. After the last one, the sequence starts again.
    pub(super) const fn visitors(self) -> &'static [Visitor] {
        use Visitor::{Animal, Package, Person, Vehicle};
        match self {
            Self::FrontDoor => &[Person, Package, Person, Animal],
            Self::Driveway => &[Vehicle, Vehicle, Person],
            Self::Garden => &[Animal, Person, Animal],
        }
    }

    /// Returns when the first visitor appears. The times differ, so that the cameras take turns.
    pub(super) const fn first_visit(self) -> Duration {
        match self {
            Self::FrontDoor => Duration::from_secs(2),
            Self::Driveway => Duration::from_secs(6),
            Self::Garden => Duration::from_secs(10),
        }
    }
}

/// What a camera can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visitor {
    /// Tall, walks.
    Person,
    /// Wide and low, drives.
    Vehicle,
    /// Small, runs.
    Animal,
    /// Small, does not move.
    Package,
}
