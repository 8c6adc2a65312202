//! Group commit: what arrives during a commit is queued for the next one. It owns the reply channels of the
//! requests and sends the replies; it does no other I/O.

use std::{cell::RefCell, rc::Rc};

use tokio::sync::oneshot;

use crate::{
    domain::{
        delivery::{DeadReason, DecideError, Decided, Resent, SettledAhead, SettledRange},
        event::DetectionEvent,
        event_log::Receipt,
        ids::{EventId, Seq},
        store_fault::StoreFault,
    },
    messages::{
        outbox::{Decide, PublishError},
        thumbnails::ThumbnailError,
    },
    store::{Batch, Committed, DeadEvent},
};

/// Maximum number of queued events; 8 MiB at about 1 KiB each. Above it, senders are asked to try again.
pub const MAX_QUEUED: usize = 8192;

/// Maximum number of events in a commit. Larger commits are not more efficient, and delay the next one.
const MAX_COMMIT: usize = 2000;

/// Maximum number of ranges that are kept separate only because their times differ: ten seconds' worth. If
/// there are more, because the database cannot store them, they are merged regardless of their times.
const MAX_TIMED_RANGES: usize = 1000;

/// Maximum number of queued decisions.
pub const MAX_DECISIONS: usize = 256;

type DecisionAnswer = oneshot::Sender<Result<Decided, DecideError>>;

/// Where the receipts of a request are sent.
#[derive(Debug)]
pub enum Answer {
    /// To the sender of one event.
    One(ReplySlot),
    /// To the sender of several events.
    Several(oneshot::Sender<Result<Vec<Receipt>, PublishError>>),
    /// To the sender of events whose pictures could not be stored. It gets this error even if the events are
    /// accepted.
    WithoutPictures(Box<Self>, PublishError),
}

impl Answer {
    /// Sends the receipts, or the reason why the events were not accepted.
    pub fn send(self, result: Result<Vec<Receipt>, PublishError>) {
        match self {
            Self::One(slot) => slot.answer(result.and_then(|receipts| {
                // A commit returns one receipt per event.
                receipts.into_iter().next().ok_or(PublishError::Storage(StoreFault::Other))
            })),
            Self::Several(answer) => reply(answer, result),
            Self::WithoutPictures(answer, error) => answer.send(result.and(Err(error))),
        }
    }
}

type OneAnswer = oneshot::Sender<Result<Receipt, PublishError>>;

/// The reply channel of a request with one event. actix hands over the channel only after the handler has
/// returned, so this slot is filled later. Answering from the commit itself saves one task per event.
#[derive(Debug, Clone, Default)]
pub struct ReplySlot(Rc<RefCell<Slot>>);

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Sender(OneAnswer),
    /// The request was refused before the handler returned.
    Result(Result<Receipt, PublishError>),
}

impl ReplySlot {
    /// Sets the channel.
    pub fn set(&self, sender: OneAnswer) {
        if let Slot::Result(result) = self.0.replace(Slot::Empty) {
            reply(sender, result);
        } else {
            self.0.replace(Slot::Sender(sender));
        }
    }

    fn answer(self, result: Result<Receipt, PublishError>) {
        if let Slot::Sender(sender) = self.0.take() {
            reply(sender, result);
        } else {
            self.0.replace(Slot::Result(result));
        }
    }
}

/// One request. Its events are in the same commit, and are answered in one reply.
#[derive(Debug)]
struct Request {
    events: Vec<DetectionEvent>,
    /// The events whose pictures are staged.
    staged: Vec<EventId>,
    answer: Answer,
}

/// The requests and notes that wait for the next commit.
#[derive(Debug, Default)]
pub struct CommitQueue {
    requests: std::collections::VecDeque<Request>,
    events: usize,
    notes: Notes,
    /// The notes of the running commit. They are queued again if it fails.
    committing: Notes,
    decisions: Vec<(Decide, DecisionAnswer)>,
}

/// What a commit records, apart from new events and decisions.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Events that died.
    pub dead: Vec<DeadEvent>,
    /// The ranges that the cursor has passed.
    pub ranges: Vec<SettledRange>,
    /// The events that were delivered ahead of the cursor.
    pub ahead: Vec<SettledAhead>,
    /// Dead events that were delivered after a retry.
    pub resent: Vec<Resent>,
}

impl Notes {
    fn count(&self) -> usize {
        self.dead.len() + self.ranges.len() + self.ahead.len() + self.resent.len()
    }

