//! Handing over pictures: an event's own picture is published before the event, whatever the order and pace of the
//! other states.
//!
//! While a camera's pictures are handed over, the topic has the picture of the event that was sent last. After that,
//! the wanted picture is published if it is a different one.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Job, MAX_IN_FLIGHT, RetainedState, entry::Target};
use crate::domain::{
    ids::Seq,
    retained::{Content, Kind},
};

/// Maximum number of pictures in flight when another one is handed over.
pub(super) const MAX_HANDED_OVER: usize = 4;

/// How long the wanted picture waits after a picture was handed over. By then, the camera actor wants the same picture,
/// or one that is newer.
pub(super) const FOLLOW_EVENTS_FOR: Duration = Duration::from_secs(2);

/// What to do about a picture that must be handed over.
#[derive(Debug, PartialEq, Eq)]
pub enum HandOver {
    /// Send it now.
    Send(Job),
    /// Ask again after the next change.
    Wait,
    /// The connection has it, or it is not published.
    Done,
}

impl RetainedState {
    /// Returns what to do about the picture of an event, which must be published before the event. `camera` is the name
    /// of the camera's group, and `topic` that of its picture.
    pub fn hand_over(&mut self, camera: &Arc<str>, topic: &str, seq: Seq, now: Instant) -> HandOver {
        if self.leaving {
            return HandOver::Done;
        }
        let wants_no_picture = self.wants_no_picture(camera);
        let has_room = self.in_flight < MAX_IN_FLIGHT && self.pictures_in_flight < MAX_HANDED_OVER;
        let Some(entry) = self.entries.get_mut(topic).filter(|_| self.linked) else {
            return if wants_no_picture { HandOver::Done } else { HandOver::Wait };
        };
        let version = match entry.wanted {
            Some(Content::Thumbnail { version, .. }) => version,
            _ if wants_no_picture => return HandOver::Done,
            // The camera's first picture is not wanted yet.
            _ => return HandOver::Wait,
        };
        let target = Target::Content(Content::Thumbnail { seq, version });
        entry.handed_over_until = Some(now + FOLLOW_EVENTS_FOR);
        if entry.is_reading || !entry.recorded {
            return HandOver::Wait;
        }
        let is_done = match &entry.in_flight {
            Some(last) => *last == target,
            None => entry.acceptance(&target).is_some(),
        };
        if is_done {
            HandOver::Done
        } else if has_room {
            HandOver::Send(self.start_unpaced(topic.to_owned(), target, now))
        } else {
            HandOver::Wait
        }
    }

    /// Returns whether the camera is known, and none of its states is published because it is disabled.
    fn wants_no_picture(&self, camera: &Arc<str>) -> bool {
        let members = self.groups.get(&(Kind::State, Arc::clone(camera)));
        members.is_some_and(|members| {
            let mut entries = members.topics.iter().filter_map(|topic| self.entries.get(topic));
            !entries.any(|entry| entry.wanted.is_some() && !entry.is_external())
        })
    }

    /// Records that the connection has the picture that was being read.
    pub fn submitted(&mut self, topic: &str) {
        if let Some(entry) = self.entries.get_mut(topic) {
            entry.is_reading = false;
        }
    }

    /// Records the broker's answer to a message after which another one was sent on the same topic.
    pub(super) fn superseded_answered(&mut self, job: &Job, now: Instant) {
        let Some(entry) = self.entries.get_mut(&job.topic).filter(|entry| entry.superseded > 0) else {
            return;
        };
        entry.superseded -= 1;
        self.in_flight -= 1;
        self.pictures_in_flight -= usize::from(job.target.is_picture());
        self.schedule(&job.topic, now);
    }
}
