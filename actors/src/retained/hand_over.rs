//! The picture that the outbox waits for before it sends the picture's event.

use actix::{Context, Handler, ResponseFuture};
use tokio::{sync::oneshot, time::Instant};

use super::{RetainedActor, state::HandOver};
use crate::messages::retained::HandOverPicture;

/// No picture is handed over while this many bytes of pictures are unacknowledged, so that on a slow line no more than
/// one large picture delays events.
const MAX_UNANSWERED_BYTES: usize = 64 * 1024;

/// A request, and who waits for it.
#[derive(Debug)]
pub(super) struct HandingOver {
    picture: HandOverPicture,
    /// Dropped when the outbox need not wait any longer.
    _reply: oneshot::Sender<()>,
}

impl RetainedActor {
    /// Hands over the picture that the outbox waits for, if that is possible now.
    pub(super) fn hand_over(&mut self, ctx: &mut Context<Self>) {
        let Some(HandingOver { picture, .. }) = &self.handing_over else { return };
        let HandOverPicture { link, camera, topic, seq, until } = picture;
        let now = Instant::now();
        if !self.is_current(*link) || now >= *until {
            self.handing_over = None;
        } else if self.unanswered_picture_bytes < MAX_UNANSWERED_BYTES {
            match self.state.hand_over(camera, topic, *seq, now) {
                HandOver::Send(job) => self.send(job, ctx),
                HandOver::Wait => {}
                HandOver::Done => self.handing_over = None,
            }
        }
    }
}

impl Handler<HandOverPicture> for RetainedActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, picture: HandOverPicture, ctx: &mut Self::Context) -> Self::Result {
        let (reply, done) = oneshot::channel();
        self.handing_over = Some(HandingOver { picture, _reply: reply });
        self.pump(ctx);
        Box::pin(async {
            // The sender is dropped when there is nothing more to wait for.
            let _done = done.await;
        })
    }
}
