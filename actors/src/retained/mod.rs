//! What of ours stands retained at the broker: kept equal to what the cameras and discovery want.
//!
//! Owns the table of topics that may hold something of ours, and the order and pace in which states and discovery leave.
//! Promises: the newest value wins and nothing is queued; after each new connection everything stands again; what is not
//! wanted any more is cleared as soon as its broker can be reached, whatever happened meanwhile; nothing is ever cleared
//! that is not ours. Knows neither cameras nor Home Assistant.

mod rows;
mod size_bans;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture, SpawnHandle,
    WrapFuture as _,
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::Instant,
};

use self::{
    size_bans::SizeBans,
    state::{Job, RetainedState, Target},
};
use crate::{
    domain::{
        ids::LinkId,
        retained::{Content, Kind},
        status::{Failure, FailureKind},
        suspects::MessageRef,
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        config::SettingsChanged,
        connection::PublishState,
        link::{LinkDown, LinkUp},
        retained::{ClearBroker, REPUBLISH_PATIENCE, Republish, Republished, Retain, RetainAll},
        thumbnails::GetThumbnailAt,
    },
    store::Store,
};

/// Requests that may wait in the mailbox; facts are bounded by their senders.
const MAILBOX: usize = 256;

/// The payload that tells Home Assistant that an entity moves to another discovery topic.
const MOVES: &[u8] = br#"{"migrate_discovery": true}"#;

#[derive(Debug)]
struct Link {
    id: LinkId,
    broker: String,
    publish: Recipient<PublishState>,
}

/// What became of a message.
#[derive(Debug)]
enum Answer {
    Taken,
    /// The broker refused it for good.
    Refused(Failure),
    /// There is nothing to publish (any more), or the broker ends the connection over it.
    Unpublishable,
    Unknown,
}

/// Somebody waits until all of these stand.
#[derive(Debug)]
struct Waiting {
    groups: BTreeMap<Arc<str>, Vec<String>>,
    /// Topics of which nobody knew yet whether they stand.
    open: Vec<String>,
    until: Instant,
    answer: oneshot::Sender<Option<Republished>>,
}

impl Waiting {
    /// Whether the wait is over.
    fn is_over(&mut self, known: &RetainedState, now: Instant) -> bool {
        while self.open.pop_if(|topic| known.stands(topic).is_some()).is_some() {}
        self.open.is_empty() || self.until <= now
    }

    fn tell(self, known: &RetainedState) {
        let mut republished = Republished::default();
        for (name, topics) in self.groups {
            let stand = || topics.iter().map(|topic| known.stands(topic));
            if stand().all(|stands| stands == Some(true)) {
                republished.stand.push(name);
            } else if stand().any(|stands| stands.is_none()) {
                republished.unanswered.push(name);
            } else {
                republished.refused.push(name);
            }
        }
        // Whoever asked may have stopped waiting.
        let _gone = self.answer.send(Some(republished));
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RetainedActor {
    store: Store,
    shelf: RetainedState,
    link: Option<Link>,
    /// Of what the broker of this link has refused something.
    refused: BTreeSet<Kind>,
    blames: SizeBans,
    thumbnails: Recipient<GetThumbnailAt>,
    /// Rows are read, written or removed: one after the other, so that they end as they should.
    rows_busy: bool,
    timer: Option<(Instant, SpawnHandle)>,
    waiting: Vec<Waiting>,
    leaving: Vec<oneshot::Sender<()>>,
    _crash_guard: CrashGuard,
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
            shelf: RetainedState::default(),
            link: None,
            refused: BTreeSet::new(),
            blames: SizeBans::default(),
            thumbnails,
            rows_busy: false,
            timer: None,
            waiting: Vec::new(),
            leaving: Vec::new(),
            _crash_guard: CrashGuard::new("retained", crashed),
        }
    }

