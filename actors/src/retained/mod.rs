//! What of ours stands retained at the broker: kept equal to what the cameras and discovery want.
//!
//! Owns the table of topics that may hold something of ours, and the order and pace in which states and discovery leave.
//! Promises: the newest value wins and nothing is queued; after each new connection everything stands again; what is not
//! wanted any more is cleared as soon as its broker can be reached, whatever happened meanwhile; nothing is ever cleared
//! that is not ours. Knows neither cameras nor Home Assistant.

mod messages;
mod shelf;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient,
    ResponseFuture, SpawnHandle, WrapFuture as _,
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::Instant,
};

pub use self::messages::*;
use self::shelf::{Job, Mark, Shelf};
use crate::{
    config::SettingsChanged,
    connection::PublishState,
    ids::LinkId,
    outbox::{LinkDown, LinkUp, Stop},
    status::{Failure, FailureKind},
    store::{Store, StoreError, discovery_topics},
    thumbnails::GetThumbnailAt,
};

/// Requests that may wait in the mailbox; facts are bounded by their senders.
const MAILBOX: usize = 256;

/// How long to wait before rows are written again after the database failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The payload that tells Home Assistant that an entity moves to another discovery topic.
const MOVES: &[u8] = br#"{"migrate_discovery": true}"#;

#[derive(Debug)]
struct Link {
    id: LinkId,
    broker: String,
    publish: Recipient<PublishState>,
}

/// Somebody waits until all of these stand.
#[derive(Debug)]
struct Waiting {
    groups: BTreeMap<Arc<str>, Vec<String>>,
    answer: oneshot::Sender<Option<Vec<Arc<str>>>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RetainedActor {
    store: Store,
    shelf: Shelf,
    link: Option<Link>,
    thumbnails: Recipient<GetThumbnailAt>,
    /// Rows are written or removed: one after the other, so that they end as they should.
    rows_busy: bool,
    timer: Option<(Instant, SpawnHandle)>,
    waiting: Vec<Waiting>,
    leaving: Vec<oneshot::Sender<()>>,
    /// Told the actor's name when it panics.
    crashed: UnboundedSender<&'static str>,
}

impl RetainedActor {
    /// An actor that waits for its first link. `thumbnails` has the pictures.
    pub fn new(
        store: Store,
        thumbnails: Recipient<GetThumbnailAt>,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        Self {
            store,
            shelf: Shelf::default(),
            link: None,
            thumbnails,
            rows_busy: false,
            timer: None,
            waiting: Vec::new(),
            leaving: Vec::new(),
            crashed,
        }
    }

    /// Reads what may stand at the broker of this link; until that is known, nothing is sent.
    fn load_rows(&mut self, ctx: &mut Context<Self>) {
        let Some(Link { id, broker, .. }) = &self.link else { return };
        let (id, broker, db) = (*id, broker.clone(), self.store.read.clone());
        let rows = async move { discovery_topics::of_broker(&db, &broker).await };
        ctx.spawn(rows.into_actor(self).map(move |rows, act, ctx| {
            if act.link.as_ref().is_none_or(|link| link.id != id) {
                return;
            }
            match rows {
                Ok(rows) => {
                    act.shelf.link_up(rows, Instant::now());
                    act.pump(ctx);
                }
                Err(error) => {
                    tracing::error!(%error, "the list of retained topics could not be read; tried again in a second");
                    ctx.run_later(RETRY_AFTER, Self::load_rows);
                }
            }
        }));
    }

    /// Sends what may be sent.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.see_to_rows(ctx);
        while let Some(job) = self.shelf.next(Instant::now()) {
            self.send(job, ctx);
        }
        self.answer_waiting();
        self.wake_up(ctx);
    }

