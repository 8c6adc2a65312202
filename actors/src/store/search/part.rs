//! Walks down the event log, a block or a range of positions at a time, and finds the events that match a filter.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbErr, Statement, Value};
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    BLOCK, Shared, TIMES, block_of, camera_term, first_of, last_of, object_term,
    positions::{Positions, TimeAt, decode_times},
    statement,
};
use crate::{
    domain::{
        clock::{self, Timestamp},
        event_log::LogRow,
        ids::{CameraId, Seq},
        numbers::saturate,
        search::EventFilter,
    },
    store::{StoreError, dialect, page},
};

/// How much work one query does before it returns what it has found, with a position at which the next one goes on.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// How many events are read from the log, because they are not in the index.
    pub events: usize,
    /// How many blocks with all terms are examined.
    pub blocks: usize,
    /// How many blocks are searched for the terms.
    pub searched: i64,
    /// After which time it ends, unless it has examined nothing yet. Only a slow disk makes it take this long.
    pub time: Duration,
}

impl Budget {
    /// Some tens of milliseconds of each on a usual machine. Tests of this crate have a small one.
    pub const DEFAULT: Self = if cfg!(test) {
        Self { events: 200, blocks: 3, searched: 6, time: Duration::MAX }
    } else {
        Self { events: 4096, blocks: 512, searched: 8192, time: Duration::from_secs(1) }
    };
}

/// The first chunk is small, because it often has enough events.
const FIRST_CHUNK: i64 = 4;
const LARGEST_CHUNK: i64 = 1024;
/// A chunk that takes longer is followed by a smaller one.
const CHUNK_TIME: Duration = Duration::from_millis(100);
/// Events that are read from the log at once.
const SCAN: usize = BLOCK / 4;

/// An event that matches the filter: its position and its `occurred_at`, in microseconds since 1970.
pub type Hit = (i64, i64);

/// What was found in a part of the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// The events that match, the last one first.
    Hits(Vec<Hit>),
    /// A block in which all events match: their number, and the time of one of them; all are in the same step.
    Whole(u64, i64),
}

/// A block in the index that has all terms.
#[derive(Debug, Clone, Copy)]
struct Header {
    block: i64,
    events: u64,
    min_at: i64,
    max_at: i64,
}

/// A part of the log that was not examined yet.
#[derive(Debug)]
enum Next {
    Block(Header),
    /// Positions that are not in the index, from the first to the last one.
    Range(i64, i64),
}

/// A walk down the log.
pub struct Walk<'a, C> {
    db: &'a C,
    shared: &'a Shared,
    filter: &'a EventFilter,
    /// The times that match, in microseconds: from the first, before the second.
    times: (i64, i64),
    /// Whether the times of the hits are needed.
    needs_times: bool,
    /// Returns whether two times are in the same step. Without it, no block is returned as a whole.
    same_step: Option<Box<dyn Fn(i64, i64) -> bool + Send + Sync + 'a>>,
    budget: Budget,
    began: Instant,
    /// Where the walk began: everything from this position on is left out.
    end: i64,
    /// The first position in the log.
    first: i64,
    /// Everything from this position on was examined, or is in `next`.
    low: i64,
    /// Everything from this position on was examined.
    examined: i64,
    chunk: i64,
    next: VecDeque<Next>,
}

impl<'a, C: ConnectionTrait> Walk<'a, C> {
    /// Begins with the events before a position.
    pub async fn new(
        db: &'a C,
        shared: &'a Shared,
        filter: &'a EventFilter,
        before: Option<Seq>,
        budget: Budget,
    ) -> Result<Self, DbErr> {
        const BOUNDS: &str = "SELECT (SELECT MIN(seq) FROM events), (SELECT MAX(seq) FROM events)";
        let row = db.query_one_raw(statement(db, BOUNDS, [])).await?;
        let (first, last): (Option<i64>, Option<i64>) = row.map_or(Ok((None, None)), |row| {
            Ok::<_, DbErr>((row.try_get_by_index(0)?, row.try_get_by_index(1)?))
        })?;
        let first = first.unwrap_or(1);
        let end = last.map_or(first, |last| last + 1);
        let low = before.map_or(end, |before| end.min(before.0)).max(first);
        let micros = |time: Option<Timestamp>, none| time.map_or(none, clock::to_micros);
        let times = (micros(filter.from, i64::MIN), micros(filter.to, i64::MAX));
        let (chunk, next) = (FIRST_CHUNK, VecDeque::new());
        Ok(Self {
            db,
            shared,
            filter,
            times,
            needs_times: false,
            same_step: None,
            budget,
            began: Instant::now(),
            end: low,
            first,
            low,
            examined: low,
            chunk,
            next,
        })
    }

