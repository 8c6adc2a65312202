//! Group commit: while one commit is on its way, what arrives gathers for the next. Pure.

use std::{cell::RefCell, rc::Rc};

use tokio::sync::oneshot;

use crate::{
    domain::{
        delivery::{DecideError, Decided, Resent, SettledRange},
        event::DetectionEvent,
        event_log::Receipt,
        ids::Seq,
        store_fault::StoreFault,
    },
    messages::outbox::{Decide, PublishError},
    store::{Batch, Committed, DeadEvent},
};

/// So many events may gather while a commit is on its way; at some 1 KiB each that is 8 MiB. Past it, sources are asked to
/// come again.
pub const MAX_GATHERED: usize = 8192;

/// So many events go into one commit: larger ones gain nothing and hold the next one up.
const MAX_COMMIT: usize = 2000;

/// So many decisions may gather while a commit is on its way.
pub const MAX_DECISIONS: usize = 256;

type DecisionAnswer = oneshot::Sender<Result<Decided, DecideError>>;

/// Who waits for the receipts of a request.
#[derive(Debug)]
pub enum Answer {
    /// Somebody who sent one event.
    One(ReplySlot),
    /// Somebody who sent several.
    Several(oneshot::Sender<Result<Vec<Receipt>, PublishError>>),
}

impl Answer {
    fn send(self, result: Result<Vec<Receipt>, PublishError>) {
        match self {
            Self::One(asker) => asker.answer(result.and_then(|receipts| {
                let nothing = || PublishError::Storage(StoreFault::Other);
                receipts.into_iter().next().ok_or_else(nothing)
            })),
            Self::Several(answer) => answered(answer, result),
        }
    }
}

type OneAnswer = oneshot::Sender<Result<Receipt, PublishError>>;

/// Somebody who sent one event, and is answered without a task in between.
#[derive(Debug, Clone, Default)]
pub struct ReplySlot(Rc<RefCell<Option<OneAnswer>>>);

impl ReplySlot {
    /// Answers this one.
    pub fn is(&self, sender: OneAnswer) {
        self.0.replace(Some(sender));
    }

    fn answer(self, result: Result<Receipt, PublishError>) {
        if let Some(sender) = self.0.take() {
            answered(sender, result);
        }
    }
}

/// One request: its events stay together, and are answered together.
#[derive(Debug)]
struct Request {
    events: Vec<DetectionEvent>,
    answer: Answer,
}

/// What waits for the next commit.
#[derive(Debug, Default)]
pub struct CommitQueue {
    requests: std::collections::VecDeque<Request>,
    events: usize,
    deaths: Vec<DeadEvent>,
    ranges: Vec<SettledRange>,
    resent: Vec<Resent>,
    decisions: Vec<(Decide, DecisionAnswer)>,
}

/// Who is answered by a commit that is on its way, and what must be noted again if it fails.
#[derive(Debug)]
pub struct InFlightCommit {
    answers: Vec<(usize, Answer)>,
    deciders: Vec<DecisionAnswer>,
    deaths: Vec<DeadEvent>,
    ranges: Vec<SettledRange>,
    resent: Vec<Resent>,
}

impl CommitQueue {
    /// How many events wait for a commit.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Adds a request for the next commit.
    pub fn add(&mut self, events: Vec<DetectionEvent>, answer: Answer) {
        self.events += events.len();
        self.requests.push_back(Request { events, answer });
    }

    /// Notes a death for the next commit.
    pub fn add_death(&mut self, death: DeadEvent) {
        self.deaths.push(death);
    }

    /// Notes for the next commit what the cursor has passed.
    pub fn add_runs(&mut self, ranges: Vec<SettledRange>) {
        for run in ranges {
            match self.ranges.last_mut() {
                Some(last) if last.late == run.late => last.up_to = run.up_to,
                _ => self.ranges.push(run),
            }
        }
    }

    /// Notes for the next commit that an event was delivered after it had been dead.
    pub fn add_resent(&mut self, resent: Resent) {
        self.resent.push(resent);
    }

    /// Adds a decision for the next commit.
    pub fn add_decision(&mut self, decide: Decide, answer: DecisionAnswer) {
        self.decisions.push((decide, answer));
    }

    /// How many decisions wait for a commit.
    pub fn decisions(&self) -> usize {
        self.decisions.len()
    }

    /// How many deaths wait for a commit.
    pub fn deaths(&self) -> usize {
        self.deaths.len()
    }

    /// Whether what became of an event that was to be sent again waits for a commit.
    pub fn knows_the_end_of(&self, seq: Seq) -> bool {
        self.resent.iter().any(|resent| resent.seq == seq) || self.deaths.iter().any(|death| death.seq == seq)
    }

    /// How many notes (deaths, checkpoints) wait for a commit.
    pub fn notes(&self) -> usize {
        self.deaths.len() + self.ranges.len() + self.resent.len()
    }

    /// Whether anybody waits for the next commit.
    pub fn is_asked(&self) -> bool {
        !self.requests.is_empty() || !self.decisions.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        !self.is_asked() && self.notes() == 0
    }

