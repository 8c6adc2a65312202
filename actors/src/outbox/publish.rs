//! Events from senders, and how each request is answered.

use std::collections::HashSet;

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture, WrapFuture as _,
    dev::{MessageResponse, OneshotSender},
};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    OutboxActor,
    accept::MAX_LOOKUPS,
    commit_queue::{Answer, MAX_QUEUED, ReplySlot},
    pictures::HeldPicture,
};
use crate::{
    domain::{event::DetectionEvent, event_log::Receipt, ids::EventId},
    messages::{
        outbox::{PublishBatch, PublishError, PublishEvent},
        thumbnails::{StageThumbnail, ThumbnailError},
    },
};

type Receipts = Result<Vec<Receipt>, PublishError>;
type Picture = (EventId, HeldPicture);

impl OutboxActor {
    /// Stages the pictures, and then commits the events.
    fn publish_with_pictures(
        &mut self,
        requests: Vec<PublishEvent>,
        answer: Answer,
        ctx: &mut Context<Self>,
    ) {
        let room = self.check_room_for_pictures(requests.len());
        if let Err(error @ (PublishError::Busy | PublishError::Stopping)) = room {
            return answer.send(Err(error));
        }
        match (self.hold_pictures(requests), room) {
            (Ok((events, pictures)), Ok(())) => self.stage(events, pictures, answer, ctx),
            (Ok((events, pictures)), Err(full)) => {
                self.stage_repeated(events, pictures, answer, full, ctx);
            }
            (Err(error), _) => answer.send(Err(error)),
        }
    }

    fn check_room_for_pictures(&self, count: usize) -> Result<(), PublishError> {
        if self.staging > 0 && self.staging + count > MAX_QUEUED {
            return Err(PublishError::Busy);
        }
        self.writer.check_room(count + self.staging, self.pending(), self.limits.max_pending)
    }

    fn stage(
        &mut self,
        events: Vec<DetectionEvent>,
        pictures: Vec<Picture>,
        answer: Answer,
        ctx: &mut Context<Self>,
    ) {
        let count = events.len();
        self.staging += count;
        let stage = self.peers.thumbnails.stage.clone();
        let staging = async move { stage_all(pictures, &stage).await };
        ctx.spawn(staging.into_actor(self).map(move |staged, act, ctx| {
            act.staging -= count;
            act.accept_staged(events, staged, answer, ctx);
        }));
    }

    /// Stages the pictures if all events were accepted before: they need no room, but a picture may be missing.
    /// Otherwise, the answer is `full`, and no picture is written in vain.
    fn stage_repeated(
        &mut self,
        events: Vec<DetectionEvent>,
        pictures: Vec<Picture>,
        answer: Answer,
        full: PublishError,
        ctx: &mut Context<Self>,
    ) {
        if self.lookups >= MAX_LOOKUPS {
            return answer.send(Err(full));
        }
        self.lookups += 1;
        let store = self.store.clone();
        let ids: Vec<EventId> = events.iter().map(|event| event.event_id().clone()).collect();
        let lookup = async move { store.find_seqs(&ids).await };
        ctx.spawn(lookup.into_actor(self).map(move |known, act, ctx| {
            act.lookups -= 1;
            let known: HashSet<EventId> = known.unwrap_or_default().into_iter().map(|(id, _)| id).collect();
            if events.iter().all(|event| known.contains(event.event_id())) {
                act.stage(events, pictures, answer, ctx);
            } else {
                answer.send(Err(full));
            }
        }));
    }

    /// Checks the pictures, and separates them from their events.
    fn hold_pictures(
        &self,
        requests: Vec<PublishEvent>,
    ) -> Result<(Vec<DetectionEvent>, Vec<Picture>), PublishError> {
        let count = requests.len();
        let (mut events, mut pictures) = (Vec::with_capacity(count), Vec::new());
        let mut seen = HashSet::new();
        for PublishEvent { event, thumbnail } in requests {
            let picture = self.pictures.take(thumbnail)?;
            // If an event is repeated in a batch, its first picture counts.
            if let Some(picture) = picture
                && seen.insert(event.event_id().clone())
            {
                pictures.push((event.event_id().clone(), picture));
            }
            events.push(event);
        }
        Ok((events, pictures))
    }

    /// If the disk could not store a picture, the events are accepted without it, because events have
    /// precedence. The sender gets the error.
    fn accept_staged(
        &mut self,
        events: Vec<DetectionEvent>,
        Staged { staged, error }: Staged,
        answer: Answer,
        ctx: &mut Context<Self>,
    ) {
        let answer = match error {
            None => answer,
            Some(error @ PublishError::Thumbnail(ThumbnailError::Storage(_))) => {
                Answer::WithoutPictures(Box::new(answer), error)
            }
            Some(error) => {
                self.discard(staged);
                return answer.send(Err(error));
            }
        };
        self.accept(events, staged, answer, ctx);
    }
}

/// The pictures of a request that are staged, and why the others are not.
#[derive(Debug)]
struct Staged {
    staged: Vec<EventId>,
    error: Option<PublishError>,
}

async fn stage_all(pictures: Vec<Picture>, stage: &Recipient<StageThumbnail>) -> Staged {
    let (mut staged, mut error) = (Vec::new(), None);
    let all = pictures.into_iter().map(async |(event_id, picture)| {
        let result = picture.stage(stage, event_id.clone()).await;
        (event_id, result)
    });
    for (event_id, result) in join_all(all).await {
        match result {
            Ok(()) => staged.push(event_id),
            Err(failed) => error = error.or(Some(failed)),
        }
    }
    Staged { staged, error }
}

impl Handler<PublishEvent> for OutboxActor {
    type Result = PublishReply;

    fn handle(&mut self, msg: PublishEvent, ctx: &mut Self::Context) -> Self::Result {
        let slot = ReplySlot::default();
        let answer = Answer::One(slot.clone());
        if msg.thumbnail.is_some() {
            self.publish_with_pictures(vec![msg], answer, ctx);
        } else {
            self.accept(vec![msg.event], Vec::new(), answer, ctx);
        }
        PublishReply(slot)
    }
}

/// The reply to a [`PublishEvent`], which is sent by the commit, or by the handler if the event is refused.
#[derive(Debug)]
pub struct PublishReply(ReplySlot);

impl MessageResponse<OutboxActor, PublishEvent> for PublishReply {
    fn handle(
        self,
        _: &mut Context<OutboxActor>,
        sender: Option<OneshotSender<Result<Receipt, PublishError>>>,
    ) {
        if let Some(sender) = sender {
            self.0.set(sender);
        }
    }
}

impl Handler<PublishBatch> for OutboxActor {
    type Result = ResponseFuture<Receipts>;

    fn handle(&mut self, PublishBatch(events): PublishBatch, ctx: &mut Self::Context) -> Self::Result {
        if events.is_empty() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        let (answer, receipts) = oneshot::channel();
        let answer = Answer::Several(answer);
        if events.iter().any(|event| event.thumbnail.is_some()) {
            self.publish_with_pictures(events, answer, ctx);
        } else {
            let events = events.into_iter().map(|publish| publish.event).collect();
            self.accept(events, Vec::new(), answer, ctx);
        }
        Box::pin(async move { receipts.await.unwrap_or(Err(PublishError::Stopping)) })
    }
}
