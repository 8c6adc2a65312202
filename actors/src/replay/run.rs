//! The replay that is being sent: which event follows, when, and how far it has come. No clock, no I/O.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{
        event_log::{LogRow, StoredEvent},
        ids::Seq,
        replay::ReplayRecord,
    },
    store::Found,
};

/// Maximum number of unacknowledged messages. Few, because a live event may have to wait behind them.
pub const MAX_IN_FLIGHT: usize = 16;

/// After this many connections in a row that ended while messages were in flight, with none acknowledged, the replay
/// fails: its messages may be the cause.
pub const MAX_ENDS: u32 = 3;

/// How many events are read at a time.
const ROWS: usize = 64;

/// How long to wait after the connection had no room for a message.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of the delay of a timer that fires late is compensated, so that the rate is reached.
const CATCH_UP: Duration = Duration::from_millis(50);

/// The state of an event that was sent or left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Acknowledged,
    Returned,
    Skipped,
}

/// What must be read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The positions of the events after this one.
    Positions(Seq),
    /// The events at these positions.
    Events(Vec<Seq>),
}

/// Whether the next message may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// At this time.
    At(Instant),
    /// After an acknowledgement, or after the progress is stored.
    Later,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Run {
    /// The id of the replay.
    pub id: i64,
    /// Everything up to this position was acknowledged or left out.
    pub position: Seq,
    /// How many events were acknowledged up to there.
    pub published: u64,
    /// How many events were left out up to there.
    pub skipped: u64,
    last: Seq,
    rate: u16,
    in_flight: VecDeque<(Seq, Outcome)>,
    /// The next events. `None` stands for an event that cannot be read.
    events: VecDeque<(Seq, Option<StoredEvent>)>,
    /// The positions of the events after these.
    positions: VecDeque<Seq>,
    searched_to: Seq,
    /// How many events were settled since the progress was stored.
    unwritten: u64,
    next_at: Instant,
    /// A message must be sent again, once all others are answered.
    rewinds: bool,
    /// How often it went back to its position. Answers from before that do not count.
    pub generation: u64,
    ends: u32,
}

impl Run {
    /// Continues a replay where it was stored.
    pub fn new(record: &ReplayRecord, now: Instant) -> Self {
        Self {
            id: record.replay.id,
            position: record.position,
            published: record.replay.published,
            skipped: record.replay.skipped,
            last: record.last,
            rate: record.replay.request.max_per_second.max(1),
            in_flight: VecDeque::new(),
            events: VecDeque::new(),
            positions: VecDeque::new(),
            searched_to: record.position,
            unwritten: 0,
            next_at: now,
            rewinds: false,
            generation: 0,
            ends: 0,
        }
    }

    /// Returns the position of the last event.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Returns whether everything was acknowledged or left out.
    pub fn is_complete(&self) -> bool {
        self.in_flight.is_empty() && self.events.is_empty() && self.positions.is_empty() && self.is_searched()
    }

    fn is_searched(&self) -> bool {
        self.searched_to >= self.last
    }

    /// Returns whether messages are in flight.
    pub fn has_open(&self) -> bool {
        self.in_flight.iter().any(|(_, outcome)| *outcome == Outcome::Open)
    }

    /// Returns what must be read before the next message can be sent.
    pub fn wanted(&self) -> Option<Wanted> {
        if !self.events.is_empty() {
            return None;
        }
        if !self.positions.is_empty() {
            return Some(Wanted::Events(self.positions.iter().take(ROWS).copied().collect()));
        }
        (!self.is_searched()).then_some(Wanted::Positions(self.searched_to))
    }

    /// Adds positions that were found.
    pub fn found(&mut self, found: Found) {
        self.positions.extend(found.seqs);
        self.searched_to = found.end;
    }

    /// Adds the events at these positions. Those that are missing or damaged are left out.
    pub fn read(&mut self, positions: &[Seq], rows: Vec<LogRow>) {
        let mut events: HashMap<Seq, StoredEvent> = rows
            .into_iter()
            .filter_map(|row| match row {
                LogRow::Event(event) => Some((event.seq, event)),
                LogRow::Unreadable(_) => None,
            })
            .collect();
        self.positions.drain(..positions.len().min(self.positions.len()));
        self.events.extend(positions.iter().map(|seq| (*seq, events.remove(seq))));
    }

    /// Returns whether the next message may be sent now. After a crash, only messages in flight and those since the
    /// progress was stored are repeated, so their number is limited.
    pub fn turn(&self, now: Instant) -> Turn {
        let in_flight = self.in_flight.len();
        let repeated = self.unwritten + u64::try_from(in_flight).unwrap_or(u64::MAX);
        if self.rewinds || in_flight >= MAX_IN_FLIGHT || repeated >= self.max_repeated() {
            Turn::Later
        } else if now < self.next_at {
            Turn::At(self.next_at)
        } else {
            Turn::Now
        }
    }

