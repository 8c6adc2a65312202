//! Tracks outages: decides when one begins and ends, which ones are joined, and which must be stored. No clock, no I/O.
//!
//! An outage is stored when it has lasted a second, and again some time after it has ended, because a connection that
//! is lost again soon continues it.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::{
    domain::{
        clock::{Moment, Timestamp},
        ids::Seq,
        outage::{Instant, JOINED_WITHIN, LogExtent, Outage, OutageKind, RECORDED_AFTER},
        status::FailureKind,
    },
    messages::history::ConnectionStep,
};

/// What an earlier run has left.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    /// The outages that have not ended, and the latest one, oldest first.
    pub outages: Vec<Outage>,
    /// The latest moment for which there is proof that the service was running.
    pub alive: Option<Instant>,
    /// When the figures of the charts end.
    pub charts_until: Option<Timestamp>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Tracker {
    next_id: i64,
    is_up: bool,
    is_disabled: bool,
    /// Why the connection failed, if that is reported before its end.
    failed: Option<FailureKind>,
    current: Option<Current>,
    /// The last outage, while it may still continue. It was recorded.
    ended: Option<Outage>,
    /// The outages to store.
    changed: BTreeMap<i64, Outage>,
    /// The outages that are being stored.
    storing: BTreeMap<i64, Outage>,
}

#[derive(Debug)]
struct Current {
    outage: Outage,
    /// When the link was lost.
    lost: Instant,
    is_recorded: bool,
    /// The outage that this one continues, as it was before.
    continued: Option<Outage>,
}

fn since(now: Moment, earlier: Instant) -> TimeDelta {
    TimeDelta::microseconds(now.log.0.saturating_sub(earlier.log.0))
}

impl Tracker {
    /// Starts to track, and ends what the last run has left. After an orderly stop, the service was not running until
    /// now. Otherwise, it ended at some time after the latest proof that it was running.
    pub fn resume(earlier: Earlier, extent: LogExtent, now: Moment) -> Self {
        let Earlier { outages, alive, charts_until } = earlier;
        let next_id = outages.last().map_or(1, |last| last.id + 1);
        let mut tracker = Self {
            next_id,
            is_up: false,
            is_disabled: false,
            failed: None,
            current: None,
            ended: None,
            changed: BTreeMap::new(),
            storing: BTreeMap::new(),
        };
        let was_stopped =
            outages.last().is_some_and(|last| last.kind == OutageKind::NotRunning && last.ended.is_none());
        let is_first_start = outages.is_empty();
        let now = Instant::from(now);
        let alive = alive.filter(|alive| alive.log <= now.log).unwrap_or(now);
        let alive = outages.last().map_or(alive, |last| {
            let known = last.ended.unwrap_or(last.began);
            if known.log > alive.log { known } else { alive }
        });
        for mut open in outages.into_iter().filter(|outage| outage.ended.is_none()) {
            let is_stop = open.kind == OutageKind::NotRunning;
            let ended = if is_stop { now } else { alive };
            // The clock may be behind: that of a board without a battery, until it is set from the network.
            open.ended = Some(Instant { wall: ended.wall.max(open.began.wall), ..ended });
            open.last = extent.last;
            tracker.changed.insert(open.id, open);
        }
        if !was_stopped {
            // The row of the first start shows since when outages are recorded.
            let (kind, began) =
                if is_first_start { (OutageKind::NotRunning, now) } else { (OutageKind::Unknown, alive) };
            let began = Instant { wall: began.wall.min(now.wall), ..began };
            let charts_until = charts_until.filter(|_| kind == OutageKind::Unknown);
            let outage = Outage { ended: Some(now), charts_until, ..tracker.new_outage(kind, extent, began) };
            tracker.changed.insert(outage.id, outage);
        }
        tracker
    }

    fn new_outage(&mut self, kind: OutageKind, extent: LogExtent, began: Instant) -> Outage {
        let id = self.next_id;
        self.next_id += 1;
        let (reason, ended, charts_until) = (None, None, None);
        let (before, last, missing) = (extent, extent.last, false);
        Outage { id, kind, reason, began, ended, before, last, missing, charts_until }
    }

    fn open(&mut self, kind: OutageKind, extent: LogExtent, now: Moment) {
        let mut outage = self.new_outage(kind, extent, now.into());
        if kind == OutageKind::BrokerAway {
            outage.reason = self.failed.take();
        }
        let lost = outage.began;
        self.current = Some(Current { outage, lost, is_recorded: false, continued: None });
    }

    /// Ends the current outage. One that was too short to be recorded is dropped.
    fn close(&mut self, extent: LogExtent, now: Moment) {
        let Some(Current { mut outage, lost, is_recorded, continued }) = self.current.take() else { return };
        if !is_recorded && since(now, lost) < RECORDED_AFTER {
            self.ended = continued.or(self.ended.take());
            return;
        }
        outage.ended = Some(now.into());
        outage.last = extent.last;
        self.settle_ended();
        if !is_recorded {
            self.changed.insert(outage.id, outage.clone());
        }
        self.ended = Some(outage);
    }

    /// The last outage will not continue.
    fn settle_ended(&mut self) {
        if let Some(ended) = self.ended.take() {
            self.changed.insert(ended.id, ended);
        }
    }

    /// Records that a link is up.
    pub fn link_up(&mut self, extent: LogExtent, now: Moment) {
        (self.is_up, self.failed) = (true, None);
        self.close(extent, now);
    }

