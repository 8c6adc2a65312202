//! The figures of the charts over time.

use serde::Serialize;

use crate::domain::clock::Timestamp;

/// For how long the figures of single minutes are kept, in minutes: one day.
pub const MINUTES_KEPT: i64 = 24 * 60;

/// The length of an older period, in minutes.
pub const QUARTER: i64 = 15;

/// For how long the figures of older periods are kept, in minutes: seven days.
pub const QUARTERS_KEPT: i64 = 7 * 24 * 60;

/// A period that the charts can show. It ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRange {
    /// The last hour.
    Hour,
    /// The last 24 hours.
    Day,
    /// The last seven days.
    Week,
}

impl HistoryRange {
    /// All ranges, shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    /// Parses a name; `None` if there is no range of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.as_str() == name)
    }

    /// Returns the length of the range, in minutes.
    pub fn minutes(self) -> i64 {
        match self {
            Self::Hour => 60,
            Self::Day => 24 * 60,
            Self::Week => 7 * 24 * 60,
        }
    }

    /// Returns the length of the period that one point covers, in minutes. Every range has at most 337 points.
    pub fn step(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::Day => 5,
            Self::Week => 30,
        }
    }
}

/// The figures of a period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Number of accepted events.
    pub accepted: u64,
    /// Number of events that were published to the history topic because they were late.
    pub late: u64,
    /// Number of events that became dead.
    pub dead: u64,
    /// Maximum number of pending events.
    pub pending: u64,
    /// Number of deliveries in each bucket of the histogram of delivery times. Empty if there were none.
    pub deliveries: Vec<u64>,
}

impl Figures {
    /// Returns whether nothing happened in the period.
    pub fn is_zero(&self) -> bool {
        let Self { accepted, late, dead, pending, deliveries } = self;
        [accepted, late, dead, pending].into_iter().chain(deliveries).all(|figure| *figure == 0)
    }

    /// Adds the figures of another part of the period.
    pub fn add(&mut self, other: &Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.late = self.late.saturating_add(other.late);
        self.dead = self.dead.saturating_add(other.dead);
        self.pending = self.pending.max(other.pending);
        if self.deliveries.len() < other.deliveries.len() {
            self.deliveries.resize(other.deliveries.len(), 0);
        }
        for (sum, added) in self.deliveries.iter_mut().zip(&other.deliveries) {
            *sum = sum.saturating_add(*added);
        }
    }
}

/// The figures of a stored period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// When it begins, in minutes since 1970.
    pub at: i64,
    /// Its length in minutes: 1 or [`QUARTER`].
    pub span: i64,
    /// The log time at its end.
    pub log_time: i64,
    /// Its figures.
    pub figures: Figures,
}

/// Whether the figures of a point are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PointState {
    /// They are known, at least for a part of the period.
    Known,
    /// The service was not running.
    NotRunning,
    /// They are not known: the service ended without an orderly shutdown, or was not installed yet.
    Unknown,
}

/// The figures of one period of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPoint {
    /// When the period ends.
    pub at: Timestamp,
    /// Whether its figures are known.
    pub state: PointState,
    /// The figures; all zero if they are not known.
    pub figures: Figures,
    /// Median delivery time in seconds; `None` without deliveries.
    pub delivery_p50: Option<f64>,
    /// 95th percentile of the delivery time.
    pub delivery_p95: Option<f64>,
}
