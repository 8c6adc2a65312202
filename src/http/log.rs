//! The last lines of the log.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use liveobject_actors::{Invalid, domain::clock::Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    problem::Problem,
    query::{self, integer},
    schema,
    state::ApiState,
};
use crate::telemetry::recent::{LinePart, LineQuery, LogLevel, LogLine, MAX_LINES};

/// Lines of the log.
#[derive(Serialize, ToSchema)]
#[schema(as = Log)]
pub(super) struct LogView {
    /// The lines, the oldest first.
    #[schema(max_items = 1000)]
    lines: Vec<LogLine>,
    /// The `after` of the request for the lines that follow.
    #[schema(minimum = 0)]
    next_after: u64,
    /// How many lines after `after`, of all levels, were removed before this request.
    #[schema(minimum = 0)]
    missed: u64,
    /// When the service began to log. If it has changed, the service was restarted, and the numbers began again.
    #[schema(value_type = String, format = DateTime)]
    began_at: Timestamp,
}

impl From<LinePart> for LogView {
    fn from(LinePart { lines, next_after, missed, began_at }: LinePart) -> Self {
        Self { lines, next_after, missed, began_at }
    }
}

/// The last lines of the log.
///
/// The service keeps the last 1,000 lines in memory, and up to 2,048 bytes of each message. They are those that the
/// filter `[log] filter` lets through, and contain no secrets. They are lost when the service is restarted; the
/// complete log is where the service manager stores it.
#[utoipa::path(
    get, path = "/api/v1/log", tag = "operation", params(schema::LogQuery),
    responses(
        (status = 200, description = "The lines", body = LogView),
        (status = 422, description = "Some parameters are invalid"),
    ),
)]
pub(super) async fn log(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = parse(request.query_string())?;
    Ok(HttpResponse::Ok().json(LogView::from(state.log.read(query))))
}

fn parse(text: &str) -> Result<LineQuery, Invalid> {
    let mut parsed = LineQuery { level: LogLevel::Info, after: None, limit: MAX_LINES };
    let faults = query::read(text, |name, value, faults| {
        match name {
            "level" => parsed.level = faults.check(name, level(&value)).unwrap_or(parsed.level),
            "after" => parsed.after = faults.check(name, integer(&value, 0, u64::MAX)),
            "limit" => parsed.limit = faults.check(name, integer(&value, 1, MAX_LINES)).unwrap_or(MAX_LINES),
            _ => return false,
        }
        true
    })?;
    faults.finish().map(|()| parsed)
}

fn level(name: &str) -> Result<LogLevel, String> {
    LogLevel::parse(name).ok_or_else(|| {
        let names = LogLevel::ALL.map(LogLevel::as_str);
        format!("must be one of {}", names.join(", "))
    })
}