    /// Makes the walk return the times of the events, and blocks as a whole where all times are in the same step.
    #[must_use]
    pub fn in_steps(mut self, same_step: impl Fn(i64, i64) -> bool + Send + Sync + 'a) -> Self {
        self.needs_times = true;
        self.same_step = Some(Box::new(same_step));
        self
    }

    /// Returns the position before which the next query goes on, or `None` if everything was examined.
    pub fn next_before(&self) -> Option<Seq> {
        (self.examined > self.first).then_some(Seq(self.examined))
    }

    /// Examines the next part of the log. Returns `None` at its end, or when the budget is spent.
    pub async fn next(&mut self) -> Result<Option<Part>, StoreError> {
        loop {
            if self.is_spent() {
                return Ok(None);
            }
            match self.next.pop_front() {
                Some(Next::Block(header)) => return self.block(header).await,
                Some(Next::Range(from, to)) => return self.range(from, to).await,
                None => {}
            }
            // Nothing matches down to here.
            self.examined = self.low;
            if self.low <= self.first || self.budget.searched <= 0 {
                return Ok(None);
            }
            self.load_chunk().await?;
        }
    }

    fn is_spent(&self) -> bool {
        let is_late = self.examined < self.end && self.began.elapsed() >= self.budget.time;
        self.budget.events == 0 || self.budget.blocks == 0 || is_late
    }

    /// Finds out which of the next blocks are in the index, and which of these have all terms.
    async fn load_chunk(&mut self) -> Result<(), StoreError> {
        let top = block_of(self.low - 1);
        let bottom = (top - self.chunk + 1).max(block_of(self.first));
        let began = Instant::now();
        let row = self.db.query_one_raw(self.chunk_statement(bottom, top)).await.map_err(StoreError::from);
        let row = match row {
            Err(error) if error.is_corruption() => {
                self.skip_damage(bottom, top);
                return Ok(());
            }
            row => row?,
        };
        self.budget.searched -= top - bottom + 1;
        self.chunk = if began.elapsed() < CHUNK_TIME {
            (self.chunk * 4).min(LARGEST_CHUNK)
        } else {
            (self.chunk / 4).max(1)
        };
        let (indexed, matching): (i64, Option<String>) = match row {
            Some(row) => (row.try_get_by_index(0)?, row.try_get_by_index(1)?),
            None => (0, None),
        };
        let matching = matching.unwrap_or_default();
        let matching: Vec<_> = matching.split_terminator(',').filter_map(header).collect();
        if indexed == top - bottom + 1 {
            self.next.extend(matching.into_iter().map(Next::Block));
            self.low = first_of(bottom);
        } else {
            self.add_ranges(bottom, top, &matching).await?;
        }
        Ok(())
    }

    /// Continues block by block, because the index is damaged somewhere in these blocks. The damaged block is read from
    /// the log.
    fn skip_damage(&mut self, bottom: i64, top: i64) {
        self.chunk = 1;
        if bottom == top {
            self.shared.note_damaged(top);
            self.next.push_back(Next::Range(first_of(top).max(self.first), self.low - 1));
            self.low = first_of(top);
        }
    }

