//! Adds complete blocks to the index, the newest ones first.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbErr, Value};
use tokio::task::spawn_blocking;

use super::{
    BLOCK, PAUSE, STEP, TIMES, block_of, camera_term, first_of, last_of, object_term,
    positions::{TimeAt, encode, encode_times},
    statement,
};
use crate::{
    domain::{causes::with_causes, clock, event_log::LogRow, ids::Seq, search::EventTerms},
    store::{
        Store, StoreError,
        dialect::{Existing, Insert, Type},
        events, page,
    },
};

/// How many different terms a block may have, which limits the memory for building it. A block with more of them is
/// not added to the index, so its events are read from the log. Usual blocks have some thousands.
const MAX_TERMS: usize = 100_000;
/// Rows that are read at once.
const PAGE: u64 = 256;

/// A block, ready to be stored.
#[derive(Debug)]
struct Built {
    events: usize,
    /// The earliest and the latest `occurred_at`.
    times: Option<(i64, i64)>,
    /// The terms and their positions, sorted. The last one is the row of times.
    rows: Vec<(String, Vec<u8>)>,
}

/// The terms of a block, while they are collected.
#[derive(Debug, Default)]
struct Terms {
    positions: HashMap<String, Vec<u16>>,
    times: Vec<TimeAt>,
}

impl Terms {
    /// Adds the rows of a page, which follow those that were added before. Returns whether there are too many terms.
    fn add(&mut self, first: i64, rows: &[LogRow]) -> bool {
        for row in rows {
            let LogRow::Event(event) = row else { continue };
            let position = u16::try_from(event.seq.0 - first).ok().filter(|at| usize::from(*at) < BLOCK);
            // The page may reach into the next block.
            let Some(position) = position else { continue };
            let EventTerms { words, objects } = EventTerms::of(&event.payload);
            let objects = objects.iter().map(|object| object_term(object));
            for term in words.into_iter().chain(objects).chain([camera_term(event.camera_id.as_str())]) {
                self.positions.entry(term).or_default().push(position);
            }
            self.times.push((position.into(), clock::to_micros(event.times.occurred_at)));
        }
        self.positions.len() > MAX_TERMS
    }

    fn build(self) -> Built {
        let at = || self.times.iter().map(|(_, at)| *at);
        let times = at().min().zip(at().max());
        let mut rows: Vec<_> =
            self.positions.into_iter().map(|(term, positions)| (term, encode(&positions))).collect();
        rows.push((TIMES.to_owned(), encode_times(&self.times)));
        // In the order of the table, so that rows are appended to its pages.
        rows.sort_unstable();
        Built { events: self.times.len(), times, rows }
    }
}

/// What is known about the index since the start.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// All blocks up to this one are in the index, as far as possible.
    done: Option<i64>,
    /// Blocks that are not suitable.
    skipped: Vec<i64>,
}

/// Adds all complete blocks that are missing, the newest first. Pauses often, so that commits are not delayed. Returns
/// the number of added blocks. Does little if no block was completed since the last time.
pub async fn add_missing(store: &Store, progress: &mut Progress) -> Result<u64, StoreError> {
    if forget_damaged(store).await? {
        progress.done = None;
    }
    // Positions are assigned in order.
    let last = block_of(last_seq(store).await?.next().0) - 1;
    if progress.done == Some(last) {
        return Ok(0);
    }
    progress.skipped.retain(|block| *block >= store.search.first_indexed());
    let (mut added, mut block) = (0, last);
    while let Some(missing) = next_missing(store, block).await? {
        if !progress.skipped.contains(&missing) {
            match add(store, missing).await {
                Ok(true) => added += 1,
                Ok(false) => progress.skipped.push(missing),
                // The other blocks are still added.
                Err(error) if error.is_corruption() => {
                    tracing::warn!(
                        block = missing,
                        error = %with_causes(&error),
                        "a part of the search index is damaged and is not used"
                    );
                    progress.skipped.push(missing);
                }
                Err(error) => return Err(error),
            }
        }
        block = missing - 1;
    }
    progress.done = Some(last);
    Ok(added)
}

/// Returns the last position. Reads the database only once: to open a connection each minute would write a page of the
/// shared memory of SQLite to the disk.
async fn last_seq(store: &Store) -> Result<Seq, DbErr> {
    if let Some(last) = store.search.last_seq() {
        return Ok(last);
    }
    let last = events::last_seq(&store.read).await?;
    store.search.note_last(last);
    Ok(last)
}

