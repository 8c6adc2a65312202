//! How far the log was told, and what is to be told next. Pure: time is given.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    domain::{
        event_log::{LogQuery, Position},
        ids::Seq,
    },
    messages::stream::LogMoved,
};

/// So many events are told one by one at a time, five times a second. A source that is faster fills a page faster than
/// anybody reads it.
pub const EVENTS_AT_ONCE: i64 = 250;

/// So many deliveries are told one by one at a time.
pub const DELIVERIES_AT_ONCE: i64 = 500;

/// Whoever comes back is told so many events that it missed, and so many deliveries.
pub const MISSED_AT_MOST: i64 = 1000;

/// Whoever is to ask for all it shows is left alone for so long.
const QUIET_AFTER_RESET: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct Log {
    told: Position,
    known: Position,
    others: BTreeSet<Seq>,
    /// More changed otherwise than is remembered.
    too_many_others: bool,
    quiet_until: Option<Instant>,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Too much for telling it one by one.
    Reset,
    /// What this finds.
    Read(LogQuery),
}

impl Log {
    /// A log that nothing was told of, and that goes so far.
    pub fn new(position: Position) -> Self {
        let (told, known) = (position, position);
        Self { told, known, others: BTreeSet::new(), too_many_others: false, quiet_until: None }
    }

    /// How far it was told.
    pub fn told(&self) -> Position {
        self.told
    }

    /// It goes further.
    pub fn moved(&mut self, LogMoved { position, others }: LogMoved) {
        self.known.seq = self.known.seq.max(position.seq);
        self.known.noted = self.known.noted.max(position.noted);
        self.others.extend(others);
        if self.others.len() > usize::try_from(DELIVERIES_AT_ONCE).unwrap_or(usize::MAX) {
            self.others.clear();
            self.too_many_others = true;
        }
    }

    /// What is to be told now. Until [`Log::has_told`], it stays so.
    pub fn step(&self, now: Instant) -> Step {
        let others = i64::try_from(self.others.len()).unwrap_or(i64::MAX);
        let events = self.known.seq.0 - self.told.seq.0;
        let deliveries = self.known.noted.0 - self.told.noted.0 + others;
        if self.quiet_until.is_some_and(|until| now < until)
            || (events, deliveries) == (0, 0) && !self.too_many_others
        {
            return Step::Nothing;
        }
        if self.too_many_others || events > EVENTS_AT_ONCE || deliveries > DELIVERIES_AT_ONCE {
            return Step::Reset;
        }
        Step::Read(LogQuery {
            events: (self.told.seq, self.known.seq),
            noted: (self.told.noted, self.known.noted),
            others: self.others.iter().copied().collect(),
            afterlife: false,
        })
    }

    /// It was told.
    pub fn has_told(&mut self, step: &Step, now: Instant) {
        self.told = self.known;
        self.others.clear();
        self.too_many_others = false;
        self.quiet_until = (*step == Step::Reset).then(|| now + QUIET_AFTER_RESET);
    }

    /// What whoever comes back missed, up to what was told.
    pub fn missed(&self, since: Position) -> Step {
        // The deliveries of events that are told now are told with them.
        let noted = self.told.noted.min(since.seq);
        let (events, deliveries) = (self.told.seq.0 - since.seq.0, noted.0 - since.noted.0);
        // A position from the future is another log's.
        if events < 0
            || since.noted > self.told.noted
            || events > MISSED_AT_MOST
            || deliveries > MISSED_AT_MOST
        {
            return Step::Reset;
        }
        let noted = (since.noted, noted.max(since.noted));
        Step::Read(LogQuery {
            events: (since.seq, self.told.seq),
            noted,
            others: Vec::new(),
            afterlife: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: i64, noted: i64) -> Position {
        Position { seq: Seq(seq), noted: Seq(noted) }
    }

    fn moved(seq: i64, noted: i64, others: impl IntoIterator<Item = i64>) -> LogMoved {
        LogMoved { position: at(seq, noted), others: others.into_iter().map(Seq).collect() }
    }

    fn read(events: (i64, i64), noted: (i64, i64), others: &[i64], afterlife: bool) -> Step {
        let range = |(from, to)| (Seq(from), Seq(to));
        let others = others.iter().copied().map(Seq).collect();
        Step::Read(LogQuery { events: range(events), noted: range(noted), others, afterlife })
    }

    #[tokio::test]
    async fn what_is_new_is_told_once() {
        let now = Instant::now();
        let mut log = Log::new(at(10, 8));
        assert_eq!(log.step(now), Step::Nothing);
        log.moved(moved(12, 8, []));
        log.moved(moved(12, 11, [5]));
        let step = log.step(now);
        assert_eq!(step, read((10, 12), (8, 11), &[5], false));
        assert_eq!(log.step(now), step, "until it was told");
        log.has_told(&step, now);
        assert_eq!((log.step(now), log.told()), (Step::Nothing, at(12, 11)));
    }

    #[tokio::test]
    async fn a_burst_is_not_told_one_by_one_and_then_it_is_quiet_for_a_second() {
        let now = Instant::now();
        let many = DELIVERIES_AT_ONCE + 1;
        for burst in [moved(EVENTS_AT_ONCE + 1, 0, []), moved(0, many, []), moved(0, 0, 0..many)] {
            let mut log = Log::new(at(0, 0));
            log.moved(burst);
            let step = log.step(now);
            assert_eq!(step, Step::Reset);
            log.has_told(&step, now);
            let told = log.told();
            log.moved(moved(told.seq.0 + 1, told.noted.0, []));
            assert_eq!(log.step(now), Step::Nothing);
            assert!(matches!(log.step(now + QUIET_AFTER_RESET), Step::Read(_)));
        }
    }

    #[tokio::test]
    async fn whoever_comes_back_is_told_what_it_missed_or_to_ask_for_all() {
        let log = Log::new(at(5000, 4990));
        assert_eq!(log.missed(at(4998, 4980)), read((4998, 5000), (4980, 4990), &[], true));
        assert_eq!(log.missed(at(4000, 4000)), read((4000, 5000), (4000, 4000), &[], true));
        for too_much in [at(3999, 3999), at(5000, 3989), at(5001, 4990), at(5000, 4991)] {
            assert_eq!(log.missed(too_much), Step::Reset, "{too_much}");
        }
    }

    #[test]
    fn a_position_is_a_text() {
        let position = at(12, 7);
        assert_eq!(position.to_string(), "12-7");
        assert_eq!("12-7".parse(), Ok(position));
        for wrong in ["", "12", "-", "12-", "-7", "a-b", "+1-2", "1--2", "1-2-3", "99999999999999999999-1"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