    /// Adds the blocks that have all terms, and the ranges of positions that are not in the index.
    async fn add_ranges(&mut self, bottom: i64, top: i64, matching: &[Header]) -> Result<(), StoreError> {
        const INDEXED: &str =
            "SELECT block FROM event_blocks WHERE block BETWEEN ? AND ? ORDER BY block DESC";
        const LAST: &str = "SELECT MAX(seq) FROM events WHERE seq < ?";
        let rows = self.db.query_all_raw(statement(self.db, INDEXED, [bottom.into(), top.into()])).await?;
        let indexed: Vec<i64> = rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?;
        // The position above the range that is not in the index.
        let mut above = self.low;
        for block in indexed {
            if above > first_of(block + 1) {
                self.next.push_back(Next::Range(first_of(block + 1), above - 1));
            }
            above = first_of(block);
            self.next.extend(matching.iter().find(|header| header.block == block).copied().map(Next::Block));
        }
        self.low = first_of(bottom);
        if above > self.low {
            let from = self.low.max(self.first);
            self.next.push_back(Next::Range(from, above - 1));
        }
        // There may be no events for a long way, because a database was replaced by an older one.
        let row = self.db.query_one_raw(statement(self.db, LAST, [self.low.into()])).await?;
        let last: Option<i64> = row.map_or(Ok(None), |row| row.try_get_by_index(0))?;
        self.low = self.low.min(last.map_or(self.first, |last| last + 1));
        Ok(())
    }

    /// Returns the statement that counts the blocks in the index, and lists those that have all terms and times that
    /// match. A block matches a group of terms if it has one of them.
    fn chunk_statement(&self, bottom: i64, top: i64) -> Statement {
        let mut values: Vec<Value> =
            vec![bottom.into(), top.into(), self.times.0.into(), self.times.1.into()];
        let conditions: Vec<_> = groups(self.filter)
            .iter()
            .map(|group| {
                let condition = group.condition(&mut values);
                format!(" AND EXISTS (SELECT 1 FROM event_index i WHERE i.block = b.block AND {condition})")
            })
            .collect();
        let conditions = conditions.concat();
        let sql = format!(
            "SELECT (SELECT COUNT(*) FROM event_blocks WHERE block BETWEEN ?1 AND ?2), \
               (SELECT group_concat(block || ' ' || events || ' ' || min_at || ' ' || max_at) FROM (\
                 SELECT * FROM event_blocks b WHERE block BETWEEN ?1 AND ?2 AND max_at >= ?3 AND min_at < ?4\
                 {conditions} ORDER BY block DESC) b)"
        );
        dialect::statement(self.db, sql, values)
    }

    /// Examines a block in the index.
    async fn block(&mut self, header: Header) -> Result<Option<Part>, StoreError> {
        let (first, end) = (first_of(header.block), self.examined);
        let is_complete = end > last_of(header.block);
        let in_time = self.times.0 <= header.min_at && header.max_at < self.times.1;
        if let Some(same_step) = &self.same_step
            && is_complete
            && in_time
            && groups(self.filter).is_empty()
            && same_step(header.min_at, header.max_at)
        {
            self.examined = first;
            return Ok(Some(Part::Whole(header.events, header.min_at)));
        }
        self.budget.blocks -= 1;
        let Some(mut hits) = self.hits(header.block, in_time).await? else {
            // The block is read from the log instead.
            self.shared.note_damaged(header.block);
            self.next.push_front(Next::Range(first, end.min(last_of(header.block) + 1) - 1));
            return Ok(Some(Part::Hits(Vec::new())));
        };
        hits.retain(|(seq, _)| *seq < end);
        self.examined = first;
        Ok(Some(Part::Hits(hits)))
    }

    /// Returns the statement that selects the rows of a block in the index.
    fn rows_statement(&self, block: i64, groups: &[Group], needs_times: bool) -> Statement {
        let mut values: Vec<Value> = vec![block.into()];
        let mut conditions: Vec<_> = groups.iter().map(|group| group.condition(&mut values)).collect();
        if needs_times {
            conditions.push(format!("i.term = '{TIMES}'"));
        }
        // With OR, SQLite would read all rows of the block.
        let parts: Vec<_> = conditions
            .iter()
            .map(|condition| {
                format!("SELECT i.term, i.positions FROM event_index i WHERE i.block = ?1 AND {condition}")
            })
            .collect();
        let sql = parts.join(" UNION ALL ");
        dialect::statement(self.db, sql, values)
    }

