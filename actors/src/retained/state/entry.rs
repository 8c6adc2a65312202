//! The state of one topic: the message that it should hold, and the message that the broker is known to
//! retain.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::retained::{Content, Kind};

/// The only content that remains on a broker that the service leaves.
const KEPT_ON_LEAVE: Content = Content::External { kept_on_leave: true };

/// Identifies a group.
pub(super) type GroupKey = (Kind, Arc<str>);

/// A message that the broker should retain on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This content.
    Content(Content),
    /// The notice to Home Assistant that the topic's entity migrates to another topic.
    MigrationNotice,
    /// No message: the topic is cleared.
    Nothing,
}

impl Target {
    /// Returns whether it is a picture.
    pub fn is_picture(&self) -> bool {
        matches!(self, Self::Content(Content::Thumbnail { .. }))
    }
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Entry {
    pub(super) group: GroupKey,
    /// The wanted content; `None` if the topic must be cleared.
    pub(super) wanted: Option<Content>,
    /// Whether a migration notice is sent to Home Assistant before the topic is cleared.
    pub(super) migrates: bool,
    /// Whether the broker has answered the migration notice. A refusal counts, because it must not block the
    /// migration.
    pub(super) notice_answered: bool,
    /// Whether the table has a row for the topic.
    pub(super) recorded: bool,
    /// The last message that the broker acknowledged on this connection, if it is still known to be retained.
    pub(super) published: Option<Target>,
    /// The message that the broker has not answered yet.
    pub(super) in_flight: Option<Target>,
    /// The message that the broker refused. It is not sent again on this connection.
    pub(super) refused: Option<Target>,
    /// How many earlier messages the broker has not answered yet. Only a picture that is handed over is sent before
    /// the previous message is answered.
    pub(super) superseded: usize,
    /// Whether the picture in flight is being read, and so has not been handed to the connection yet.
    pub(super) is_reading: bool,
    /// Until when only pictures that are handed over are published.
    pub(super) handed_over_until: Option<Instant>,
    /// When the last message was sent.
    pub(super) sent_at: Option<Instant>,
    /// The earliest time of the next attempt, after a message without a clear answer.
    pub(super) not_before: Option<Instant>,
    /// When the topic stopped being wanted.
    pub(super) unwanted_at: Option<Instant>,
}

impl Entry {
    /// Returns the entry of a topic that nobody wants yet.
    pub(super) fn new(group: GroupKey) -> Self {
        Self {
            group,
            wanted: None,
            migrates: false,
            notice_answered: false,
            recorded: false,
            published: None,
            in_flight: None,
            superseded: 0,
            is_reading: false,
            handed_over_until: None,
            refused: None,
            sent_at: None,
            not_before: None,
            unwanted_at: None,
        }
    }

    /// Discards everything that depends on the connection and its broker.
    pub(super) fn link_down(&mut self) {
        (self.notice_answered, self.recorded) = (false, false);
        (self.sent_at, self.not_before) = (None, None);
        (self.published, self.in_flight, self.refused) = (None, None, None);
        (self.superseded, self.is_reading, self.handed_over_until) = (0, false, None);
    }

    /// Returns the message that the topic should hold. `leaving` states whether the service is leaving this
    /// broker.
    pub(super) fn target(&self, leaving: bool) -> Target {
        match &self.wanted {
            Some(content) if !leaving || *content == KEPT_ON_LEAVE => Target::Content(content.clone()),
            _ => Target::Nothing,
        }
    }

    /// Returns whether the broker accepted `target`: `Some(true)` if it is published, `Some(false)` if it was
    /// refused, and `None` if that is not known yet.
    pub(super) fn acceptance(&self, target: &Target) -> Option<bool> {
        if self.published.as_ref() == Some(target) {
            Some(true)
        } else if self.refused.as_ref() == Some(target) {
            Some(false)
        } else {
            None
        }
    }

    /// Returns whether the migration notice has not been answered yet.
    pub(super) fn awaits_migration_notice(&self) -> bool {
        self.wanted.is_none() && self.migrates && !self.notice_answered
    }

    /// Returns whether another part of the service publishes on the topic.
    pub(super) fn is_external(&self) -> bool {
        matches!(self.wanted, Some(Content::External { .. }))
    }
}
