//! One topic: what is to stand there, and what is known of what does.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::retained::{Content, Kind};

/// What even a broker that is left for another one keeps.
const STAYS: Content = Content::External { stays: true };

/// A group's name among all.
pub(super) type GroupKey = (Kind, Arc<str>);

/// What the broker is asked to keep on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This.
    Content(Content),
    /// The word that its entity moves to another topic.
    Moves,
    /// Nothing.
    Nothing,
}

impl Target {
    pub(super) fn is_picture(&self) -> bool {
        matches!(self, Self::Content(Content::Thumbnail { .. }))
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) group: GroupKey,
    /// `None`: nothing is to stand there any more.
    pub(super) wanted: Option<Content>,
    /// Whether the entities are told to move before the topic is cleared.
    pub(super) migrates: bool,
    /// Whether they were told so, or the broker refused to.
    pub(super) told: bool,
    /// Whether the table has the topic.
    pub(super) row: bool,
    /// What the broker is known to have since the link came up.
    pub(super) standing: Option<Target>,
    pub(super) flying: Option<Target>,
    /// What the broker did not take; it is not offered again on this link.
    pub(super) refused: Option<Target>,
    pub(super) sent_at: Option<Instant>,
    /// When it may be tried again, after a message of which it is not known whether it stands.
    pub(super) not_before: Option<Instant>,
    /// Since when nothing is to stand there.
    pub(super) unwanted_at: Option<Instant>,
}

impl Entry {
    /// A topic on which nothing is to stand.
    pub(super) fn new(group: GroupKey) -> Self {
        Self {
            group,
            wanted: None,
            migrates: false,
            told: false,
            row: false,
            standing: None,
            flying: None,
            refused: None,
            sent_at: None,
            not_before: None,
            unwanted_at: None,
        }
    }

    /// Forgets what was known of the broker.
    pub(super) fn link_down(&mut self) {
        (self.told, self.row) = (false, false);
        (self.sent_at, self.not_before) = (None, None);
        (self.standing, self.flying, self.refused) = (None, None, None);
    }

    /// What is to stand there; `leaving`: at a broker that is left for another one.
    pub(super) fn desired(&self, leaving: bool) -> Target {
        match &self.wanted {
            Some(content) if !leaving || *content == STAYS => Target::Content(content.clone()),
            _ => Target::Nothing,
        }
    }

    /// How `desired` stands: `Some(true)`: it does; `Some(false)`: the broker refused it; `None`: not yet known.
    pub(super) fn stands(&self, desired: &Target) -> Option<bool> {
        if self.standing.as_ref() == Some(desired) {
            Some(true)
        } else if self.refused.as_ref() == Some(desired) {
            Some(false)
        } else {
            None
        }
    }

    /// Whether its entities are still to be told that they move.
    pub(super) fn is_to_be_told(&self) -> bool {
        self.wanted.is_none() && self.migrates && !self.told
    }

    /// Whether others publish there.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.wanted, Some(Content::External { .. }))
    }
}
