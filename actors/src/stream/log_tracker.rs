//! Decides what the streams report next about the event log. Pure: the caller passes the time.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    domain::{
        event_log::{LogQuery, Position},
        ids::Seq,
    },
    messages::stream::LogMoved,
};

/// Maximum number of events that one update reports individually. There are five updates a second; a faster
/// source fills a page faster than anyone can read it.
pub const EVENTS_AT_ONCE: i64 = 250;

/// Maximum number of deliveries that one update reports individually.
pub const DELIVERIES_AT_ONCE: i64 = 500;

/// Maximum number of missed events, and of missed deliveries, that a client receives when it resumes.
pub const MAX_MISSED: i64 = 1000;

/// How long to report nothing after a reset, so that clients have time to request everything they show.
const QUIET_AFTER_RESET: Duration = Duration::from_secs(1);

/// The position up to which the log was reported, and the changes since.
#[derive(Debug)]
pub struct LogTracker {
    /// Everything up to this position was reported.
    reported: Position,
    /// The end of the log, as far as it is known.
    end: Position,
    /// Events whose state changed independently of the checkpoint.
    others: BTreeSet<Seq>,
    /// Whether there were more of them than are remembered.
    too_many_others: bool,
    /// Nothing is reported before this time.
    quiet_until: Option<Instant>,
}

/// The next update of the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Nothing is new.
    Nothing,
    /// Too much changed to report it individually.
    Reset,
    /// The results of this query must be reported.
    Read(LogQuery),
}

impl Update {
    /// Returns the query to run, if there is one.
    pub fn query(&self) -> Option<LogQuery> {
        match self {
            Self::Read(query) => Some(query.clone()),
            Self::Nothing | Self::Reset => None,
        }
    }
}

impl LogTracker {
    /// Creates a tracker of a log with this end, all of which counts as reported.
    pub fn new(position: Position) -> Self {
        Self {
            reported: position,
            end: position,
            others: BTreeSet::new(),
            too_many_others: false,
            quiet_until: None,
        }
    }

    /// Returns the position up to which the log was reported.
    pub fn reported(&self) -> Position {
        self.reported
    }

    /// Records changes in the log.
    pub fn log_moved(&mut self, LogMoved { position, others }: LogMoved) {
        self.end.seq = self.end.seq.max(position.seq);
        self.end.checkpoint = self.end.checkpoint.max(position.checkpoint);
        self.others.extend(others);
        if self.others.len() > usize::try_from(DELIVERIES_AT_ONCE).unwrap_or(usize::MAX) {
            self.others.clear();
            self.too_many_others = true;
        }
    }

    /// Returns what to report now. Returns the same result until [`mark_reported`](Self::mark_reported) is
    /// called.
    pub fn next_update(&self, now: Instant) -> Update {
        let others = i64::try_from(self.others.len()).unwrap_or(i64::MAX);
        let events = self.end.seq.0 - self.reported.seq.0;
        let deliveries = self.end.checkpoint.0 - self.reported.checkpoint.0 + others;
        if self.quiet_until.is_some_and(|until| now < until)
            || (events, deliveries) == (0, 0) && !self.too_many_others
        {
            return Update::Nothing;
        }
        if self.too_many_others || events > EVENTS_AT_ONCE || deliveries > DELIVERIES_AT_ONCE {
            return Update::Reset;
        }
        Update::Read(LogQuery {
            events: (self.reported.seq, self.end.seq),
            checkpoint: (self.reported.checkpoint, self.end.checkpoint),
            others: self.others.iter().copied().collect(),
            dead_and_retrying: false,
        })
    }

    /// Records that an update was reported.
    pub fn mark_reported(&mut self, update: &Update, now: Instant) {
        self.reported = self.end;
        self.others.clear();
        self.too_many_others = false;
        self.quiet_until = (*update == Update::Reset).then(|| now + QUIET_AFTER_RESET);
    }

