//! Retained messages: keeps what the broker retains equal to what the cameras and discovery want.
//!
//! The `RetainedActor` owns the table of topics that may hold a message of this service, and decides in which
//! order and at which rate states and discovery are published. It does not depend on cameras or Home
//! Assistant.
//!
//! It guarantees:
//!
//! - The newest content wins; nothing is queued.
//! - After each new connection, everything is published again.
//! - A topic that is no longer wanted is cleared as soon as its broker can be reached, even after a crash.
//! - Only topics of this service, and of a program that it replaces, are cleared.
//!
//! `state` decides what to send; this module sends it, and `rows` keeps the table up to date.

mod hand_over;
mod rows;
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
    hand_over::HandingOver,
    state::{Job, RetainedState, Target},
};
use crate::{
    domain::{
        ids::{LinkId, Seq},
        retained::{Content, Kind},
        settings::SettingsChange,
        status::{Failure, FailureKind},
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        config::SettingsChanged,
        connection::PublishState,
        link::{LinkDown, LinkUp},
        retained::{ClearBroker, REPUBLISH_TIMEOUT, Republish, Republished, Retain, RetainAll},
        thumbnails::GetRendition,
    },
    store::Store,
};

/// Maximum number of requests in the mailbox. Facts bypass this limit; their senders limit their number.
const MAILBOX: usize = 256;

/// Notifies Home Assistant that an entity migrates to another discovery topic.
const MIGRATION_NOTICE: &[u8] = br#"{"migrate_discovery": true}"#;

/// The actors that the `RetainedActor` sends messages to.
#[derive(Debug, Clone)]
pub struct RetainedPeers {
    /// Returns the pictures that are published.
    pub thumbnails: Recipient<GetRendition>,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    broker: String,
    publish: Recipient<PublishState>,
}

/// The outcome of sending a message.
#[derive(Debug)]
enum Outcome {
    Accepted,
    /// The broker refused the message for good.
    Refused(Failure),
    /// There is nothing to publish.
    Unpublishable,
    Unknown,
}

/// A [`Republish`] request that waits for the broker.
#[derive(Debug)]
struct Republishing {
    groups: BTreeMap<Arc<str>, Vec<String>>,
    /// Topics that the broker has not answered yet.
    unanswered: Vec<String>,
    until: Instant,
    reply: oneshot::Sender<Option<Republished>>,
}

impl Republishing {
    fn is_over(&mut self, state: &RetainedState, now: Instant) -> bool {
        while self.unanswered.pop_if(|topic| state.acceptance(topic).is_some()).is_some() {}
        self.unanswered.is_empty() || self.until <= now
    }

