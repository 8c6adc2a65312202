//! Events from senders, and how each request is answered.

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture,
    dev::{MessageResponse, OneshotSender},
    fut::wrap_future,
};
use tokio::sync::oneshot;

use super::{
    OutboxActor,
    commit_queue::{Answer, ReplySlot},
    pictures::HeldPicture,
};
use crate::{
    domain::event_log::Receipt,
    messages::{
        outbox::{PublishBatch, PublishError, PublishEvent},
        thumbnails::StoreThumbnail,
    },
};

impl Handler<PublishEvent> for OutboxActor {
    type Result = PublishReply;

    fn handle(&mut self, msg: PublishEvent, ctx: &mut Self::Context) -> Self::Result {
        let picture = match self.pictures.take(msg.thumbnail) {
            Ok(picture) => picture,
            Err(error) => return PublishReply::Refused(error),
        };
        let slot = ReplySlot::default();
        match self.accept(vec![msg.event], Answer::One(slot.clone()), ctx) {
            Err(error) => PublishReply::Refused(error),
            Ok(()) => match picture {
                None => PublishReply::ByCommit(slot),
                Some(picture) => {
                    PublishReply::AfterPicture(slot, picture, self.peers.thumbnails.store.clone())
                }
            },
        }
    }
}

/// How a [`PublishEvent`] is answered.
#[derive(Debug)]
pub enum PublishReply {
    /// Immediately: the event was not accepted.
    Refused(PublishError),
    /// By the commit.
    ByCommit(ReplySlot),
    /// After the commit, when the picture has been stored.
    AfterPicture(ReplySlot, HeldPicture, Recipient<StoreThumbnail>),
}

impl MessageResponse<OutboxActor, PublishEvent> for PublishReply {
    fn handle(
        self,
        ctx: &mut Context<OutboxActor>,
        sender: Option<OneshotSender<Result<Receipt, PublishError>>>,
    ) {
        let Some(sender) = sender else { return };
        match self {
            Self::Refused(error) => {
                // The receiver may have been dropped.
                let _gone = sender.send(Err(error));
            }
            Self::ByCommit(slot) => slot.set(sender),
            Self::AfterPicture(slot, picture, thumbnails) => {
                let (committed, commit) = oneshot::channel();
                slot.set(committed);
                let stored = async move {
                    let receipt = commit.await.unwrap_or(Err(PublishError::Stopping))?;
                    picture.store(thumbnails, &receipt).await?;
                    Ok(receipt)
                };
                ctx.spawn(wrap_future(stored).map(|result, _, _| {
                    let _gone = sender.send(result);
                }));
            }
        }
    }
}

impl Handler<PublishBatch> for OutboxActor {
    type Result = ResponseFuture<Result<Vec<Receipt>, PublishError>>;

    fn handle(&mut self, PublishBatch(events): PublishBatch, ctx: &mut Self::Context) -> Self::Result {
        if events.is_empty() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        let (answer, receipts) = oneshot::channel();
        let accepted = self.accept(events, Answer::Several(answer), ctx);
        Box::pin(async move {
            accepted?;
            receipts.await.unwrap_or(Err(PublishError::Stopping))
        })
    }
}
