//! Outages, and the figures of the charts.

use tokio::sync::SemaphorePermit;

use super::super::{Store, StoreError, history, outages};
use crate::domain::{
    clock::{LogTime, Timestamp},
    delivery::Unwritten,
    history::{MINUTES_KEPT, Period},
    ids::Seq,
    outage::{Facts, Instant, Outage},
};

/// Outages, and the figures of the charts.
impl Store {
    /// Returns the outages that overlap a period, oldest first, and since when outages are recorded.
    pub(crate) async fn outages_between(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(Vec<Outage>, Option<Timestamp>), StoreError> {
        let outages = outages::between(&self.read, from, to).await?;
        Ok((outages, outages::recorded_from(&self.read).await?))
    }

    /// Returns the outages that have not ended and the latest one, oldest first.
    pub(crate) async fn latest_outages(&self) -> Result<Vec<Outage>, StoreError> {
        Ok(outages::latest(&self.write).await?)
    }

    /// Returns the latest moment for which there is proof that the service was running.
    pub(crate) async fn last_alive(&self) -> Result<Option<Instant>, StoreError> {
        Ok(outages::last_alive(&self.write).await?)
    }

    /// Returns when the figures of the charts end, if that is before this minute since 1970.
    pub(crate) async fn history_until(&self, now: i64) -> Result<Option<Timestamp>, StoreError> {
        Ok(history::until(&self.write, now).await?)
    }

    /// Waits for the turn to read what became of the events of outages, which shares the reading connections with
    /// searches, and returns a reader for it.
    pub(crate) async fn read_outages(&self) -> Result<OutageReader<'_>, StoreError> {
        let turn = self.search.turn().await?;
        Ok(OutageReader { store: self, cursor: outages::cursor(&self.read).await?, _turn: turn })
    }

    /// Marks the outages whose events are among these as incomplete.
    pub(crate) async fn mark_missing(&self, first: Seq, last: Seq) -> Result<(), StoreError> {
        Ok(outages::mark_missing(&self.write, first, last).await?)
    }

    /// Stores outages and figures in one transaction that is not synced to disk; the next commit of an event syncs it,
    /// too. Joins the figures of minutes that are older than a day to quarters of an hour. `now` is in log time,
    /// `minute` the current one since 1970.
    pub(crate) async fn write_history(
        &self,
        outages: &[Outage],
        minutes: &[Period],
        now: LogTime,
        minute: i64,
    ) -> Result<(), StoreError> {
        let mut periods = minutes.to_vec();
        if !minutes.is_empty() {
            let old = history::minutes_before(&self.write, minute - MINUTES_KEPT).await?;
            periods.extend(history::quarters(&self.write, &old).await?);
        }
        let backend = sea_orm::ConnectionTrait::get_database_backend(&self.write);
        let mut statements = outages::write_statements(backend, outages, now);
        statements.extend(history::write_statements(backend, &periods, minute));
        if !statements.is_empty() {
            self.write_unsynced(statements).await?;
        }
        Ok(())
    }

    /// Returns the figures of the periods that begin at this minute since 1970 or later.
    pub(crate) async fn history_since(&self, minute: i64) -> Result<Vec<Period>, StoreError> {
        Ok(history::since(&self.read, minute).await?)
    }
}

/// Reads what became of the events of outages. No search runs while it exists, so it must not exist for long.
#[derive(Debug)]
pub(crate) struct OutageReader<'a> {
    store: &'a Store,
    /// The position up to which deliveries were recorded in the database when the turn began.
    pub(crate) cursor: Seq,
    _turn: SemaphorePermit<'a>,
}

impl OutageReader<'_> {
    /// Reads the facts of the next part of an outage's events, which begins after a position. Returns the end of the
    /// part, too. `unwritten` is what the outbox knew before.
    pub(crate) async fn part(
        &self,
        outage: &Outage,
        after: Seq,
        unwritten: &Unwritten,
    ) -> Result<(Facts, Seq), StoreError> {
        Ok(outages::part(&self.store.read, outage, after, unwritten).await?)
    }

    /// Returns whether the log still has the events of an outage.
    pub(crate) async fn has_events(&self, outage: &Outage) -> Result<bool, StoreError> {
        Ok(outages::has_events(&self.store.read, outage).await?)
    }
}