    fn reply(self, state: &RetainedState) {
        let mut republished = Republished::default();
        for (name, topics) in self.groups {
            let acceptances = || topics.iter().map(|topic| state.acceptance(topic));
            if acceptances().all(|accepted| accepted == Some(true)) {
                republished.acknowledged.push(name);
            } else if acceptances().any(|accepted| accepted.is_none()) {
                republished.unanswered.push(name);
            } else {
                republished.refused.push(name);
            }
        }
        // The receiver may have been dropped.
        let _dropped = self.reply.send(Some(republished));
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RetainedActor {
    store: Store,
    state: RetainedState,
    link: Option<Link>,
    /// Kinds of messages that the broker has refused on this connection. A warning was logged once for each
    /// of them.
    refused: BTreeSet<Kind>,
    peers: RetainedPeers,
    /// Whether a read or write of the table is running, or must wait after an error.
    rows_busy: bool,
    timer: Option<(Instant, SpawnHandle)>,
    republishing: Vec<Republishing>,
    leaving: Vec<oneshot::Sender<()>>,
    /// The picture that the outbox waits for.
    handing_over: Option<HandingOver>,
    /// The size of the pictures that the broker has not acknowledged, in bytes.
    unanswered_picture_bytes: usize,
    _crash_guard: CrashGuard,
}

impl RetainedActor {
    /// Returns an actor that waits for its first connection.
    pub fn new(store: Store, peers: RetainedPeers, crashed: UnboundedSender<&'static str>) -> Self {
        Self {
            store,
            state: RetainedState::default(),
            link: None,
            refused: BTreeSet::new(),
            peers,
            rows_busy: false,
            timer: None,
            republishing: Vec::new(),
            leaving: Vec::new(),
            handing_over: None,
            unanswered_picture_bytes: 0,
            _crash_guard: CrashGuard::new("retained", crashed),
        }
    }

    /// Sends everything that can be sent now, and replies to requests that are complete. Sends nothing until
    /// the broker's rows have been read.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.sync_rows(ctx);
        self.hand_over(ctx);
        while let Some(job) = self.state.next_job(Instant::now()) {
            self.send(job, ctx);
        }
        self.reply_to_requests();
        self.set_timer(ctx);
    }

    fn send(&mut self, job: Job, ctx: &mut Context<Self>) {
        let payload = match &job.target {
            Target::Content(Content::Bytes(bytes)) => bytes.clone(),
            Target::Content(Content::Thumbnail { seq, .. }) => return self.read_picture(*seq, job, ctx),
            Target::MigrationNotice => Bytes::from_static(MIGRATION_NOTICE),
            Target::Content(Content::External { .. }) | Target::Nothing => Bytes::new(),
        };
        self.submit(job, payload, ctx);
    }

    /// Reads the picture and sends it. There is nothing to send if the picture was removed with its event, or could
    /// not be read, which is logged. The broker then keeps the previous message.
    fn read_picture(&self, seq: Seq, job: Job, ctx: &mut Context<Self>) {
        let Some(Link { id: link, .. }) = self.link else { return };
        let read = self.peers.thumbnails.send(GetRendition(seq));
        let picture = async move { Some(read.await.ok()?.ok()??.image) };
        ctx.spawn(picture.into_actor(self).map(move |picture, act, ctx| {
            if !act.is_current(link) {
                return;
            }
            match picture {
                Some(picture) => {
                    act.state.submitted(&job.topic);
                    act.submit(job, picture, ctx);
                }
                None => act.answered(&job, Outcome::Unpublishable),
            }
            act.pump(ctx);
        }));
    }

    /// Puts the message into the connection's mailbox, and waits for the broker's answer.
    fn submit(&mut self, job: Job, payload: Bytes, ctx: &mut Context<Self>) {
        let Some(Link { id, publish, .. }) = &self.link else { return };
        let (link, topic) = (*id, job.topic.clone());
        let bytes = if job.target.is_picture() { payload.len() } else { 0 };
        let answer = publish.send(PublishState { topic, payload, retain: true });
        self.unanswered_picture_bytes += bytes;
        ctx.spawn(answer.into_actor(self).map(move |answer, act, ctx| {
            if !act.is_current(link) {
                return;
            }
            act.unanswered_picture_bytes -= bytes;
            let outcome = match answer {
                Ok(Ok(_)) => Outcome::Accepted,
                Ok(Err(failure)) if is_permanent(failure.kind) => Outcome::Refused(failure),
                // The broker accepts no more messages at the moment, or the connection has ended, which
                // `LinkDown` reports.
                Ok(Err(_)) | Err(_) => Outcome::Unknown,
            };
            act.answered(&job, outcome);
            act.pump(ctx);
        }));
    }

    fn is_current(&self, link: LinkId) -> bool {
        self.link.as_ref().is_some_and(|current| current.id == link)
    }

    fn answered(&mut self, job: &Job, outcome: Outcome) {
        let accepted = match outcome {
            Outcome::Accepted => Some(true),
            Outcome::Unpublishable => Some(false),
            Outcome::Refused(Failure { kind, message }) => {
                let (topic, kind, reason) = (&job.topic, kind.as_str(), message);
                if self.refused.insert(job.kind) {
                    tracing::warn!(
                        topic,
                        kind,
                        reason,
                        "the broker refused a retained message; further refusals of this connection are \
                         logged at debug level"
                    );
                } else {
                    tracing::debug!(topic, kind, reason, "the broker refused a retained message");
                }
                Some(false)
            }
            Outcome::Unknown => None,
        };
        self.state.answered(job, accepted, Instant::now());
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let timeouts = self.republishing.iter().map(|request| request.until);
        let due = timeouts.chain(self.state.next_due()).min();
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

    fn drop_link(&mut self, ctx: &mut Context<Self>) {
        self.link = None;
        self.unanswered_picture_bytes = 0;
        self.state.link_down();
        self.hand_over(ctx);
        for Republishing { reply, .. } in self.republishing.drain(..) {
            // The receiver may have been dropped.
            let _dropped = reply.send(None);
        }
        self.reply_to_requests();
        self.set_timer(ctx);
    }

    fn reply_to_requests(&mut self) {
        let (state, now) = (&self.state, Instant::now());
        for request in self.republishing.extract_if(.., |request| request.is_over(state, now)) {
            request.reply(state);
        }
        if self.link.is_none() || (self.state.has_left() && !self.rows_busy) {
            for reply in self.leaving.drain(..) {
                let _dropped = reply.send(());
            }
        }
    }
}

/// Returns whether a message that failed in this way would fail again.
fn is_permanent(kind: FailureKind) -> bool {
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
        self.state.put_all(owner, groups, Instant::now());
        self.pump(ctx);
    }
}

impl Handler<Retain> for RetainedActor {
    type Result = ();

