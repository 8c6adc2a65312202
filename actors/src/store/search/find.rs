//! Finds the positions of a page of events, newest first.

use sea_orm::ConnectionTrait;
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    Shared,
    part::{Budget, Part, Walk},
};
use crate::{
    domain::{
        delivery::{DeliveryState, Unwritten},
        event_log::{EventQuery, LogRow},
        ids::Seq,
        numbers::saturate,
    },
    store::{StoreError, event_log::matching_seqs, page},
};

/// How many events of one state are read at once.
const PAGE: u64 = 256;

/// The positions of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The events, the newest first.
    pub seqs: Vec<Seq>,
    /// The position before which the query goes on; `None` if there are no more events.
    pub next_before: Option<Seq>,
}

impl Found {
    /// Returns a page of these events, which is full if it has as many as the query's limit.
    pub fn page(seqs: Vec<Seq>, query: &EventQuery) -> Self {
        let is_full = saturate::<_, u64>(seqs.len()) >= query.limit;
        Self { next_before: seqs.last().copied().filter(|_| is_full), seqs }
    }
}

/// Finds up to `limit` of the events before a position. Does a bounded amount of work: there can be fewer events than
/// the limit although there are more.
///
/// Dead and pending events are usually few, so these are read one after the other. Otherwise, the index is used.
/// The state `delivered` is not examined: the caller does this.
pub async fn find(
    db: &impl ConnectionTrait,
    shared: &Shared,
    query: &EventQuery,
    unwritten: &Unwritten,
) -> Result<Found, StoreError> {
    match query.state {
        Some(DeliveryState::Dead | DeliveryState::Pending) => of_state(db, query, unwritten).await,
        Some(DeliveryState::Delivered) | None => by_index(db, shared, query).await,
    }
}

async fn by_index(
    db: &impl ConnectionTrait,
    shared: &Shared,
    query: &EventQuery,
) -> Result<Found, StoreError> {
    let limit = saturate::<_, usize>(query.limit);
    let mut walk = Walk::new(db, shared, &query.filter, query.before, Budget::DEFAULT).await?;
    let mut seqs = Vec::new();
    while let Some(part) = walk.next().await? {
        if let Part::Hits(hits) = part {
            seqs.extend(hits.into_iter().map(|(seq, _)| Seq(seq)));
        }
        if seqs.len() >= limit {
            seqs.truncate(limit);
            return Ok(Found::page(seqs, query));
        }
    }
    Ok(Found { seqs, next_before: walk.next_before() })
}

async fn of_state(
    db: &impl ConnectionTrait,
    query: &EventQuery,
    unwritten: &Unwritten,
) -> Result<Found, StoreError> {
    let limit = saturate::<_, usize>(query.limit);
    let mut found = Vec::new();
    let (mut before, mut read, began) = (query.before, 0, Instant::now());
    while read < Budget::DEFAULT.events && (read == 0 || began.elapsed() < Budget::DEFAULT.time) {
        let candidates = EventQuery { before, limit: PAGE, ..query.clone() };
        let seqs = matching_seqs(db, &candidates, unwritten).await?;
        let is_last = saturate::<_, u64>(seqs.len()) < PAGE;
        read += seqs.len();
        before = seqs.last().copied().or(before);
        let rows = page::read_at(db, &seqs).await?;
        let filter = query.filter.clone();
        let matching = spawn_blocking(move || {
            let matches = |row: &LogRow| matches!(row, LogRow::Event(event) if filter.matches(event));
            rows.iter().rev().filter(|row| matches(row)).map(LogRow::seq).collect::<Vec<_>>()
        });
        found.extend(matching.await.unwrap_or_default());
        if found.len() >= limit {
            found.truncate(limit);
            return Ok(Found::page(found, query));
        }
        if is_last {
            return Ok(Found { seqs: found, next_before: None });
        }
    }
    Ok(Found { seqs: found, next_before: before })
}