    /// Returns the maximum number of messages that are repeated after a crash.
    fn max_repeated(&self) -> u64 {
        u64::from(self.rate) + u64::try_from(MAX_IN_FLIGHT).unwrap_or(0)
    }

    /// Takes the next event, if it may be sent now. It is in flight then.
    pub fn next(&mut self, now: Instant) -> Option<StoredEvent> {
        while self.in_flight.len() < MAX_IN_FLIGHT
            && let Some((seq, _)) = self.events.pop_front_if(|(_, event)| event.is_none())
        {
            self.in_flight.push_back((seq, Outcome::Skipped));
            self.settle();
        }
        if self.turn(now) != Turn::Now {
            return None;
        }
        let (seq, event) = self.events.pop_front()?;
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.next_at = self.next_at.max(earliest) + Duration::from_secs(1) / u32::from(self.rate);
        self.in_flight.push_back((seq, Outcome::Open));
        event
    }

    /// Records that the broker acknowledged a message.
    pub fn acknowledged(&mut self, seq: Seq, now: Instant) {
        self.ends = 0;
        self.answered(seq, Outcome::Acknowledged, now);
    }

    /// Records that there was no room for a message. It is sent again, with those behind it, so that the order is kept.
    pub fn returned(&mut self, seq: Seq, now: Instant) {
        self.rewinds = true;
        self.answered(seq, Outcome::Returned, now);
    }

    fn answered(&mut self, seq: Seq, outcome: Outcome, now: Instant) {
        if let Some((_, open)) = self.in_flight.iter_mut().find(|(other, _)| *other == seq) {
            *open = outcome;
        }
        self.settle();
        if self.rewinds && !self.has_open() {
            self.rewind();
            self.next_at = now + PAUSE;
        }
    }

    fn settle(&mut self) {
        while let Some((seq, outcome)) = self.in_flight.front().copied() {
            match outcome {
                Outcome::Acknowledged => self.published += 1,
                Outcome::Skipped => self.skipped += 1,
                Outcome::Open | Outcome::Returned => return,
            }
            self.in_flight.pop_front();
            self.position = seq;
            self.unwritten += 1;
        }
    }

    fn rewind(&mut self) {
        self.rewinds = false;
        self.generation += 1;
        self.in_flight.clear();
        self.events.clear();
        self.positions.clear();
        self.searched_to = self.position;
    }

    /// Records the end of the connection. What is in flight is sent again.
    pub fn interrupted(&mut self) {
        self.rewind();
    }

    /// Records that the connection ended, not on request. Returns whether this happened too often while messages
    /// were in flight.
    pub fn connection_ended(&mut self) -> bool {
        self.ends += u32::from(self.has_open());
        self.rewind();
        self.ends >= MAX_ENDS
    }

