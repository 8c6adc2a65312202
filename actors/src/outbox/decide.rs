//! Decisions about dead events: to send them again, or to dismiss them.

use actix::{AsyncContext as _, Context, Handler, Recipient, ResponseFuture};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    OutboxActor,
    commit_queue::{Answer, MAX_DECISIONS},
    retry_prefetch::MAX_RETRIES,
};
use crate::{
    domain::{
        causes::with_causes,
        delivery::{DecideError, Decided, DecidedAll, Decision},
    },
    messages::outbox::{Decide, DecideAll, MAX_DECIDED_AT_ONCE, PublishError},
    store::{DeadAndRetrying, Store},
};

/// Number of decisions in a step of [`decide_all`]. Two requests fit into the queue of decisions.
const STEP: u64 = 100;

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
        let (mut retried, mut dismissed) = (0, 0);
        for Decided { seq, decision, was_listed } in decided.iter().flatten() {
            tracing::debug!(seq = seq.0, ?decision, "a dead event is sent again or dismissed");
            match decision {
                Decision::Retry => {
                    retried += 1;
                    self.delivery.send_again(*seq);
                }
                Decision::Dismiss => dismissed += 1,
            }
            self.reporting.subtract_dead(u64::from(*was_listed));
        }
        if retried + dismissed > 0 {
            tracing::info!(retried, dismissed, "dead events are sent again or were dismissed");
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

impl Handler<DecideAll> for OutboxActor {
    type Result = ResponseFuture<Result<DecidedAll, DecideError>>;

    fn handle(&mut self, msg: DecideAll, ctx: &mut Self::Context) -> Self::Result {
        // A request without events is answered once the queued notes are committed. So the decision applies
        // to all dead events that are known.
        let (answer, recorded) = oneshot::channel();
        self.writer.queue.add(Vec::new(), Vec::new(), Answer::Several(answer));
        self.commit(ctx);
        let decided = decide_all(self.store.clone(), ctx.address().recipient(), msg);
        Box::pin(async move {
            match recorded.await {
                Ok(Ok(_)) => decided.await,
                Ok(Err(PublishError::Storage(fault))) => Err(DecideError::Storage(fault)),
                Ok(Err(_)) | Err(_) => Err(DecideError::Stopping),
            }
        })
    }
}

/// Applies the decision in steps. New events are committed together with a step, and between two steps.
async fn decide_all(
    store: Store,
    outbox: Recipient<Decide>,
    DecideAll { mut filter, decision }: DecideAll,
) -> Result<DecidedAll, DecideError> {
    let mut events = 0;
    let complete = |events| DecidedAll { events, complete: true, next_after: None };
    while events < MAX_DECIDED_AT_ONCE {
        let found = store.find_dead(&filter, STEP.min(MAX_DECIDED_AT_ONCE - events)).await;
        let found = found.map_err(|error| {
            tracing::error!(error = %with_causes(&error), "dead events could not be read");
            DecideError::Storage(error.fault())
        })?;
        if found.is_empty() {
            return Ok(complete(events));
        }
        let decide = async |(seq, event_id)| (seq, outbox.send(Decide { event_id, decision }).await);
        for (seq, decided) in join_all(found.into_iter().map(decide)).await {
            match decided.unwrap_or(Err(DecideError::Stopping)) {
                Ok(_) => events += 1,
                // Somebody else has decided in the meantime, or a sweep has removed it.
                Err(DecideError::Unknown | DecideError::NotDead) => {}
                Err(DecideError::TooMany) if events > 0 => {
                    return Ok(DecidedAll { events, complete: false, next_after: filter.after });
                }
                Err(error) => return Err(error),
            }
            filter.after = Some(seq);
        }
    }
    let is_last = store.find_dead(&filter, 1).await.is_ok_and(|rest| rest.is_empty());
    if is_last {
        Ok(complete(events))
    } else {
        Ok(DecidedAll { events, complete: false, next_after: filter.after })
    }
}

impl Handler<Decide> for OutboxActor {
    type Result = ResponseFuture<Result<Decided, DecideError>>;

    fn handle(&mut self, decide: Decide, ctx: &mut Self::Context) -> Self::Result {
        let queued = self.queue_decision(decide, ctx);
        Box::pin(async move { queued?.await.unwrap_or(Err(DecideError::Stopping)) })
    }
}