    /// Returns the events of a block that match, the last one first; `None` if its rows in the index are damaged.
    async fn hits(&self, block: i64, in_time: bool) -> Result<Option<Vec<Hit>>, StoreError> {
        let groups = groups(self.filter);
        let needs_times = self.needs_times || !in_time || groups.is_empty();
        let statement = self.rows_statement(block, &groups, needs_times);
        let mut rows: HashMap<String, Vec<u8>> = HashMap::new();
        let found = match self.db.query_all_raw(statement).await.map_err(StoreError::from) {
            Err(error) if error.is_corruption() => return Ok(None),
            found => found?,
        };
        for row in found {
            rows.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        Ok(intersect(block, &groups, &rows, needs_times.then_some(self.times)))
    }

    /// Reads a range of positions that are not in the index, or a part of it that the budget allows.
    async fn range(&mut self, from: i64, to: i64) -> Result<Option<Part>, StoreError> {
        let limit = SCAN.min(self.budget.events);
        let Scanned { events, low, hits } = self.scan(from, to, limit).await?;
        self.budget.events -= events.clamp(1, self.budget.events);
        self.examined = if events < limit { from } else { low };
        if self.examined > from {
            self.next.push_front(Next::Range(from, self.examined - 1));
        }
        if !self.filter.needs_payload() || hits.is_empty() {
            return Ok(Some(Part::Hits(hits)));
        }
        let seqs: Vec<_> = hits.iter().map(|(seq, _)| Seq(*seq)).collect();
        let rows = page::read_at(self.db, &seqs).await?;
        let filter = self.filter.clone();
        let hits = spawn_blocking(move || {
            let matching = rows.into_iter().rev().filter_map(|row| match row {
                LogRow::Event(event) if filter.matches(&event) => {
                    Some((event.seq.0, clock::to_micros(event.times.occurred_at)))
                }
                _ => None,
            });
            matching.collect()
        });
        let hits = hits.await.map_err(|_| DbErr::Custom("the runtime is shutting down".to_owned()))?;
        Ok(Some(Part::Hits(hits)))
    }

    /// Returns the statement that reads the times and the cameras of up to `limit` events, the last ones of a range.
    fn scan_statement(&self, from: i64, to: i64, limit: usize) -> Statement {
        const SQL: &str = "SELECT COUNT(*), MIN(seq), group_concat(CASE WHEN occurred_at >= ?4 AND occurred_at < ?5 \
              AND (?6 IS NULL OR camera_id IN (SELECT value FROM json_each(?6) texts)) \
              THEN seq || ' ' || occurred_at END) \
            FROM (SELECT seq, occurred_at, camera_id FROM events WHERE seq BETWEEN ?1 AND ?2 \
              ORDER BY seq DESC LIMIT ?3) e";
        let cameras = &self.filter.cameras;
        let ids: serde_json::Value = cameras.iter().map(CameraId::as_str).collect();
        let cameras = (!cameras.is_empty()).then(|| ids.to_string());
        let limit = saturate::<_, i64>(limit);
        let values: [Value; 6] =
            [from.into(), to.into(), limit.into(), self.times.0.into(), self.times.1.into(), cameras.into()];
        statement(self.db, SQL, values)
    }

    /// Reads the times and the cameras of up to `limit` events, the last ones of a range.
    async fn scan(&self, from: i64, to: i64, limit: usize) -> Result<Scanned, StoreError> {
        let Some(row) = self.db.query_one_raw(self.scan_statement(from, to, limit)).await? else {
            return Ok(Scanned { events: 0, low: from, hits: Vec::new() });
        };
        let (events, low): (i64, Option<i64>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let text: Option<String> = row.try_get_by_index(2)?;
        let hit = |text: &str| {
            let (seq, at) = text.split_once(' ')?;
            Some((seq.parse().ok()?, at.parse().ok()?))
        };
        let mut hits: Vec<Hit> = text.unwrap_or_default().split_terminator(',').filter_map(hit).collect();
        // In practice they are in this order, but SQLite does not guarantee it.
        hits.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Scanned { events: saturate(events), low: low.unwrap_or(from), hits })
    }
}

/// Events that were read from the log.
struct Scanned {
    events: usize,
    /// The first position that was read.
    low: i64,
    /// The events whose camera and time match.
    hits: Vec<Hit>,
}

fn header(text: &str) -> Option<Header> {
    let mut numbers = text.split(' ').map(str::parse::<i64>);
    let mut number = || numbers.next()?.ok();
    let (block, events, min_at, max_at) = (number()?, number()?, number()?, number()?);
    Some(Header { block, events: saturate(events), min_at, max_at })
}

/// Terms of which an event must have one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Group {
    OneOf(Vec<String>),
    Beginning(String),
}