    /// Returns how many events were settled since the progress was stored.
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Records that the progress was stored when this many events were unwritten.
    pub fn written(&mut self, events: u64) {
        self.unwritten = self.unwritten.saturating_sub(events);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::{
        clock::{self, LogTime},
        delivery::EventTimes,
        ids::CameraId,
        replay::{Replay, ReplayRequest, ReplayState, ReplayTopic},
    };

    fn row(seq: Seq) -> LogRow {
        let at = clock::from_micros(1);
        LogRow::Event(StoredEvent {
            seq,
            camera_id: CameraId::parse("door").unwrap(),
            times: EventTimes { occurred_at: at, received_at: at, accepted: LogTime(1) },
            payload: Bytes::from_static(b"{}"),
        })
    }

    fn run(events: i64, rate: u16, now: Instant) -> Run {
        let request = ReplayRequest {
            from: clock::from_micros(0),
            to: clock::from_micros(2),
            camera_id: None,
            topic: ReplayTopic::History,
            max_per_second: rate,
        };
        let replay = Replay {
            id: 1,
            state: ReplayState::Running,
            waiting_for: None,
            request,
            events: u64::try_from(events).unwrap(),
            published: 0,
            skipped: 0,
            reason: None,
            created_at: clock::from_micros(0),
            ended_at: None,
        };
        Run::new(&ReplayRecord { replay, position: Seq(0), last: Seq(events) }, now)
    }

    /// Reads everything that is wanted; these positions are unreadable.
    fn fill(run: &mut Run, unreadable: &[i64]) {
        while let Some(wanted) = run.wanted() {
            match wanted {
                Wanted::Positions(after) => {
                    let (after, end) = (after.0, run.last());
                    run.found(Found { seqs: (after + 1..=end.0).map(Seq).collect(), end });
                }
                Wanted::Events(positions) => {
                    let readable = positions.iter().filter(|seq| !unreadable.contains(&seq.0));
                    let rows = readable.copied().map(row).collect();
                    run.read(&positions, rows);
                }
            }
        }
    }

    fn send(run: &mut Run, now: Instant) -> Vec<i64> {
        let mut sent = Vec::new();
        fill(run, &[]);
        while let Some(event) = run.next(now) {
            sent.push(event.seq.0);
            fill(run, &[]);
        }
        sent
    }

    #[tokio::test]
    async fn events_are_sent_in_order_no_faster_than_requested() {
        let start = Instant::now();
        let (mut run, mut sent) = (run(500, 100, start), Vec::new());
        for ms in (0..2000).step_by(5) {
            let now = start + Duration::from_millis(ms);
            for seq in send(&mut run, now) {
                sent.push(seq);
                run.acknowledged(Seq(seq), now);
            }
            run.written(run.unwritten());
        }
        assert!((198..=206).contains(&sent.len()), "{}", sent.len());
        assert!(sent.is_sorted() && sent.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(run.published, u64::try_from(sent.len()).unwrap());
    }

    #[tokio::test]
    async fn only_a_few_messages_are_unacknowledged_and_only_a_few_would_be_repeated() {
        let start = Instant::now();
        let mut run = run(500, 1, start);
        let mut most = 0;
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            for seq in send(&mut run, now) {
                run.acknowledged(Seq(seq), now);
            }
            most = most.max(run.unwritten());
        }
        assert_eq!(most, 17, "nothing was stored");
        assert_eq!(run.turn(start + Duration::from_secs(100)), Turn::Later);
        run.written(17);
        assert_eq!(run.turn(start + Duration::from_secs(100)), Turn::Now);
        for second in 100..200 {
            send(&mut run, start + Duration::from_secs(second));
        }
        assert_eq!(run.in_flight.len(), MAX_IN_FLIGHT);
    }

    #[tokio::test]
    async fn a_message_without_room_is_sent_again_with_those_behind_it() {
        let start = Instant::now();
        let mut run = run(5, 1000, start);
        let later = start + Duration::from_secs(1);
        assert_eq!(send(&mut run, later), [1, 2, 3, 4, 5]);
        run.acknowledged(Seq(1), later);
        run.returned(Seq(2), later);
        run.acknowledged(Seq(3), later);
        assert_eq!(run.turn(later), Turn::Later, "others are not answered yet");
        run.acknowledged(Seq(4), later);
        run.acknowledged(Seq(5), later);
        assert_eq!((run.position, run.turn(later)), (Seq(1), Turn::At(later + PAUSE)));
        assert_eq!(send(&mut run, later + PAUSE * 2), [2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn after_the_end_of_a_connection_it_continues_at_the_first_unacknowledged_event() {
        let start = Instant::now();
        let (mut run, now) = (run(3, 1000, start), start + Duration::from_secs(1));
        assert_eq!(send(&mut run, now), [1, 2, 3]);
        run.acknowledged(Seq(1), now);
        run.acknowledged(Seq(3), now);
        assert!(!run.connection_ended());
        let later = now + Duration::from_secs(1);
        assert_eq!(send(&mut run, later), [2, 3]);
        run.acknowledged(Seq(2), later);
        run.acknowledged(Seq(3), later);
        assert!(run.is_complete());
        assert_eq!((run.position, run.published), (Seq(3), 3), "the repeated one counts once");
    }

    #[tokio::test]
    async fn a_replay_gives_up_after_three_connections_that_end_without_an_acknowledgement() {
        let mut now = Instant::now();
        let mut run = run(3, 1000, now);
        let mut end = |run: &mut Run, acknowledges: bool| {
            now += Duration::from_secs(2);
            let sent = send(run, now);
            if acknowledges {
                run.acknowledged(Seq(sent[0]), now);
            }
            run.connection_ended()
        };
        assert!(!end(&mut run, false) && !end(&mut run, false));
        assert!(!end(&mut run, true), "this one acknowledged something");
        assert!(!end(&mut run, false) && end(&mut run, false));
    }

    #[tokio::test]
    async fn events_that_cannot_be_read_are_left_out() {
        let start = Instant::now();
        let (mut run, now) = (run(4, 1000, start), start + Duration::from_secs(1));
        fill(&mut run, &[1, 3, 4]);
        assert_eq!(run.next(now).map(|event| event.seq), Some(Seq(2)));
        assert_eq!(run.next(now), None);
        assert!(!run.is_complete());
        run.acknowledged(Seq(2), now);
        assert!(run.is_complete());
        assert_eq!((run.published, run.skipped, run.position), (1, 3, Seq(4)));
    }
}
