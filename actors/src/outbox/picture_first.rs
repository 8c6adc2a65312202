//! Pictures first: a live event that came with a picture is sent only after its picture has been handed over to the
//! connection, so that the camera shows the event's picture when the event arrives. No clock, no I/O.
//!
//! Events are sent in the order in which they were planned, so later events wait behind such an event. Everything
//! that waits is in flight, so the window limits it. An event waits for at most [`MAX_WAIT`]. Events without a picture
//! do not wait unless another event waits.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{ids::Seq, topic::camera_of_live_topic},
    messages::connection::{Deliver, Outgoing},
};

/// Maximum time for which an event waits for its own picture and for the events before it.
pub const MAX_WAIT: Duration = Duration::from_secs(1);

/// How long the events of a camera do not wait after one of its pictures was not handed over in time.
const GIVE_UP_FOR: Duration = Duration::from_secs(10);

/// Maximum number of cameras whose events do not wait. At this limit, the events of the one that was added first wait
/// again.
const MAX_GIVEN_UP: usize = 64;

/// Maximum number of pending events that are known to have a picture, about 1 MiB. At this limit they are forgotten;
/// before they are sent, the thumbnail actor is asked about them.
const MAX_KNOWN: usize = 10_000;

/// What an event waits for, apart from the events before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Its picture must be handed over.
    Picture,
    /// It is not known whether it has a picture.
    Unknown,
    /// The thumbnail actor was asked.
    Asked,
}

#[derive(Debug)]
struct Held {
    event: Outgoing,
    /// See [`Deliver::pauses`].
    pauses: u64,
    until: Instant,
    need: Need,
}

/// A picture to hand over now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// Identifies this attempt.
    pub ticket: u64,
    /// The event's position.
    pub seq: Seq,
    /// The event's topic.
    pub event_topic: String,
    /// When the event is sent without waiting any longer.
    pub until: Instant,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct PictureFirst {
    /// The pending events from `known_from` on that came with a picture.
    known: BTreeSet<Seq>,
    known_from: Seq,
    held: VecDeque<Held>,
    /// The last attempt, and whether it is still running for the first event in `held`.
    ticket: u64,
    is_handing_over: bool,
    /// The live topics of the cameras whose events do not wait, and until when.
    given_up: VecDeque<(Instant, String)>,
}

impl PictureFirst {
    /// Creates the state at the start. Which of the events up to `last_seq` have a picture is not known.
    pub fn new(last_seq: Seq) -> Self {
        Self {
            known: BTreeSet::new(),
            known_from: last_seq.next(),
            held: VecDeque::new(),
            ticket: 0,
            is_handing_over: false,
            given_up: VecDeque::new(),
        }
    }

    /// Records the events of a commit whose pictures were adopted. All events before `first_open` are settled.
    pub fn committed(&mut self, with_picture: impl Iterator<Item = Seq>, first_open: Seq, last_seq: Seq) {
        self.known.extend(with_picture);
        if self.known.first().is_some_and(|first| *first < first_open) {
            self.known = self.known.split_off(&first_open);
        }
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
            self.known_from = last_seq.next();
        }
    }

    /// Returns whether these events can be sent without calling [`add`](Self::add).
    pub fn lets_pass(&self, events: &[Outgoing]) -> bool {
        self.held.is_empty() && events.iter().all(|event| self.need(event) == Need::Nothing)
    }

    fn need(&self, event: &Outgoing) -> Need {
        let is_known = event.seq >= self.known_from;
        if is_known && !self.known.contains(&event.seq) || camera_of_live_topic(&event.topic).is_none() {
            Need::Nothing
        } else if is_known {
            Need::Picture
        } else {
            Need::Unknown
        }
    }

    /// Adds events to send. An event that `must_not_wait` does not wait, and neither do the events before it.
    pub fn add(
        &mut self,
        Deliver { events, pauses }: Deliver,
        now: Instant,
        must_not_wait: impl Fn(Seq) -> bool,
    ) {
        for event in events {
            let until = if must_not_wait(event.seq) { now } else { now + MAX_WAIT };
            let need = self.need(&event);
            self.held.push_back(Held { event, pauses, until, need });
        }
    }

    /// Returns the events for which the thumbnail actor must be asked whether they have a picture.
    pub fn take_unknown(&mut self) -> Vec<Seq> {
        let unknown = self.held.iter_mut().filter(|held| held.need == Need::Unknown);
        unknown
            .map(|held| {
                held.need = Need::Asked;
                held.event.seq
            })
            .collect()
    }

    /// Records which events have a picture.
    pub fn found(&mut self, have_pictures: &HashMap<Seq, bool>) {
        for held in self.held.iter_mut().filter(|held| held.need == Need::Asked) {
            if let Some(has_picture) = have_pictures.get(&held.event.seq) {
                held.need = if *has_picture { Need::Picture } else { Need::Nothing };
            }
        }
    }

    /// Takes the events that can be sent now, in order.
    pub fn ready(&mut self, now: Instant) -> Vec<Deliver> {
        let mut overdue = self.held.iter().rposition(|held| held.until <= now).map_or(0, |last| last + 1);
        let mut ready: Vec<Deliver> = Vec::new();
        while let Some(first) = self.held.front() {
            if overdue == 0 && first.need != Need::Nothing && !self.has_given_up(&first.event.topic, now) {
                break;
            }
            overdue = overdue.saturating_sub(1);
            self.is_handing_over = false;
            let Some(Held { event, pauses, .. }) = self.held.pop_front() else { break };
            match ready.last_mut().filter(|last| last.pauses == pauses) {
                Some(last) => last.events.push(event),
                None => ready.push(Deliver { events: vec![event], pauses }),
            }
        }
        ready
    }

    fn has_given_up(&self, topic: &str, now: Instant) -> bool {
        self.given_up.iter().any(|(until, given_up)| given_up == topic && *until > now)
    }

    /// Returns the picture to hand over now. Must be called after [`ready`](Self::ready).
    pub fn wanted(&mut self) -> Option<HandOver> {
        let first = self.held.front().filter(|first| first.need == Need::Picture && !self.is_handing_over)?;
        self.ticket += 1;
        self.is_handing_over = true;
        let (event_topic, seq) = (first.event.topic.clone(), first.event.seq);
        Some(HandOver { ticket: self.ticket, seq, event_topic, until: first.until })
    }

    /// Records the end of an attempt: the picture was handed over, or the event has waited long enough. Ignores an
    /// attempt that is outdated.
    pub fn handed_over(&mut self, ticket: u64, in_time: bool, now: Instant) {
        if ticket != self.ticket || !std::mem::take(&mut self.is_handing_over) {
            return;
        }
        let Some(first) = self.held.front_mut() else { return };
        first.need = Need::Nothing;
        if !in_time {
            self.given_up.retain(|(until, topic)| *until > now && *topic != first.event.topic);
            if self.given_up.len() >= MAX_GIVEN_UP {
                self.given_up.pop_front();
            }
            self.given_up.push_back((now + GIVE_UP_FOR, first.event.topic.clone()));
        }
    }

    /// Forgets everything that waits, because the link has ended.
    pub fn link_down(&mut self) {
        self.held.clear();
        self.is_handing_over = false;
    }
}

#[cfg(test)]
#[path = "picture_first_tests.rs"]
mod tests;
