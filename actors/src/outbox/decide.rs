//! Decisions about dead events: to send them again, or to dismiss them.

use actix::{Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::{OutboxActor, commit_queue::MAX_DECISIONS, retry_prefetch::MAX_RETRIES};
use crate::{
    domain::delivery::{DecideError, Decided, Decision},
    messages::outbox::Decide,
    store::DeadAndRetrying,
};

type DecisionReceiver = oneshot::Receiver<Result<Decided, DecideError>>;

impl OutboxActor {
    /// Adds the decision to the next commit, or returns why that is not possible.
    fn queue_decision(
        &mut self,
        decide: Decide,
        ctx: &mut Context<Self>,
    ) -> Result<DecisionReceiver, DecideError> {
        if self.draining.is_some() {
            return Err(DecideError::Stopping);
        }
        let queued = self.writer.queue.decisions();
        let too_many_retries = self.delivery.retrying() + queued >= MAX_RETRIES;
        if queued >= MAX_DECISIONS || (decide.decision == Decision::Retry && too_many_retries) {
            return Err(DecideError::TooMany);
        }
        let (answer, receiver) = oneshot::channel();
        self.writer.queue.add_decision(decide, answer);
        self.commit(ctx);
        Ok(receiver)
    }

    /// Applies decisions that were committed. After a commit with an unknown outcome, `stored` is what the
    /// database contains.
    pub(super) fn decided(
        &mut self,
        decided: &[Result<Decided, DecideError>],
        stored: Option<&DeadAndRetrying>,
    ) {
        for Decided { seq, decision, was_listed } in decided.iter().flatten() {
            match decision {
                Decision::Retry => {
                    tracing::info!(seq = seq.0, "a dead event is sent again");
                    self.delivery.send_again(*seq);
                }
                Decision::Dismiss => tracing::info!(seq = seq.0, "a dead event was dismissed"),
            }
            self.reporting.subtract_dead(u64::from(*was_listed));
        }
        let Some(DeadAndRetrying { dead, again }) = stored else { return };
        let queue = &self.writer.queue;
        self.reporting.dead = dead + u64::try_from(queue.dead_events()).unwrap_or(u64::MAX);
        for seq in again {
            if !queue.has_outcome_of(*seq) {
                self.delivery.send_again(*seq);
            }
        }
    }
}

impl Handler<Decide> for OutboxActor {
    type Result = ResponseFuture<Result<Decided, DecideError>>;

    fn handle(&mut self, decide: Decide, ctx: &mut Self::Context) -> Self::Result {
        let queued = self.queue_decision(decide, ctx);
        Box::pin(async move { queued?.await.unwrap_or(Err(DecideError::Stopping)) })
    }
}