impl Group {
    fn contains(&self, term: &str) -> bool {
        match self {
            Self::OneOf(terms) => terms.iter().any(|one| one == term),
            Self::Beginning(prefix) => term.starts_with(prefix.as_str()),
        }
    }

    /// Returns the SQL condition for `i.term`, and adds its values.
    fn condition(&self, values: &mut Vec<Value>) -> String {
        let mut value = |text: &str| {
            values.push(text.into());
            format!("?{}", values.len())
        };
        match self {
            Self::OneOf(terms) => {
                let terms: Vec<_> = terms.iter().map(|term| value(term)).collect();
                format!("i.term IN ({})", terms.join(","))
            }
            // No letter or digit comes after U+10FFFF.
            Self::Beginning(prefix) => {
                format!("i.term BETWEEN {} AND {}", value(prefix), value(&format!("{prefix}\u{10ffff}")))
            }
        }
    }
}

/// Returns the groups of terms of a filter.
fn groups(filter: &EventFilter) -> Vec<Group> {
    let mut groups = Vec::new();
    if !filter.cameras.is_empty() {
        groups.push(Group::OneOf(filter.cameras.iter().map(|id| camera_term(id.as_str())).collect()));
    }
    groups.extend(filter.object.iter().map(|object| Group::OneOf(vec![object_term(object)])));
    if let Some(text) = &filter.text {
        groups.extend(text.words.iter().map(|word| Group::OneOf(vec![word.clone()])));
        groups.push(Group::Beginning(text.prefix.clone()));
    }
    groups
}

/// Returns the events of a block that have a term of each group, the last one first, and with `times` only those
/// between them. Returns `None` if the rows are damaged.
fn intersect(
    block: i64,
    groups: &[Group],
    rows: &HashMap<String, Vec<u8>>,
    times: Option<(i64, i64)>,
) -> Option<Vec<Hit>> {
    let mut matching: Option<Positions> = None;
    for group in groups {
        let mut of_group = Positions::NONE;
        for (_, positions) in rows.iter().filter(|(term, _)| group.contains(term)) {
            of_group.add(&Positions::decode(positions)?);
        }
        match &mut matching {
            Some(matching) => matching.keep(&of_group),
            None => matching = Some(of_group),
        }
    }
    let seq = |position: usize| first_of(block) + saturate::<_, i64>(position);
    let Some((from, to)) = times else {
        return Some(matching?.descending().map(|position| (seq(position), 0)).collect());
    };
    let all: Vec<TimeAt> = decode_times(rows.get(TIMES)?)?;
    let hits = all.into_iter().rev().filter(|(position, at)| {
        from <= *at && *at < to && matching.as_ref().is_none_or(|matching| matching.contains(*position))
    });
    Some(hits.map(|(position, at)| (seq(position), at)).collect())
}

/// Returns the statements of a search, for the test of their plans.
#[cfg(test)]
pub async fn statements(store: &crate::store::Store, filter: &EventFilter) -> Vec<Statement> {
    let walk = Walk::new(&store.read, &store.search, filter, None, Budget::DEFAULT).await.unwrap();
    vec![
        walk.chunk_statement(0, 4),
        walk.rows_statement(1, &groups(filter), true),
        walk.scan_statement(1, 100, 50),
    ]
}
