//! Publishing: sends camera states to the `RetainedActor`, and notifies discovery of changes.

use std::{sync::Arc, time::Duration};

use actix::{AsyncContext as _, Context};
use tokio::time::Instant;

use super::{CameraActor, state, tally::is_active};
use crate::{
    domain::{
        clock::Moment,
        ids::CameraId,
        retained::{Content, Group, Kind, Owner, Wanted},
    },
    messages::{
        discovery::CamerasChanged,
        retained::{Retain, RetainAll},
    },
};

/// Approximate minimum time between two publications caused by events of the same camera. The
/// [`retained`](crate::retained) messages are rate-limited anyway, but without this, each event would cause
/// additional work under load.
pub(super) const PUBLISH_EVERY: Duration = Duration::from_millis(200);

impl CameraActor {
    /// Returns a camera's state, which is empty if the camera does not exist. Updates whether the camera is active.
    fn group(&mut self, id: &CameraId, now: Moment) -> Group {
        let Some(known) = self.cameras.get_mut(id) else {
            let name = Arc::from(id.as_str());
            return Group { kind: Kind::State, name, wanted: Vec::new(), previous: Vec::new() };
        };
        let counts = known.tally.counts(self.calendar, now.wall);
        known.active = is_active(&known.camera, self.settings.activity_seconds, now);
        state::group(&known.camera, counts, known.active, known.picture, &self.settings)
    }

    /// Publishes a change that an event caused: immediately if the previous one was at least
    /// [`PUBLISH_EVERY`] ago, otherwise later, together with all changes in the meantime.
    pub(super) fn publish_soon(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let Some(known) = self.cameras.get_mut(id) else { return };
        if known.published_at.is_none_or(|last| last + PUBLISH_EVERY <= now) {
            known.published_at = Some(now);
            self.publish(id);
            return;
        }
        if self.unpublished.is_empty() {
            ctx.run_later(PUBLISH_EVERY, Self::publish_waiting);
        }
        self.unpublished.insert(id.clone());
    }

    fn publish_waiting(&mut self, _: &mut Context<Self>) {
        for id in std::mem::take(&mut self.unpublished) {
            if let Some(known) = self.cameras.get_mut(&id) {
                known.published_at = Some(Instant::now());
                self.publish(&id);
            }
        }
    }

    /// Publishes the state of one camera.
    pub(super) fn publish(&mut self, id: &CameraId) {
        let group = self.group(id, self.clock.now());
        #[expect(
            clippy::disallowed_methods,
            reason = "one message for each changed camera, per commit, request or second"
        )]
        self.peers.retain.do_send(Retain { owner: Owner::Cameras, group });
    }

    /// Publishes the states of all cameras.
    pub(super) fn publish_all(&mut self) {
        let (now, ids) = (self.clock.now(), self.cameras.keys().cloned().collect::<Vec<_>>());
        let mut groups: Vec<_> = ids.iter().map(|id| self.group(id, now)).collect();
        // The connection publishes the availability. It is listed here so that an unused topic is cleared.
        let (topic, content) =
            (self.settings.availability_topic(), Content::External { kept_on_leave: true });
        let availability = Wanted { topic, content };
        let name = Arc::from("/availability");
        groups.push(Group { kind: Kind::State, name, wanted: vec![availability], previous: Vec::new() });
        #[expect(
            clippy::disallowed_methods,
            reason = "one message on startup, after each change to the settings, and every day"
        )]
        self.peers.retain_all.do_send(RetainAll { owner: Owner::Cameras, groups });
    }

    /// Notifies discovery of changed or removed cameras.
    pub(super) fn notify_discovery(&self, changes: CamerasChanged) {
        #[expect(
            clippy::disallowed_methods,
            reason = "one message for each request or commit that changes a camera"
        )]
        self.peers.discovery.do_send(changes);
    }
}
