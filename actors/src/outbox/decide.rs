//! Deciding about dead events: sending them again, or dismissing them.

use actix::{Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::{OutboxActor, commit_queue::MAX_DECISIONS, retry_prefetch::MAX_AGAIN};
use crate::{
    domain::delivery::{DecideError, Decided, Decision},
    messages::outbox::Decide,
    store::DeadAndRetrying,
};

type Asked = Result<oneshot::Receiver<Result<Decided, DecideError>>, DecideError>;

impl OutboxActor {
    /// Takes the decision into the next commit, or says why not.
    fn ask_for(&mut self, decide: Decide, ctx: &mut Context<Self>) -> Asked {
        if self.draining.is_some() {
            return Err(DecideError::Stopping);
        }
        let gathered = self.gather.decisions();
        let too_many = self.window.to_send_again() + gathered >= MAX_AGAIN;
        if gathered >= MAX_DECISIONS || (decide.decision == Decision::Retry && too_many) {
            return Err(DecideError::TooMany);
        }
        let (answer, answered) = oneshot::channel();
        self.gather.add_decision(decide, answer);
        self.commit(ctx);
        Ok(answered)
    }

    /// These decisions are on disk.
    pub(super) fn decided(
        &mut self,
        decided: &[Result<Decided, DecideError>],
        afterlife: Option<&DeadAndRetrying>,
    ) {
        for Decided { seq, decision, was_listed } in decided.iter().flatten() {
            match decision {
                Decision::Retry => {
                    tracing::info!(seq = seq.0, "a dead event is sent again");
                    self.window.send_again(*seq);
                }
                Decision::Dismiss => tracing::info!(seq = seq.0, "a dead event was dismissed"),
            }
            self.dead -= u64::from(*was_listed).min(self.dead);
        }
        let Some(DeadAndRetrying { dead, again }) = afterlife else { return };
        self.dead = dead + u64::try_from(self.gather.deaths()).unwrap_or(u64::MAX);
        for seq in again {
            if !self.gather.knows_the_end_of(*seq) {
                self.window.send_again(*seq);
            }
        }
    }
}

impl Handler<Decide> for OutboxActor {
    type Result = ResponseFuture<Result<Decided, DecideError>>;

    fn handle(&mut self, decide: Decide, ctx: &mut Self::Context) -> Self::Result {
        let asked = self.ask_for(decide, ctx);
        Box::pin(async move { asked?.await.unwrap_or(Err(DecideError::Stopping)) })
    }
}