    /// Sends what may be sent; nothing, until it is known what may stand at the broker.
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
        let (mark, topic) = (job.mark.clone(), job.topic.clone());
        let found = async move { payload(&mark, &thumbnails).await };
        let sent = found.into_actor(self).then(move |payload, act: &mut Self, _| {
            let may_go = |payload: &Bytes| !act.blames.forbid(&topic, payload.len(), Instant::now());
            let payload = payload.filter(may_go);
            async move {
                let Some(payload) = payload else { return (0, Answer::Unpublishable) };
                let bytes = payload.len();
                let answer = match publish.send(PublishState { topic, payload, retain: true }).await {
                    Ok(Ok(())) => Answer::Taken,
                    Ok(Err(failure)) if refuses(failure.kind) => Answer::Refused(failure),
                    // The broker takes no more at the moment, or the link is gone: its end is told.
                    Ok(Err(_)) | Err(_) => Answer::Unknown,
                };
                (bytes, answer)
            }
            .into_actor(act)
        });
        ctx.spawn(sent.map(move |(bytes, answer), act, ctx| {
            if act.link.as_ref().is_some_and(|current| current.id == link) {
                act.answered(&job, bytes, answer);
                act.pump(ctx);
            }
        }));
    }

    fn answered(&mut self, job: &Job, bytes: usize, answer: Answer) {
        let taken = match answer {
            Answer::Taken => {
                self.blames.taken(&job.topic, bytes);
                Some(true)
            }
            Answer::Unpublishable => Some(false),
            Answer::Refused(Failure { kind, message }) => {
                let (topic, kind, reason) = (&job.topic, kind.as_str(), message);
                if self.refused.insert(job.kind) {
                    tracing::warn!(
                        topic,
                        kind,
                        reason,
                        "state not published; others like it are logged as DEBUG while this connection lasts"
                    );
                } else {
                    tracing::debug!(topic, kind, reason, "state not published");
                }
                Some(false)
            }
            Answer::Unknown => None,
        };
        self.shelf.answered(job, taken, Instant::now());
    }

    /// A link ended over a protocol error with only this message in flight.
    fn broke_link(&mut self, topic: &str, bytes: usize) {
        let known = &self.shelf;
        self.blames.keep(|topic| known.knows(topic));
        if known.knows(topic) && self.blames.link_ended(topic, bytes, Instant::now()) {
            let minutes = size_bans::LASTS.as_secs() / 60;
            tracing::warn!(
                topic,
                bytes,
                minutes,
                "the broker ends the connection over this message: nothing of this length is sent to this topic for a while; \
                 does the broker limit the size of messages?"
            );
        }
    }

    fn wake_up(&mut self, ctx: &mut Context<Self>) {
        let impatient = self.waiting.iter().map(|waiting| waiting.until);
        let due = impatient.chain(self.shelf.due()).min();
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
        let (known, now) = (&self.shelf, Instant::now());
        for waiting in self.waiting.extract_if(.., |waiting| waiting.is_over(known, now)) {
            waiting.tell(known);
        }
        if self.link.is_none() || (self.shelf.has_left() && !self.rows_busy) {
            for answer in self.leaving.drain(..) {
                let _gone = answer.send(());
            }
        }
    }
}

/// `None` when there is nothing to send: a picture that was removed with its event, or cannot be read, which was logged.
/// What stands there stays.
async fn payload(mark: &Target, thumbnails: &Recipient<GetThumbnailAt>) -> Option<Bytes> {
    let payload = match mark {
        Target::Content(Content::Bytes(bytes)) => bytes.clone(),
        Target::Content(Content::Thumbnail { seq, .. }) => {
            thumbnails.send(GetThumbnailAt(*seq)).await.ok()?.ok()??.image
        }
        Target::Moves => Bytes::from_static(MOVES),
        Target::Content(Content::External { .. }) | Target::Nothing => Bytes::new(),
    };
    Some(payload)
}

/// Whether a message that failed in this way fails again.
fn refuses(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Refused | FailureKind::NotAuthorized)
}

impl Actor for RetainedActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

stops_on_request!(RetainedActor);

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
    type Result = ResponseFuture<Option<Republished>>;

    fn handle(&mut self, Republish(kind): Republish, ctx: &mut Self::Context) -> Self::Result {
        if self.link.is_none() {
            return Box::pin(async { None });
        }
        let now = Instant::now();
        let groups = self.shelf.again(kind, now);
        let open = groups.values().flatten().cloned().collect();
        let (answer, answered) = oneshot::channel();
        self.waiting.push(Waiting { groups, open, until: now + REPUBLISH_PATIENCE, answer });
        self.pump(ctx);
        Box::pin(async { answered.await.unwrap_or(None) })
    }
}

impl Handler<LinkUp> for RetainedActor {
    type Result = ();

    fn handle(&mut self, LinkUp { link, broker, publish, .. }: LinkUp, ctx: &mut Self::Context) {
        self.shelf.link_down();
        self.refused.clear();
        self.blames.link_up(&broker);
        self.link = Some(Link { id: link, broker, publish });
        self.pump(ctx);
    }
}

impl Handler<LinkDown> for RetainedActor {
    type Result = ();

    fn handle(&mut self, LinkDown { link, sole_suspect, .. }: LinkDown, ctx: &mut Self::Context) {
        if self.link.as_ref().is_some_and(|current| current.id == link) {
            if let Some(MessageRef::State { topic, bytes }) = sole_suspect {
                self.broke_link(&topic, bytes);
            }
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
        let moves = |link: &Link| settings.enabled && !settings.is_broker(&link.broker);
        if self.link.as_ref().is_some_and(|link| !moves(link)) {
            self.leave_link(ctx);
        }
    }
}

impl Handler<ClearBroker> for RetainedActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: ClearBroker, ctx: &mut Self::Context) -> Self::Result {
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