    /// Takes the next commit; `None` when nothing waits.
    pub fn take(&mut self) -> Option<(Batch, InFlightCommit)> {
        if self.is_empty() {
            return None;
        }
        let decisions = std::mem::take(&mut self.decisions);
        let (decisions, deciders) = decisions
            .into_iter()
            .map(|(Decide { event_id, decision }, answer)| ((event_id, decision), answer))
            .unzip();
        let mut batch = Batch {
            events: Vec::new(),
            deaths: std::mem::take(&mut self.deaths),
            ranges: std::mem::take(&mut self.ranges),
            resent: std::mem::take(&mut self.resent),
            decisions,
        };
        let mut answers = Vec::new();
        while let Some(request) = self.requests.front() {
            if !batch.events.is_empty() && batch.events.len() + request.events.len() > MAX_COMMIT {
                break;
            }
            let Some(request) = self.requests.pop_front() else { break };
            self.events -= request.events.len();
            answers.push((request.events.len(), request.answer));
            batch.events.extend(request.events);
        }
        let (deaths, ranges, resent) = (batch.deaths.clone(), batch.ranges.clone(), batch.resent.clone());
        let on_its_way = InFlightCommit { answers, deciders, deaths, ranges, resent };
        Some((batch, on_its_way))
    }

    /// A commit failed: its notes wait for the next one, before those that came meanwhile. Its requests are told.
    pub fn failed(&mut self, on_its_way: InFlightCommit, fault: StoreFault) {
        let InFlightCommit { answers, deciders, mut deaths, ranges, mut resent } = on_its_way;
        deaths.append(&mut self.deaths);
        self.deaths = deaths;
        resent.append(&mut self.resent);
        self.resent = resent;
        let later = std::mem::replace(&mut self.ranges, ranges);
        self.add_runs(later);
        for (_, answer) in answers {
            answer.send(Err(PublishError::Storage(fault)));
        }
        for answer in deciders {
            answered(answer, Err(DecideError::Storage(fault)));
        }
    }
}

impl InFlightCommit {
    /// How many events it was to store.
    pub fn events(&self) -> u64 {
        let events = self.answers.iter().map(|(events, _)| events).sum::<usize>();
        u64::try_from(events).unwrap_or(u64::MAX)
    }

    /// What the cursor passes with this commit.
    pub fn ranges(&self) -> &[SettledRange] {
        &self.ranges
    }

    /// The events whose state this commit changed in another way.
    pub fn others(&self, committed: &Committed) -> Vec<Seq> {
        let deaths = self.deaths.iter().map(|death| death.seq);
        let resent = self.resent.iter().map(|resent| resent.seq);
        let decided = committed.decided.iter().flatten().map(|decided| decided.seq);
        deaths.chain(resent).chain(decided).collect()
    }

    /// The commit succeeded: every request gets its receipts.
    pub fn succeeded(self, committed: &Committed) {
        let mut receipts = committed.receipts.iter().cloned();
        for (count, answer) in self.answers {
            answer.send(Ok(receipts.by_ref().take(count).collect()));
        }
        for (answer, decided) in self.deciders.into_iter().zip(&committed.decided) {
            answered(answer, decided.clone());
        }
    }
}

fn answered<T>(answer: oneshot::Sender<T>, result: T) {
    // Whoever asked may have gone; what was asked is done all the same.
    let _gone = answer.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventInput, domain::ids::Seq};

    fn event() -> DetectionEvent {
        EventInput { camera_id: "c".into(), description: "d".into(), ..EventInput::default() }
            .validate()
            .unwrap()
    }

    #[test]
    fn a_request_is_never_split_over_two_commits() {
        let mut gather = CommitQueue::default();
        for count in [1500, 1000, 10] {
            gather.add(vec![event(); count], Answer::Several(oneshot::channel().0));
        }
        let sizes: Vec<_> = std::iter::from_fn(|| gather.take()).map(|(b, _)| b.events.len()).collect();
        assert_eq!(sizes, [1500, 1010]);
        assert_eq!(gather.events(), 0);
    }

    #[test]
    fn notes_of_a_failed_commit_come_first_in_the_next() {
        let run = |up_to, late| SettledRange { up_to: Seq(up_to), late };
        let mut gather = CommitQueue::default();
        gather.add_runs(vec![run(1, false), run(2, true)]);
        let (_, on_its_way) = gather.take().unwrap();
        gather.add_runs(vec![run(3, true), run(4, false)]);
        gather.failed(on_its_way, StoreFault::Locked);
        let (batch, _) = gather.take().unwrap();
        assert_eq!(batch.ranges, [run(1, false), run(3, true), run(4, false)]);
    }

    #[test]
    fn a_failed_commit_answers_its_requests() {
        let mut gather = CommitQueue::default();
        let (sender, mut receiver) = oneshot::channel();
        gather.add(vec![event()], Answer::Several(sender));
        let (_, on_its_way) = gather.take().unwrap();
        gather.failed(on_its_way, StoreFault::Locked);
        assert_eq!(receiver.try_recv().unwrap(), Err(PublishError::Storage(StoreFault::Locked)));
    }
}
