//! The three cameras of the demo: their names, and who visits them.

use std::time::Duration;

/// A simulated camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Camera {
    /// The doorbell: persons and packages.
    FrontDoor,
    /// Vehicles, sometimes a person.
    Driveway,
    /// Animals, sometimes a person.
    Garden,
}

impl Camera {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FrontDoor, Self::Driveway, Self::Garden];

    /// The camera's id in topics and in the API.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::FrontDoor => "front_door",
            Self::Driveway => "driveway",
            Self::Garden => "garden",
        }
    }

    /// The camera's name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrontDoor => "Front Door",
            Self::Driveway => "Driveway",
            Self::Garden => "Garden",
        }
    }

    /// Who comes, one after the other, for ever.
    pub(super) const fn visitors(self) -> &'static [Visitor] {
        use Visitor::{Animal, Package, Person, Vehicle};
        match self {
            Self::FrontDoor => &[Person, Package, Person, Animal],
            Self::Driveway => &[Vehicle, Vehicle, Person],
            Self::Garden => &[Animal, Person, Animal],
        }
    }

    /// When the first one comes; so the three cameras take turns.
    pub(super) const fn first_visit(self) -> Duration {
        match self {
            Self::FrontDoor => Duration::from_secs(2),
            Self::Driveway => Duration::from_secs(6),
            Self::Garden => Duration::from_secs(10),
        }
    }
}

/// Who can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visitor {
    /// Tall, walks.
    Person,
    /// Wide and low, drives.
    Vehicle,
    /// Small, runs.
    Animal,
    /// Small, lies still.
    Package,
}