    /// Returns the other events whose state a commit of these notes changed, such as retried or
    /// dismissed ones.
    pub fn others(&self, committed: &Committed) -> Vec<Seq> {
        let dead = self.dead.iter().map(|dead| dead.seq);
        let ahead = self.ahead.iter().flat_map(|range| (range.first.0..=range.last.0).map(Seq));
        let resent = self.resent.iter().map(|resent| resent.seq);
        let decided = committed.decided.iter().flatten().map(|decided| decided.seq);
        dead.chain(ahead).chain(resent).chain(decided).collect()
    }

    /// Adds later notes.
    fn append(&mut self, mut later: Self) {
        self.dead.append(&mut later.dead);
        self.resent.append(&mut later.resent);
        for range in later.ranges {
            range.append(&mut self.ranges, MAX_TIMED_RANGES);
        }
        for range in later.ahead {
            range.append(&mut self.ahead, MAX_TIMED_RANGES);
        }
    }
}

/// The answer to a request whose events are being committed.
#[derive(Debug)]
struct RequestAnswer {
    events: usize,
    staged: Vec<EventId>,
    answer: Answer,
}

/// The requests of the running commit, which must be answered.
#[derive(Debug)]
pub struct InFlightCommit {
    answers: Vec<RequestAnswer>,
    decision_answers: Vec<DecisionAnswer>,
}

impl CommitQueue {
    /// Returns the number of queued events.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Adds a request. The pictures of the events in `staged` are staged.
    pub fn add(&mut self, events: Vec<DetectionEvent>, staged: Vec<EventId>, answer: Answer) {
        self.events += events.len();
        self.requests.push_back(Request { events, staged, answer });
    }

    /// Adds a dead event.
    pub fn add_dead(&mut self, dead: DeadEvent) {
        self.notes.dead.push(dead);
    }

    /// Adds ranges that the cursor has passed.
    pub fn add_ranges(&mut self, ranges: Vec<SettledRange>) {
        for range in ranges {
            range.append(&mut self.notes.ranges, MAX_TIMED_RANGES);
        }
    }

    /// Adds events that were delivered ahead of the cursor.
    pub fn add_ahead(&mut self, ranges: Vec<SettledAhead>) {
        for range in ranges {
            range.append(&mut self.notes.ahead, MAX_TIMED_RANGES);
        }
    }

    /// Adds a dead event that was delivered after a retry.
    pub fn add_resent(&mut self, resent: Resent) {
        self.notes.resent.push(resent);
    }

    /// Adds a decision.
    pub fn add_decision(&mut self, decide: Decide, answer: DecisionAnswer) {
        self.decisions.push((decide, answer));
    }

    /// Returns the number of queued decisions.
    pub fn decisions(&self) -> usize {
        self.decisions.len()
    }

    /// Returns the number of queued dead events.
    pub fn dead_events(&self) -> usize {
        self.notes.dead.len()
    }

    /// Returns whether an event is queued that is dead because it cannot be read.
    pub fn has_unreadable(&self) -> bool {
        self.notes.dead.iter().any(|dead| dead.reason == DeadReason::Unreadable)
    }

    /// Returns whether the outcome of a retry is queued.
    pub fn has_outcome_of(&self, seq: Seq) -> bool {
        let Notes { dead, resent, .. } = &self.notes;
        resent.iter().any(|resent| resent.seq == seq) || dead.iter().any(|dead| dead.seq == seq)
    }

    /// Returns the number of queued notes: dead events, ranges and delivered retries.
    pub fn notes(&self) -> usize {
        self.notes.count()
    }

    /// Returns the queued ranges if there are no other notes, and none in the running commit.
    pub fn only_ranges(&self) -> Option<&[SettledRange]> {
        let Notes { dead, ranges, ahead, resent } = &self.notes;
        let others = dead.len() + ahead.len() + resent.len() + self.committing.count();
        (others == 0).then_some(ranges)
    }

    /// Returns the notes of the running commit, and those that are queued.
    pub fn unwritten(&self) -> [&Notes; 2] {
        [&self.committing, &self.notes]
    }