    fn handle(&mut self, Retain { owner, group }: Retain, ctx: &mut Self::Context) {
        self.state.put(owner, group, Instant::now());
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
        let groups = self.state.republish(kind, now);
        let unanswered = groups.values().flatten().cloned().collect();
        let (reply, replied) = oneshot::channel();
        let until = now + REPUBLISH_TIMEOUT;
        self.republishing.push(Republishing { groups, unanswered, until, reply });
        self.pump(ctx);
        Box::pin(async { replied.await.unwrap_or(None) })
    }
}

impl Handler<LinkUp> for RetainedActor {
    type Result = ();

    fn handle(&mut self, LinkUp { link, broker, publish, .. }: LinkUp, ctx: &mut Self::Context) {
        self.state.link_down();
        self.unanswered_picture_bytes = 0;
        self.refused.clear();
        self.link = Some(Link { id: link, broker, publish });
        self.pump(ctx);
    }
}

impl Handler<LinkDown> for RetainedActor {
    type Result = ();

    fn handle(&mut self, LinkDown { link }: LinkDown, ctx: &mut Self::Context) {
        if self.link.as_ref().is_some_and(|current| current.id == link) {
            self.drop_link(ctx);
        }
    }
}

impl Handler<SettingsChanged> for RetainedActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, change, .. }: SettingsChanged, ctx: &mut Self::Context) {
        if change == SettingsChange::Outbox {
            return;
        }
        // Every other change to the settings ends the connection. A message sent in its last moments might be lost
        // and would be sent twice; Home Assistant warns about a device that is removed twice. A broker that
        // is left for another one keeps its connection, because it must still be cleared.
        let leaves = |link: &Link| settings.enabled && !settings.is_broker(&link.broker);
        if self.link.as_ref().is_some_and(|link| !leaves(link)) {
            self.drop_link(ctx);
        }
    }
}

impl Handler<ClearBroker> for RetainedActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: ClearBroker, ctx: &mut Self::Context) -> Self::Result {
        let (reply, left) = oneshot::channel();
        self.leaving.push(reply);
        self.state.leave(Instant::now());
        self.pump(ctx);
        Box::pin(async {
            // If the actor stops, it drops the sender. Then there is nothing more to wait for.
            let _ended = left.await;
        })
    }
}
