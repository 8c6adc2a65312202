//! The requests of the HTTP layer: creates, shows and stops replays.

use actix::{ActorFutureExt as _, Context, Handler, MessageResult, ResponseActFuture, WrapFuture as _};
use serde_json::Value;

use super::ReplayActor;
use crate::{
    domain::{
        causes::with_causes,
        clock,
        replay::{MAX_ACTIVE, Replay, ReplayRecord, ReplayRequest, ReplayState, WaitingFor},
    },
    messages::replay::{CancelReplay, CreateReplay, GetReplay, ListReplays, ReplayError},
    store::{Matching, StoreError},
};

impl ReplayActor {
    /// Returns a replay as clients see it.
    fn view(&self, record: &ReplayRecord) -> Replay {
        let mut replay = record.replay.clone();
        if replay.state == ReplayState::Running {
            replay.waiting_for = match self.link {
                None => Some(WaitingFor::Connection),
                Some(_) => self.events_wait.then_some(WaitingFor::Events),
            };
        }
        replay
    }

    /// Checks a request, and reserves a place for its replay.
    fn create(&mut self, value: Value) -> Result<ReplayRequest, ReplayError> {
        if self.stopping.is_some() {
            return Err(ReplayError::Stopping);
        }
        let request = ReplayRequest::from_json(value, &self.settings, clock::now())?;
        let active = self.replays.values().filter(|record| !record.replay.state.is_over()).count();
        if active + self.creating >= MAX_ACTIVE {
            return Err(ReplayError::TooMany);
        }
        self.creating += 1;
        Ok(request)
    }

    fn created(&mut self, record: ReplayRecord, ctx: &mut Context<Self>) -> Replay {
        let id = record.replay.id;
        let Replay { events, request: ReplayRequest { topic, .. }, .. } = &record.replay;
        tracing::info!(id, events, topic = topic.as_str(), "a replay was requested");
        let replay = self.replays.entry(id).or_insert(record).replay.clone();
        // The settings may have changed while its events were counted.
        self.check_topics();
        self.drive(ctx);
        replay
    }
}

impl Handler<CreateReplay> for ReplayActor {
    type Result = ResponseActFuture<Self, Result<Replay, ReplayError>>;

    fn handle(&mut self, CreateReplay(value): CreateReplay, _: &mut Self::Context) -> Self::Result {
        let request = match self.create(value) {
            Ok(request) => request,
            Err(error) => return Box::pin(async { Err(error) }.into_actor(self)),
        };
        let store = self.store.clone();
        let insert = async move {
            let Matching { events, first, last } = store.count_events(&request).await?;
            let replay = Replay {
                id: 0,
                state: ReplayState::Queued,
                waiting_for: None,
                request,
                events,
                published: 0,
                skipped: 0,
                reason: None,
                created_at: clock::now(),
                ended_at: None,
            };
            let mut record = ReplayRecord { replay, position: first.previous(), last };
            if events == 0 {
                record.position = last;
            }
            record.replay.id = store.insert_replay(&record).await?;
            Ok(record)
        };
        Box::pin(insert.into_actor(self).map(|inserted: Result<_, StoreError>, act, ctx| {
            act.creating -= 1;
            inserted.map(|record| act.created(record, ctx)).map_err(|error| not_stored(&error))
        }))
    }
}

fn not_stored(error: &StoreError) -> ReplayError {
    tracing::warn!(error = %with_causes(error), "a replay was not stored");
    ReplayError::Storage(error.fault())
}

impl Handler<ListReplays> for ReplayActor {
    type Result = MessageResult<ListReplays>;

    fn handle(&mut self, _: ListReplays, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.replays.values().rev().map(|record| self.view(record)).collect())
    }
}

impl Handler<GetReplay> for ReplayActor {
    type Result = MessageResult<GetReplay>;

    fn handle(&mut self, GetReplay(id): GetReplay, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.replays.get(&id).map(|record| self.view(record)))
    }
}

impl Handler<CancelReplay> for ReplayActor {
    type Result = ResponseActFuture<Self, Result<Replay, ReplayError>>;

    fn handle(&mut self, CancelReplay(id): CancelReplay, ctx: &mut Self::Context) -> Self::Result {
        match self.replays.get(&id) {
            None => return Box::pin(async { Err(ReplayError::Unknown) }.into_actor(self)),
            Some(record) if record.replay.state.is_over() => {
                let replay = self.view(record);
                return Box::pin(async { Ok(replay) }.into_actor(self));
            }
            Some(_) => self.end(id, ReplayState::Cancelled, None),
        }
        // It may have been removed already, if many have ended.
        let record = self.replays.get(&id).cloned();
        self.drive(ctx);
        let store = self.store.clone();
        let write = async move {
            let record = record.ok_or(ReplayError::Unknown)?;
            let written = store.write_replays(std::slice::from_ref(&record), &[]).await;
            written.map(|()| record.replay).map_err(|error| not_stored(&error))
        };
        Box::pin(write.into_actor(self))
    }
}
