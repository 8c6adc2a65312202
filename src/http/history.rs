//! The data of the page's charts of the last hour.

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

/// The last hour in numbers.
///
/// The numbers are sampled from the metrics every 15 s and kept in memory only.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "operation",
    responses((status = 200, description = "The last hour", body = HistoryView)),
)]
pub(super) async fn history(state: Data<ApiState>) -> HttpResponse {
    let points = state.history.points().into_iter().map(PointView::from).collect();
    HttpResponse::Ok().json(HistoryView { interval_seconds: INTERVAL.as_secs(), points })
}