    /// Returns whether a request or a decision is queued, which means that a sender waits for the next
    /// commit.
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty() || !self.decisions.is_empty()
    }

    /// Returns whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        !self.has_requests() && self.notes() == 0
    }

    /// Takes the next commit, or returns `None` if nothing is queued. The notes remain queued if `keeps_notes` is set.
    pub fn take(&mut self, keeps_notes: bool) -> Option<(Batch, InFlightCommit)> {
        if self.is_empty() {
            return None;
        }
        let decisions = std::mem::take(&mut self.decisions);
        let (decisions, decision_answers) = decisions
            .into_iter()
            .map(|(Decide { event_id, decision }, answer)| ((event_id, decision), answer))
            .unzip();
        self.committing = if keeps_notes { Notes::default() } else { std::mem::take(&mut self.notes) };
        let Notes { dead, ranges, ahead, resent } = self.committing.clone();
        let mut batch = Batch { deaths: dead, ranges, ahead, resent, decisions, ..Batch::default() };
        let mut answers = Vec::new();
        while let Some(request) = self.requests.front() {
            if !batch.events.is_empty() && batch.events.len() + request.events.len() > MAX_COMMIT {
                break;
            }
            let Some(request) = self.requests.pop_front() else { break };
            self.events -= request.events.len();
            let Request { events, staged, answer } = request;
            answers.push(RequestAnswer { events: events.len(), staged, answer });
            batch.events.extend(events);
        }
        Some((batch, InFlightCommit { answers, decision_answers }))
    }

    /// Sends the error to the requests of a failed commit, and queues its notes again, ahead of those that
    /// were added in the meantime.
    pub fn failed(&mut self, commit: InFlightCommit, fault: StoreFault) {
        let later = std::mem::replace(&mut self.notes, std::mem::take(&mut self.committing));
        self.notes.append(later);
        for RequestAnswer { answer, .. } in commit.answers {
            answer.send(Err(PublishError::Storage(fault)));
        }
        for answer in commit.decision_answers {
            reply(answer, Err(DecideError::Storage(fault)));
        }
    }

    /// Records that the running commit succeeded. Returns its notes.
    pub fn succeeded(&mut self) -> Notes {
        std::mem::take(&mut self.committing)
    }
}

impl InFlightCommit {
    /// Returns the number of events in this commit.
    pub fn events(&self) -> u64 {
        let events = self.answers.iter().map(|request| request.events).sum::<usize>();
        u64::try_from(events).unwrap_or(u64::MAX)
    }

    /// Returns the events whose pictures are staged.
    pub fn staged(&self) -> Vec<EventId> {
        self.answers.iter().flat_map(|request| request.staged.iter().cloned()).collect()
    }

    /// Sends every request its receipts after the commit succeeded, or an error if one of its pictures is among
    /// those that could not be adopted.
    pub fn succeeded(self, committed: &Committed, not_adopted: &[EventId]) {
        let mut receipts = committed.receipts.iter().cloned();
        for RequestAnswer { events, staged, answer } in self.answers {
            let receipts = receipts.by_ref().take(events).collect();
            let has_failed = staged.iter().any(|event_id| not_adopted.contains(event_id));
            let error = PublishError::Thumbnail(ThumbnailError::Storage(StoreFault::Other));
            answer.send(if has_failed { Err(error) } else { Ok(receipts) });
        }
        for (answer, decided) in self.decision_answers.into_iter().zip(&committed.decided) {
            reply(answer, decided.clone());
        }
    }
}

fn reply<T>(sender: oneshot::Sender<T>, result: T) {
    // The receiver may have been dropped; the request has been carried out nevertheless.
    let _gone = sender.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock::{self, Moment},
        delivery::Settlement,
        event::EventInput,
        ids::Seq,
    };

    fn event() -> DetectionEvent {
        EventInput { camera_id: "c".into(), description: "d".into(), ..EventInput::default() }
            .validate()
            .unwrap()
    }

    #[test]
    fn a_request_is_never_split_over_two_commits() {
        let mut queue = CommitQueue::default();
        for count in [1500, 1000, 10] {
            queue.add(vec![event(); count], Vec::new(), Answer::Several(oneshot::channel().0));
        }
        let sizes: Vec<_> = std::iter::from_fn(|| queue.take(false)).map(|(b, _)| b.events.len()).collect();
        assert_eq!(sizes, [1500, 1010]);
        assert_eq!(queue.events(), 0);
    }

    #[test]
    fn notes_of_a_failed_commit_are_first_in_the_next_one() {
        let at = Moment::at(clock::from_micros(0));
        let range = |up_to, late| SettledRange {
            up_to: Seq(up_to),
            settlement: Settlement { at, late, heard: None },
        };
        let mut queue = CommitQueue::default();
        queue.add_ranges(vec![range(1, false), range(2, true)]);
        let (_, commit) = queue.take(false).unwrap();
        queue.add_ranges(vec![range(3, true), range(4, false)]);
        queue.failed(commit, StoreFault::Locked);
        let (batch, _) = queue.take(false).unwrap();
        assert_eq!(batch.ranges, [range(1, false), range(3, true), range(4, false)]);
    }

    #[test]
    fn a_failed_commit_answers_its_requests() {
        let mut queue = CommitQueue::default();
        let (sender, mut receiver) = oneshot::channel();
        queue.add(vec![event()], Vec::new(), Answer::Several(sender));
        let (_, commit) = queue.take(false).unwrap();
        queue.failed(commit, StoreFault::Locked);
        assert_eq!(receiver.try_recv().unwrap(), Err(PublishError::Storage(StoreFault::Locked)));
    }
}
