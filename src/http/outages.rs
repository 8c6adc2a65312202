//! The outages endpoint: when there was no connection to the broker, and what became of the events that waited.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use chrono::TimeDelta;
use liveobject_actors::{
    Invalid,
    domain::{
        clock::{self, Timestamp},
        outage::{OutageKind, OutageReport, Outages, Outcome},
        status::FailureKind,
    },
    messages::history::GetOutages,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    problem::Problem,
    query, schema,
    state::{ApiState, ask},
};

/// The period that is shown by default.
const DEFAULT_PERIOD: TimeDelta = TimeDelta::hours(24);

/// The outages of a period.
#[derive(Serialize, ToSchema)]
#[schema(as = Outages)]
pub(super) struct OutageList {
    /// Since when outages are recorded. Nothing is known of the time before.
    #[schema(value_type = String, format = DateTime)]
    recorded_from: Timestamp,
    /// The outages, oldest first; at most 1,000. At all other times, there was a connection.
    #[schema(max_items = 1001)]
    outages: Vec<OutageView>,
}

/// A period without a connection to the broker, and what became of the events that waited because of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Outage)]
pub(super) struct OutageView {
    /// Its number. Later outages have higher ones.
    #[schema(minimum = 1)]
    id: i64,
    kind: OutageKind,
    /// Why the broker was away: the first failure. `null` if that is not known.
    #[schema(required = true)]
    reason: Option<FailureKind>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// When it ended; `null` if it has not.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Number of events that waited because of it: those that were pending when it began, and those that were accepted
    /// while it lasted.
    #[schema(minimum = 0)]
    events: u64,
    /// How many of them still wait.
    #[schema(minimum = 0)]
    waiting: u64,
    /// How many of them were late, and were delivered to the `history` topic.
    #[schema(minimum = 0)]
    late: u64,
    /// How many of them are dead, including those that were dismissed.
    #[schema(minimum = 0)]
    dead: u64,
    outcome: Outcome,
}

impl From<OutageReport> for OutageView {
    fn from(OutageReport { outage, events, facts, outcome }: OutageReport) -> Self {
        Self {
            id: outage.id,
            kind: outage.kind,
            reason: outage.reason,
            from: outage.began.wall,
            to: outage.ended.map(|ended| ended.wall),
            events,
            waiting: facts.waiting,
            late: facts.late,
            dead: facts.dead,
            outcome,
        }
    }
}

/// When there was no connection to the broker.
///
/// With what became of the events that waited, as the event log shows it now. Kept for seven days, at most 1,000
/// outages. Interruptions of less than a second are left out; those with less than 30 s in between are one outage.
#[utoipa::path(
    get, path = "/api/v1/outages", tag = "operation", params(schema::OutageQuery),
    responses(
        (status = 200, description = "The outages of the period", body = OutageList),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn list(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = parse(request.query_string(), clock::now())?;
    let Outages { recorded_from, reports } = ask(&state.handle.outages, query).await??;
    let outages = reports.into_iter().map(OutageView::from).collect();
    Ok(HttpResponse::Ok().json(OutageList { recorded_from, outages }))
}

fn parse(text: &str, now: Timestamp) -> Result<GetOutages, Invalid> {
    let (mut from, mut to) = (None, None);
    let mut faults = query::read(text, |name, value, faults| {
        let place = match name {
            "from" => &mut from,
            "to" => &mut to,
            _ => return false,
        };
        *place = faults.check(name, query::time(&value));
        true
    })?;
    let to = to.unwrap_or(now);
    let from = from.or_else(|| to.checked_sub_signed(DEFAULT_PERIOD)).unwrap_or(to);
    if from > to {
        faults.push("from", "must not be after `to`");
    }
    faults.finish().map(|()| GetOutages { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_day_is_the_default() {
        let now = time("2026-01-31T18:00:00Z");
        let day = GetOutages { from: time("2026-01-30T18:00:00Z"), to: now };
        assert_eq!(parse("", now), Ok(day));
        let earlier = GetOutages { from: time("2026-01-27T23:00:00Z"), to: time("2026-01-28T23:00:00Z") };
        for to in ["2026-01-29T00:00:00%2B01:00", "2026-01-29T00:00:00+01:00"] {
            assert_eq!(parse(&format!("to={to}"), now), Ok(earlier), "{to}");
        }
    }

    #[test]
    fn each_invalid_parameter_is_reported_by_name() {
        let faults = |text: &str| {
            let invalid = parse(text, time("2026-01-31T18:00:00Z")).unwrap_err();
            invalid.0.iter().map(|fault| fault.field.clone()).collect::<Vec<_>>()
        };
        assert_eq!(faults("from=yesterday&to=2026-02-31T00:00:00Z"), ["from", "to"]);
        assert_eq!(faults("from=2026-02-01T00:00:00Z"), ["from"]);
        assert_eq!(faults("since=1&from=2026-01-01T00:00:00Z&from=2026-01-01T00:00:00Z"), ["since", "from"]);
    }
}
