//! The data of the page's charts.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use liveobject_actors::{
    Invalid,
    domain::{
        clock::Timestamp,
        history::{HistoryPoint, HistoryRange, PointState},
    },
    messages::history::GetHistory,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    problem::Problem,
    query, schema,
    state::{ApiState, ask},
};
use crate::history::{INTERVAL, Point};

/// The figures of the charts: those that are kept across restarts if a range is given.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Charts)]
pub(super) enum ChartsView {
    Recent(HistoryView),
    Kept(KeptHistory),
}

/// The last hour, since the start of the service.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct HistoryView {
    /// The usual time between two points.
    #[schema(minimum = 1)]
    interval_seconds: u64,
    /// The points, oldest first; at most 240. Empty for a few seconds after startup.
    #[schema(max_items = 240)]
    points: Vec<PointView>,
}

/// The minute that ended at `at`. Directly after startup, the period is shorter.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryPoint)]
pub(super) struct PointView {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Events accepted within the minute.
    #[schema(minimum = 0)]
    events_per_minute: u64,
    /// The maximum number of pending events in the interval that ended at `at`.
    #[schema(minimum = 0)]
    pending: u64,
    /// The median time from acceptance to acknowledgement, estimated from a histogram. 8.192 means
    /// 8.192 s or longer; `null` means that there were no deliveries.
    #[schema(required = true, minimum = 0)]
    delivery_p50_seconds: Option<f64>,
    /// The 95th percentile of the same time.
    #[schema(required = true, minimum = 0)]
    delivery_p95_seconds: Option<f64>,
}

impl From<Point> for PointView {
    fn from(Point { at, accepted, pending, delivery_p50, delivery_p95 }: Point) -> Self {
        Self {
            at,
            events_per_minute: accepted,
            pending,
            delivery_p50_seconds: delivery_p50,
            delivery_p95_seconds: delivery_p95,
        }
    }
}

/// A range of the history, which is kept across restarts.
#[derive(Serialize, ToSchema)]
pub(super) struct KeptHistory {
    /// The time between two points: a minute, 5 minutes or 30 minutes.
    #[schema(minimum = 1)]
    interval_seconds: u64,
    /// The points, oldest first. The last one ends now.
    #[schema(max_items = 337)]
    points: Vec<KeptPoint>,
}

/// The interval that ended at `at`. All figures are `null` unless `state` is `known`.
#[derive(Serialize, ToSchema)]
pub(super) struct KeptPoint {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    state: PointState,
    /// Events accepted in the interval.
    #[schema(required = true, minimum = 0)]
    events: Option<u64>,
    /// Events that were published to the `history` topic because they were late.
    #[schema(required = true, minimum = 0)]
    late: Option<u64>,
    /// Events that became dead.
    #[schema(required = true, minimum = 0)]
    dead: Option<u64>,
    /// The maximum number of pending events.
    #[schema(required = true, minimum = 0)]
    pending: Option<u64>,
    /// The median time from acceptance to acknowledgement, estimated from a histogram. 8.192 means
    /// 8.192 s or longer; `null` means that there were no deliveries.
    #[schema(required = true, minimum = 0)]
    delivery_p50_seconds: Option<f64>,
    /// The 95th percentile of the same time.
    #[schema(required = true, minimum = 0)]
    delivery_p95_seconds: Option<f64>,
}

impl From<HistoryPoint> for KeptPoint {
    fn from(HistoryPoint { at, state, figures, delivery_p50, delivery_p95 }: HistoryPoint) -> Self {
        let known = |figure: u64| (state == PointState::Known).then_some(figure);
        Self {
            at,
            state,
            events: known(figures.accepted),
            late: known(figures.late),
            dead: known(figures.dead),
            pending: known(figures.pending),
            delivery_p50_seconds: delivery_p50,
            delivery_p95_seconds: delivery_p95,
        }
    }
}

/// The figures of the charts.
///
/// With `range`, they are kept across restarts: minutes for a day, quarters of an hour for seven days. After a crash or
/// a power failure, up to 16 minutes before it may be missing (`unknown`). Without `range`, the figures are sampled
/// every 15 s and kept in memory only.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "operation", params(schema::HistoryQuery),
    responses(
        (status = 200, description = "The figures", body = ChartsView),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn history(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let charts = match parse(request.query_string())? {
        None => {
            let points = state.history.points().into_iter().map(PointView::from).collect();
            ChartsView::Recent(HistoryView { interval_seconds: INTERVAL.as_secs(), points })
        }
        Some(range) => {
            let points = ask(&state.handle.history, GetHistory(range)).await??;
            let points = points.into_iter().map(KeptPoint::from).collect();
            ChartsView::Kept(KeptHistory { interval_seconds: 60 * range.step().unsigned_abs(), points })
        }
    };
    Ok(HttpResponse::Ok().json(charts))
}

fn parse(text: &str) -> Result<Option<HistoryRange>, Invalid> {
    let mut range = None;
    let faults = query::read(text, |name, value, faults| {
        if name != "range" {
            return false;
        }
        range = HistoryRange::parse(&value);
        if range.is_none() {
            let names = HistoryRange::ALL.map(HistoryRange::as_str).join(", ");
            faults.push(name, format!("must be one of {names}"));
        }
        true
    })?;
    faults.finish().map(|()| range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_optional_and_has_one_of_three_lengths() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("range=24h"), Ok(Some(HistoryRange::Day)));
        assert_eq!(parse("range=24").unwrap_err().0[0].message, "must be one of 1h, 24h, 7d");
        assert_eq!(parse("hours=1").unwrap_err().0[0].field, "hours");
    }
}