    fn send(&mut self, job: Job, ctx: &mut Context<Self>) {
        let Some(Link { id, publish, .. }) = &self.link else { return };
        let (link, publish, thumbnails) = (*id, publish.clone(), self.thumbnails.clone());
        let sent = async move {
            let Some(payload) = payload(&job.mark, &thumbnails).await else {
                return (job, Some(false));
            };
            let message = PublishState { topic: job.topic.clone(), payload, retain: true };
            let taken = match publish.send(message).await {
                Ok(Ok(())) => Some(true),
                Ok(Err(failure)) => refused(&job.topic, &failure),
                // The link is gone; its end is told.
                Err(_) => None,
            };
            (job, taken)
        };
        ctx.spawn(sent.into_actor(self).map(move |(job, taken), act, ctx| {
            if act.link.as_ref().is_some_and(|current| current.id == link) {
                act.shelf.answered(&job, taken, Instant::now());
                act.pump(ctx);
            }
        }));
    }

    /// Removes rows whose topics are cleared, and writes those that topics need before anything is sent there.
    fn see_to_rows(&mut self, ctx: &mut Context<Self>) {
        let Some(link) = self.link.as_ref().filter(|_| !self.rows_busy) else { return };
        let (id, broker, db) = (link.id, link.broker.clone(), self.store.write.clone());
        let (cleared, rowless) = (self.shelf.take_cleared(), self.shelf.take_rowless());
        if cleared.is_empty() && rowless.is_empty() {
            return;
        }
        self.rows_busy = true;
        let rows = async move {
            let deleted = discovery_topics::delete(&db, &broker, &cleared).await;
            let written = match deleted {
                Ok(()) => discovery_topics::insert(&db, &broker, &rowless).await,
                Err(error) => Err(error),
            };
            (rowless, written.map_err(StoreError::from))
        };
        ctx.spawn(rows.into_actor(self).map(move |(rows, written), act, ctx| {
            act.rows_busy = false;
            if act.link.as_ref().is_none_or(|link| link.id != id) {
                return act.pump(ctx);
            }
            match written {
                Ok(()) => {
                    act.shelf.rows_written(&rows, Instant::now());
                    act.pump(ctx);
                }
                Err(error) => {
                    tracing::warn!(%error, "the list of retained topics could not be written; tried again in a second");
                    act.shelf.rows_failed(rows);
                    act.rows_busy = true;
                    ctx.run_later(RETRY_AFTER, |act, ctx| {
                        act.rows_busy = false;
                        act.pump(ctx);
                    });
                }
            }
        }));
    }

    fn wake_up(&mut self, ctx: &mut Context<Self>) {
        let due = self.shelf.due();
        if due == self.timer.as_ref().map(|(at, _)| *at) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = due {
            let wait = at.saturating_duration_since(Instant::now());
            let timer = ctx.run_later(wait, |act, ctx| {
                act.timer = None;
                act.pump(ctx);
            });
            self.timer = Some((at, timer));
        }
    }

    fn leave_link(&mut self, ctx: &mut Context<Self>) {
        self.link = None;
        self.shelf.link_down();
        for Waiting { answer, .. } in self.waiting.drain(..) {
            // Whoever asked may have stopped waiting.
            let _gone = answer.send(None);
        }
        self.answer_waiting();
        self.wake_up(ctx);
    }

    fn answer_waiting(&mut self) {
        let known = &self.shelf;
        let is_known = |waiting: &mut Waiting| {
            waiting.groups.values().flatten().all(|topic| known.stands(topic).is_some())
        };
        for Waiting { groups, answer } in self.waiting.extract_if(.., is_known) {
            let stands = |topics: &Vec<String>| topics.iter().all(|topic| known.stands(topic) == Some(true));
            let well = groups.into_iter().filter(|(_, topics)| stands(topics)).map(|(name, _)| name);
            // Whoever asked may have stopped waiting.
            let _gone = answer.send(Some(well.collect()));
        }
        if !self.leaving.is_empty() && known.has_left() && !self.rows_busy {
            for answer in self.leaving.drain(..) {
                let _gone = answer.send(());
            }
        }
    }
}