    /// Returns the update for a client that resumes at `since`: what it missed, up to the reported position.
    pub fn missed(&self, since: Position) -> Update {
        // The records of missed events already contain their delivery state.
        let checkpoint = self.reported.checkpoint.min(since.seq);
        let (events, deliveries) = (self.reported.seq.0 - since.seq.0, checkpoint.0 - since.checkpoint.0);
        // A position beyond the end of the log belongs to another log.
        if events < 0
            || since.checkpoint > self.reported.checkpoint
            || events > MAX_MISSED
            || deliveries > MAX_MISSED
        {
            return Update::Reset;
        }
        let checkpoint = (since.checkpoint, checkpoint.max(since.checkpoint));
        Update::Read(LogQuery {
            events: (since.seq, self.reported.seq),
            checkpoint,
            others: Vec::new(),
            dead_and_retrying: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(seq: i64, checkpoint: i64) -> Position {
        Position { seq: Seq(seq), checkpoint: Seq(checkpoint) }
    }

    fn moved(seq: i64, checkpoint: i64, others: impl IntoIterator<Item = i64>) -> LogMoved {
        LogMoved { position: position(seq, checkpoint), others: others.into_iter().map(Seq).collect() }
    }

    fn read(events: (i64, i64), checkpoint: (i64, i64), others: &[i64], dead_and_retrying: bool) -> Update {
        let range = |(from, to)| (Seq(from), Seq(to));
        let others = others.iter().copied().map(Seq).collect();
        Update::Read(LogQuery {
            events: range(events),
            checkpoint: range(checkpoint),
            others,
            dead_and_retrying,
        })
    }

    #[tokio::test]
    async fn changes_are_reported_once() {
        let now = Instant::now();
        let mut tracker = LogTracker::new(position(10, 8));
        assert_eq!(tracker.next_update(now), Update::Nothing);
        tracker.log_moved(moved(12, 8, []));
        tracker.log_moved(moved(12, 11, [5]));
        let update = tracker.next_update(now);
        assert_eq!(update, read((10, 12), (8, 11), &[5], false));
        assert_eq!(tracker.next_update(now), update, "until it is marked as reported");
        tracker.mark_reported(&update, now);
        assert_eq!((tracker.next_update(now), tracker.reported()), (Update::Nothing, position(12, 11)));
    }

    #[tokio::test]
    async fn a_burst_is_reported_as_a_reset_and_followed_by_a_second_of_silence() {
        let now = Instant::now();
        let many = DELIVERIES_AT_ONCE + 1;
        for burst in [moved(EVENTS_AT_ONCE + 1, 0, []), moved(0, many, []), moved(0, 0, 0..many)] {
            let mut tracker = LogTracker::new(position(0, 0));
            tracker.log_moved(burst);
            let update = tracker.next_update(now);
            assert_eq!(update, Update::Reset);
            tracker.mark_reported(&update, now);
            let reported = tracker.reported();
            tracker.log_moved(moved(reported.seq.0 + 1, reported.checkpoint.0, []));
            assert_eq!(tracker.next_update(now), Update::Nothing);
            assert!(matches!(tracker.next_update(now + QUIET_AFTER_RESET), Update::Read(_)));
        }
    }

    #[tokio::test]
    async fn a_client_that_resumes_gets_what_it_missed_or_a_reset() {
        let tracker = LogTracker::new(position(5000, 4990));
        assert_eq!(tracker.missed(position(4998, 4980)), read((4998, 5000), (4980, 4990), &[], true));
        assert_eq!(tracker.missed(position(4000, 4000)), read((4000, 5000), (4000, 4000), &[], true));
        for too_much in
            [position(3999, 3999), position(5000, 3989), position(5001, 4990), position(5000, 4991)]
        {
            assert_eq!(tracker.missed(too_much), Update::Reset, "{too_much}");
        }
    }

    #[test]
    fn a_position_can_be_written_as_text_and_parsed() {
        assert_eq!(position(12, 7).to_string(), "12-7");
        assert_eq!("12-7".parse(), Ok(position(12, 7)));
        for invalid in ["", "12", "-", "12-", "-7", "a-b", "+1-2", "1--2", "1-2-3", "99999999999999999999-1"]
        {
            assert!(invalid.parse::<Position>().is_err(), "{invalid}");
        }
    }
}
