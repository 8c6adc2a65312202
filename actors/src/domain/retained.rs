//! Retained messages: the topics that the broker should retain, their content, and the groups they belong to.

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::ids::Seq;

/// The purpose of a retained message. Discovery is published before the states that it describes, and cleared
/// before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Describes devices and entities to Home Assistant.
    Discovery,
    /// Carries the current state of an entity.
    State,
}

impl Kind {
    /// Returns the kind's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::State => "state",
        }
    }

    /// Returns the kind with this name; an unknown name means a state.
    pub fn named(name: &str) -> Self {
        if name == "discovery" { Self::Discovery } else { Self::State }
    }
}

/// The content that a topic should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A fixed payload.
    Bytes(Bytes),
    /// The picture of an event, read when it is sent.
    Thumbnail {
        /// The event's position in the event log.
        seq: Seq,
        /// Distinguishes pictures of the same event: it changes when the event gets another picture.
        version: u64,
    },
    /// Published by another part of the service (availability, retained events). The `RetainedActor` never
    /// publishes it and only clears the topic when it is no longer wanted.
    External {
        /// Whether the message remains on a broker that is replaced by another one. This is true for the
        /// availability, which is then `offline`.
        kept_on_leave: bool,
    },
}

/// A topic and the content that it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The topic.
    pub topic: String,
    /// Its content.
    pub content: Content,
}

/// A topic where the same entities may have been announced before, for example in the other discovery format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousTopic {
    /// The topic.
    pub topic: String,
    /// Whether the entity migrates to its new topic and so keeps its history and settings in Home Assistant.
    /// Otherwise the topic is only cleared.
    pub migrates: bool,
    /// Whether the topic may contain a message of another program that this service replaces.
    pub foreign: bool,
}

/// All retained messages of one thing: a camera's state, or a device's discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The purpose of the messages.
    pub kind: Kind,
    /// The group's name, unique within its kind. Messages of one group share a rate limit.
    pub name: Arc<str>,
    /// All topics that should have a retained message. Every other topic of the group is cleared.
    pub wanted: Vec<Wanted>,
    /// Topics where the group may have been announced before.
    pub previous: Vec<PreviousTopic>,
}

/// An actor that decides which messages should be retained. Topics without a known owner are cleared only
/// after every owner has reported its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The `CameraActor`.
    Cameras,
    /// The `DiscoveryActor`.
    Discovery,
}

/// The number of [`Owner`]s.
pub const OWNERS: usize = 2;