/// `None` when there is nothing to send: a picture that was removed with its event, or cannot be read, which was logged.
/// What stands there stays.
async fn payload(mark: &Mark, thumbnails: &Recipient<GetThumbnailAt>) -> Option<Bytes> {
    let payload = match mark {
        Mark::Content(Content::Bytes(bytes)) => bytes.clone(),
        Mark::Content(Content::Thumbnail { seq, .. }) => {
            thumbnails.send(GetThumbnailAt(*seq)).await.ok()?.ok()??.image
        }
        Mark::Moves => Bytes::from_static(MOVES),
        Mark::Content(Content::Elsewhere { .. }) | Mark::Nothing => Bytes::new(),
    };
    Some(payload)
}

/// Whether the broker has refused a message (`Some(false)`), or its answer is not known.
fn refused(topic: &str, failure: &Failure) -> Option<bool> {
    match failure.kind {
        FailureKind::Refused | FailureKind::NotAuthorized => {
            tracing::warn!(
                topic,
                kind = failure.kind.as_str(),
                reason = failure.message,
                "state not published"
            );
            Some(false)
        }
        _ => None,
    }
}

impl Actor for RetainedActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if std::thread::panicking() {
            // Nobody listens when the service is already stopping.
            let _stopping = self.crashed.send("retained");
        }
    }
}

impl Handler<Stop> for RetainedActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<RetainAll> for RetainedActor {
    type Result = ();

    fn handle(&mut self, RetainAll { owner, groups }: RetainAll, ctx: &mut Self::Context) {
        self.shelf.put_all(owner, groups, Instant::now());
        self.pump(ctx);
    }
}

impl Handler<Retain> for RetainedActor {
    type Result = ();

    fn handle(&mut self, Retain { owner, group }: Retain, ctx: &mut Self::Context) {
        self.shelf.put(owner, group, Instant::now());
        self.pump(ctx);
    }
}

impl Handler<Republish> for RetainedActor {
    type Result = ResponseFuture<Option<Vec<Arc<str>>>>;

    fn handle(&mut self, Republish(kind): Republish, ctx: &mut Self::Context) -> Self::Result {
        if self.link.is_none() {
            return Box::pin(async { None });
        }
        let groups = self.shelf.again(kind, Instant::now());
        let (answer, answered) = oneshot::channel();
        self.waiting.push(Waiting { groups, answer });
        self.pump(ctx);
        Box::pin(async { answered.await.unwrap_or(None) })
    }
}

impl Handler<LinkUp> for RetainedActor {
    type Result = ();

    fn handle(&mut self, LinkUp { link, broker, publish, .. }: LinkUp, ctx: &mut Self::Context) {
        self.shelf.link_down();
        self.link = Some(Link { id: link, broker, publish });
        self.load_rows(ctx);
    }
}

impl Handler<LinkDown> for RetainedActor {
    type Result = ();

    fn handle(&mut self, LinkDown { link, .. }: LinkDown, ctx: &mut Self::Context) {
        if self.link.as_ref().is_some_and(|current| current.id == link) {
            self.leave_link(ctx);
        }
    }
}

impl Handler<SettingsChanged> for RetainedActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, .. }: SettingsChanged, ctx: &mut Self::Context) {
        // Every change of settings ends the link. What would be sent on it in its last moments might be lost, and be sent
        // twice: Home Assistant warns of a device that is removed twice. A broker that is left for another one is still
        // to be cleared over it.
        let moves = |link: &Link| settings.enabled && !link.broker.eq_ignore_ascii_case(&settings.broker());
        if self.link.as_ref().is_some_and(|link| !moves(link)) {
            self.leave_link(ctx);
        }
    }
}

impl Handler<Farewell> for RetainedActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Farewell, ctx: &mut Self::Context) -> Self::Result {
        let (answer, left) = oneshot::channel();
        self.leaving.push(answer);
        self.shelf.leave(Instant::now());
        self.pump(ctx);
        Box::pin(async {
            // An actor that ended has nothing more to clear.
            let _ended = left.await;
        })
    }
}