    /// Records that the link is down.
    pub fn link_down(&mut self, extent: LogExtent, now: Moment) {
        if !std::mem::replace(&mut self.is_up, false) {
            return;
        }
        let kind = if self.is_disabled { OutageKind::Disabled } else { OutageKind::BrokerAway };
        let continued = self.ended.take_if(|ended| {
            ended.kind == kind && ended.ended.is_some_and(|end| since(now, end) < JOINED_WITHIN)
        });
        match continued {
            Some(continued) => {
                let outage = Outage { ended: None, ..continued.clone() };
                let (lost, continued) = (now.into(), Some(continued));
                self.current = Some(Current { outage, lost, is_recorded: false, continued });
            }
            None => self.open(kind, extent, now),
        }
    }

    /// Records what the supervisor does about the connection.
    pub fn step(&mut self, step: ConnectionStep, extent: LogExtent, now: Moment) {
        self.is_disabled = step == ConnectionStep::Disabled;
        let kind = if self.is_disabled { OutageKind::Disabled } else { OutageKind::BrokerAway };
        match &mut self.current {
            Some(Current { outage, is_recorded: false, continued: None, .. }) if outage.kind != kind => {
                outage.kind = kind;
            }
            Some(Current { outage, .. }) if outage.kind != kind => {
                self.close(extent, now);
                self.open(kind, extent, now);
            }
            None if !self.is_up => self.open(kind, extent, now),
            _ => {}
        }
        let ConnectionStep::Failed(failure) = step else { return };
        match &mut self.current {
            Some(Current { outage, is_recorded, .. }) if outage.reason.is_none() => {
                outage.reason = Some(failure);
                if *is_recorded {
                    self.changed.insert(outage.id, outage.clone());
                }
            }
            Some(_) => {}
            None => self.failed = Some(failure),
        }
    }

    /// Records that time has passed. Called about once a second.
    pub fn tick(&mut self, now: Moment) {
        if let Some(Current { outage, lost, is_recorded: is_recorded @ false, .. }) = &mut self.current
            && since(now, *lost) >= RECORDED_AFTER
        {
            *is_recorded = true;
            self.changed.insert(outage.id, outage.clone());
        }
        let is_over = |ended: &Outage| ended.ended.is_none_or(|end| since(now, end) >= JOINED_WITHIN);
        if self.ended.as_ref().is_some_and(is_over) {
            self.settle_ended();
        }
    }

    /// Records that the wall clock was set forward or back by `by`, to `now`. Nothing is known of the time that it
    /// skipped: the machine may have been off. An outage that has not ended moves with the clock.
    pub fn clock_set(&mut self, by: TimeDelta, extent: LogExtent, now: Moment) {
        let mut skipped_from = now.wall - by;
        if let Some(Current { outage, lost, is_recorded, .. }) = &mut self.current {
            skipped_from = outage.began.wall;
            outage.began.wall += by;
            lost.wall += by;
            if *is_recorded {
                self.changed.insert(outage.id, outage.clone());
            }
        }
        if by > TimeDelta::zero() {
            let extent = LogExtent { cursor: extent.last, pending: 0, ..extent };
            let (began, ended) = (
                Instant { wall: skipped_from, log: now.log },
                Instant { wall: skipped_from + by, log: now.log },
            );
            let skipped =
                Outage { ended: Some(ended), ..self.new_outage(OutageKind::Unknown, extent, began) };
            self.changed.insert(skipped.id, skipped);
        }
    }

    /// Records that rows of these events were missing.
    pub fn missing(&mut self, first: Seq, last: Seq) {
        let current = self
            .current
            .iter_mut()
            .flat_map(|current| [&mut current.outage].into_iter().chain(&mut current.continued));
        let others = self.changed.values_mut().chain(self.storing.values_mut());
        for outage in current.chain(&mut self.ended).chain(others) {
            outage.missing |= outage.before.cursor < last && (outage.ended.is_none() || outage.last >= first);
        }
    }

    /// Records that the service stops: from now on, it is not running.
    pub fn stop(&mut self, extent: LogExtent, now: Moment) {
        self.close(extent, now);
        self.settle_ended();
        let stopped = self.new_outage(OutageKind::NotRunning, extent, now.into());
        self.changed.insert(stopped.id, stopped);
    }

    /// Returns the outages that differ from what is stored, oldest first. Outages that may not be recorded are left
    /// out.
    pub fn unstored(&self) -> BTreeMap<i64, Outage> {
        let shown = |current: &Current| {
            if current.is_recorded { Some(current.outage.clone()) } else { current.continued.clone() }
        };
        let others = self.ended.iter().cloned().chain(self.current.as_ref().and_then(shown));
        let mut unstored = self.storing.clone();
        unstored.extend(self.changed.clone());
        unstored.extend(others.map(|outage| (outage.id, outage)));
        unstored
    }

    /// Takes the outages to store, oldest first. Then [`Tracker::stored`] or [`Tracker::not_stored`] must be called.
    pub fn take_changed(&mut self) -> Vec<Outage> {
        self.storing = std::mem::take(&mut self.changed);
        self.storing.values().cloned().collect()
    }

    /// Records that the outages that were taken are stored.
    pub fn stored(&mut self) {
        self.storing.clear();
    }

    /// Records that the outages that were taken could not be stored. They are stored later, unless they have changed.
    pub fn not_stored(&mut self) {
        for (id, outage) in std::mem::take(&mut self.storing) {
            self.changed.entry(id).or_insert(outage);
        }
    }

    /// Returns whether there are outages to store.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
