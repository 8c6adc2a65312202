//! Sends events, and hands over the pictures of live events first. `picture_first` decides.

use std::collections::HashMap;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, Recipient, WrapFuture as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    OutboxActor,
    picture_first::{HandOver, MAX_WAIT},
};
use crate::{
    domain::{delivery::is_late, ids::Seq, topic::camera_of_live_topic},
    messages::{
        connection::{Deliver, Outgoing},
        retained::HandOverPicture,
        thumbnails::HaveThumbnails,
    },
};

impl OutboxActor {
    /// Sends events on the current link, after the pictures that must precede them.
    pub(super) fn send_events(
        &mut self,
        link: &Recipient<Deliver>,
        events: Vec<Outgoing>,
        ctx: &mut Context<Self>,
    ) {
        let deliver = self.delivery.deliver(events);
        if self.picture_first.lets_pass(&deliver.events) {
            #[expect(clippy::disallowed_methods, reason = "bounded by the window")]
            link.do_send(deliver);
            return;
        }
        // While an event waits, it must not become late.
        let soon = self.clock.now().after(MAX_WAIT);
        let (delivery, settings) = (&self.delivery, &self.settings);
        let becomes_late = |seq| delivery.times(seq).is_some_and(|times| is_late(settings, times, soon));
        self.picture_first.add(deliver, Instant::now(), becomes_late);
        self.find_pictures(ctx);
        self.send_held(ctx);
    }

    /// Sends the events that need not wait any longer, and hands over the next picture.
    fn send_held(&mut self, ctx: &mut Context<Self>) {
        let (Some(link), Some(link_id)) = (self.delivery.link().cloned(), self.delivery.link_id()) else {
            return;
        };
        for deliver in self.picture_first.ready(Instant::now()) {
            #[expect(clippy::disallowed_methods, reason = "bounded by the window")]
            link.do_send(deliver);
        }
        let Some(HandOver { ticket, seq, event_topic, until }) = self.picture_first.wanted() else { return };
        let picture = camera_of_live_topic(&event_topic).map(|(camera, topic)| HandOverPicture {
            link: link_id,
            camera,
            topic,
            seq,
            until,
        });
        let hand_over = self.peers.hand_over.clone();
        let handed_over = async move {
            let Some(picture) = picture else { return true };
            timeout_at(until, hand_over.send(picture)).await.is_ok()
        };
        ctx.spawn(handed_over.into_actor(self).map(move |in_time, act, ctx| {
            act.picture_first.handed_over(ticket, in_time, Instant::now());
            act.send_held(ctx);
        }));
    }

    /// Asks the thumbnail actor about the events for which it is not known whether they have a picture. If it does not
    /// respond in time, they are sent without waiting.
    fn find_pictures(&mut self, ctx: &mut Context<Self>) {
        let seqs = self.picture_first.take_unknown();
        if seqs.is_empty() {
            return;
        }
        let have = self.peers.thumbnails.have.clone();
        let found = async move {
            let found = timeout(MAX_WAIT, have.send(HaveThumbnails(seqs.clone()))).await;
            let found = found.ok().and_then(Result::ok).and_then(Result::ok).unwrap_or_default();
            let found = found.into_iter().chain(std::iter::repeat(false));
            seqs.into_iter().zip(found).collect::<HashMap<Seq, bool>>()
        };
        ctx.spawn(found.into_actor(self).map(|found, act, ctx| {
            act.picture_first.found(&found);
            act.send_held(ctx);
        }));
    }
}
