//! Who hands in events, and how each is answered.

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, Handler, ResponseFuture,
    dev::{MessageResponse, OneshotSender},
    fut::wrap_future,
};
use tokio::sync::oneshot;

use super::{
    OutboxActor, Thumbnails,
    commit_queue::{Answer, ReplySlot},
    pictures::HeldPicture,
};
use crate::{
    domain::event_log::Receipt,
    messages::outbox::{PublishBatch, PublishError, PublishEvent},
};

impl Handler<PublishEvent> for OutboxActor {
    type Result = Published;

    fn handle(&mut self, msg: PublishEvent, ctx: &mut Self::Context) -> Self::Result {
        let picture = match self.room.take(msg.thumbnail) {
            Ok(picture) => picture,
            Err(refused) => return Published::Refused(refused),
        };
        let asker = ReplySlot::default();
        match self.accept(vec![msg.event], Answer::One(asker.clone()), ctx) {
            Err(refused) => Published::Refused(refused),
            Ok(()) => match picture {
                None => Published::Answered(asker),
                Some(picture) => Published::WithPicture(asker, picture, self.thumbnails.clone()),
            },
        }
    }
}

/// How a [`PublishEvent`] is answered.
#[derive(Debug)]
pub enum Published {
    /// At once: it was not accepted.
    Refused(PublishError),
    /// By its commit.
    Answered(ReplySlot),
    /// When its picture is stored, after the commit.
    WithPicture(ReplySlot, HeldPicture, Option<Thumbnails>),
}

impl MessageResponse<OutboxActor, PublishEvent> for Published {
    fn handle(
        self,
        ctx: &mut Context<OutboxActor>,
        sender: Option<OneshotSender<Result<Receipt, PublishError>>>,
    ) {
        let Some(sender) = sender else { return };
        match self {
            Self::Refused(refused) => {
                // Whoever asked may have gone.
                let _gone = sender.send(Err(refused));
            }
            Self::Answered(asker) => asker.is(sender),
            Self::WithPicture(asker, picture, keeper) => {
                let (committed, commit) = oneshot::channel();
                asker.is(committed);
                let stored = async move {
                    let receipt = commit.await.unwrap_or(Err(PublishError::Stopping))?;
                    picture.store(keeper, &receipt).await?;
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
        let (answer, answered) = oneshot::channel();
        let accepted = self.accept(events, Answer::Several(answer), ctx);
        Box::pin(async move {
            accepted?;
            answered.await.unwrap_or(Err(PublishError::Stopping))
        })
    }
}