/// Takes the blocks out of the index that searches found to be damaged, so that they are added again. Returns whether
/// there were some.
async fn forget_damaged(store: &Store) -> Result<bool, StoreError> {
    let damaged = store.search.take_damaged();
    for block in &damaged {
        tracing::warn!(block, "a part of the search index is damaged; adding it again");
        let remove = "DELETE FROM event_blocks WHERE block = ?";
        store.write_unsynced(vec![statement(&store.write, remove, [(*block).into()])]).await?;
    }
    Ok(!damaged.is_empty())
}

/// Returns the last block up to this one that is not in the index, but has events and may be added.
async fn next_missing(store: &Store, block: i64) -> Result<Option<i64>, StoreError> {
    // Of the blocks in the index, the first one whose predecessor is missing.
    const BEFORE_RUN: &str = "SELECT MAX(block) - 1 FROM event_blocks b WHERE block <= ?1 \
        AND NOT EXISTS (SELECT 1 FROM event_blocks p WHERE p.block = b.block - 1)";
    const IS_INDEXED: &str = "SELECT block FROM event_blocks WHERE block = ?1";
    const LAST_EVENT: &str = "SELECT MAX(seq) FROM events WHERE seq <= ?1";
    let db = &store.read;
    let mut block = block;
    let is_indexed = db.query_one_raw(statement(db, IS_INDEXED, [block.into()])).await?;
    if is_indexed.is_some() {
        let row = db.query_one_raw(statement(db, BEFORE_RUN, [block.into()])).await?;
        block = number(row)?.unwrap_or(-1);
    }
    let last = db.query_one_raw(statement(db, LAST_EVENT, [last_of(block).into()])).await?;
    let Some(last) = number(last)? else { return Ok(None) };
    let found = block_of(last);
    if found < store.search.first_indexed() {
        return Ok(None);
    }
    if found == block {
        return Ok(Some(found));
    }
    Box::pin(next_missing(store, found)).await
}

fn number(row: Option<sea_orm::QueryResult>) -> Result<Option<i64>, DbErr> {
    row.map_or(Ok(None), |row| row.try_get_by_index(0))
}

/// Inserts rows in the index.
const INSERT: Insert<3> = Insert {
    table: "event_index",
    columns: [("block", Type::Number), ("term", Type::Text), ("positions", Type::Bytes)],
    existing: Existing::Fails,
};

/// Adds a block. Returns whether it was added: it may be unsuitable, or a sweep may remove its events.
pub(super) async fn add(store: &Store, block: i64) -> Result<bool, StoreError> {
    let Some(Built { events, times: Some((min_at, max_at)), rows }) = build(store, block).await? else {
        return Ok(false);
    };
    let removed = "DELETE FROM event_index WHERE block = ?";
    let mut first = vec![statement(&store.write, removed, [block.into()])];
    for rows in rows.chunks(STEP) {
        let rows = rows
            .iter()
            .map(|(term, positions)| [block.into(), term.as_str().into(), positions.clone().into()]);
        first.push(INSERT.statement(store.write.get_database_backend(), rows));
        store.write_unsynced(std::mem::take(&mut first)).await?;
        tokio::time::sleep(PAUSE).await;
    }
    // With this row, the block is in the index.
    let values: [Value; 4] =
        [block.into(), i64::try_from(events).unwrap_or(i64::MAX).into(), min_at.into(), max_at.into()];
    let into = "INSERT INTO event_blocks (block, events, min_at, max_at) VALUES (?,?,?,?)";
    let row = statement(&store.write, into, values);
    // A sweep may have begun in the meantime. It raises `first_indexed` before it waits for the connection to remove
    // the row.
    let is_wanted = || block >= store.search.first_indexed();
    Ok(store.write_unsynced_if(vec![row], is_wanted).await?)
}

/// Reads the events of a block. Returns `None` if they have too many terms.
async fn build(store: &Store, block: i64) -> Result<Option<Built>, StoreError> {
    let (first, last) = (first_of(block), last_of(block));
    let mut terms = Terms::default();
    let mut from = Seq(first);
    while from.0 <= last {
        let limit = PAGE.min(Seq(last).since(from.previous()));
        let page = page::read(&store.read, from, limit, Seq(last)).await?;
        let (added, is_too_much) = spawn_blocking(move || {
            let is_too_much = terms.add(first, &page.rows);
            (terms, is_too_much)
        })
        .await
        .map_err(|_| DbErr::Custom("the runtime is shutting down".to_owned()))?;
        if is_too_much {
            return Ok(None);
        }
        terms = added;
        match page.end {
            Some(end) => from = end.next(),
            None => break,
        }
    }
    let built = spawn_blocking(move || terms.build()).await;
    built.map(Some).map_err(|_| DbErr::Custom("the runtime is shutting down".to_owned()).into())
}

const _: () = assert!(BLOCK <= u16::MAX as usize, "positions are stored as u16");
