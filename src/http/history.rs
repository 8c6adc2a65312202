//! The last hour in numbers, for the page's charts.

use actix_web::{HttpResponse, web::Data};
use liveobject_actors::domain::clock::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::state::ApiState;
use crate::history::{INTERVAL, Point};

/// The last hour.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct HistoryView {
    /// How far points are apart.
    #[schema(minimum = 1)]
    interval_seconds: u64,
    /// Oldest first; at most 240. Empty until the process has run for one interval.
    #[schema(max_items = 240)]
    points: Vec<PointView>,
}

/// The minute that ended at a moment; shorter right after the start.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryPoint)]
pub(super) struct PointView {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Events accepted within it.
    #[schema(minimum = 0)]
    events_per_minute: u64,
    /// The most events that waited in the interval that ended with it.
    #[schema(minimum = 0)]
    pending: u64,
    /// From acceptance to acknowledgement: half of the deliveries took no longer, as the histogram's buckets tell it
    /// (8.192: that or longer). `null`: none.
    #[schema(required = true, minimum = 0)]
    delivery_p50_seconds: Option<f64>,
    /// The same, of 95 in 100.
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

/// The last hour in numbers, taken from the metrics every 15 s. Kept in memory only: it begins anew at each start.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "operation",
    responses((status = 200, description = "The last hour", body = HistoryView)),
)]
pub(super) async fn history(state: Data<ApiState>) -> HttpResponse {
    let points = state.history.points().into_iter().map(PointView::from).collect();
    HttpResponse::Ok().json(HistoryView { interval_seconds: INTERVAL.as_secs(), points })
}
