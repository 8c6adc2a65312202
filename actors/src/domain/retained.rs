//! What must be retained at the broker: topics, their content, and the groups that they belong to.

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::ids::Seq;

/// What a retained message is for. Discovery goes before the states that it tells of, and is cleared before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Tells Home Assistant what there is.
    Discovery,
    /// Tells how it stands.
    State,
}

impl Kind {
    /// The kind's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::State => "state",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Self {
        if name == "discovery" { Self::Discovery } else { Self::State }
    }
}

/// What is to stand on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Bytes),
    /// The picture of the event at this place. `version` is another one when the event got another picture.
    Thumbnail {
        /// The place.
        seq: Seq,
        /// Tells two pictures of one event apart.
        version: u64,
    },
    /// Something that others publish (the availability, retained events): it is only seen to that it is cleared when the
    /// topic is not wanted any more.
    External {
        /// Whether it is left standing at a broker that is left for another one: it tells that nobody is there any more.
        stays: bool,
    },
}

/// One topic, and what is to stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The topic.
    pub topic: String,
    /// What is to stand there.
    pub content: Content,
}

/// A topic under which the same entities may have been announced before, in another form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousTopic {
    /// The topic.
    pub topic: String,
    /// Whether Home Assistant is told first that its entity moves, so that it keeps it; otherwise it is just cleared.
    pub migrates: bool,
    /// Whether something may stand there though we have never published it: another program's that we replace.
    pub foreign: bool,
}

/// Everything that is to stand for one thing: a camera's state, or a device's discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What it is for.
    pub kind: Kind,
    /// Its name, one for each thing: what belongs together is paced together.
    pub name: Arc<str>,
    /// Its topics; nothing else of it is to stand.
    pub wanted: Vec<Wanted>,
    /// Where it may have been announced before.
    pub former: Vec<PreviousTopic>,
}

/// Who says what is to stand: until all have, nothing that was there before is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The `CameraActor`.
    Cameras,
    /// The `DiscoveryActor`.
    Discovery,
}

/// How many [`Owner`]s there are.
pub const OWNERS: usize = 2;
