//! Counts events over time, for a timeline.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use liveobject_actors::{
    Invalid, Seq,
    domain::{
        clock::{Timestamp, rfc3339},
        search::{Density, DensityQuery, EventFilter},
    },
    messages::search::CountEvents,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    filter,
    problem::Problem,
    query::{self, integer},
    schema,
    state::{ApiState, ask},
};

const DEFAULT_STEP: u32 = 3600;
const MIN_STEP: u32 = 60;
const MAX_STEP: u32 = 86_400;
/// Maximum number of steps.
const MAX_STEPS: i64 = 400;

/// The number of events in each step of a period.
#[derive(Serialize, ToSchema)]
#[schema(as = EventDensity)]
pub(super) struct Counts {
    /// The beginning of the first step.
    #[schema(value_type = String, format = DateTime)]
    from: String,
    /// The end of the last step, which may be shorter than the others.
    #[schema(value_type = String, format = DateTime)]
    to: String,
    /// The length of a step, in seconds.
    step: u32,
    /// One number for each step, in order.
    events: Vec<u64>,
    /// Usually `null`. Otherwise, older events are not counted yet: repeat the request with this value as `before`, and
    /// add the numbers.
    #[schema(required = true, value_type = Option<i64>, minimum = 1)]
    next_before: Option<Seq>,
}

/// The number of events in each step of a period.
///
/// Events are counted by their `timestamp`. They must match all parameters.
#[utoipa::path(
    get, path = "/api/v1/events/density", tag = "events", params(schema::DensityQuery),
    responses(
        (status = 200, description = "The numbers", body = Counts),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn density(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = parse(request.query_string())?;
    let (from, to, step) = (rfc3339(query.from), rfc3339(query.to), query.step_seconds);
    let Density { events, next_before } = ask(&state.handle.count_events, CountEvents(query)).await??;
    Ok(HttpResponse::Ok().json(Counts { from, to, step, events, next_before }))
}

fn parse(text: &str) -> Result<DensityQuery, Invalid> {
    let (mut filter, mut step_seconds, mut before) = (EventFilter::default(), DEFAULT_STEP, None);
    let (mut from, mut to): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    let mut faults = query::read(text, |name, value, faults| {
        match name {
            "from" => from = faults.check(name, query::time(&value)),
            "to" => to = faults.check(name, query::time(&value)),
            "step" => {
                step_seconds =
                    faults.check(name, integer(&value, MIN_STEP, MAX_STEP)).unwrap_or(DEFAULT_STEP);
            }
            "before" => before = faults.check(name, query::position(&value)),
            _ => return filter::read(&mut filter, name, &value, faults),
        }
        true
    })?;
    for (name, time) in [("from", from), ("to", to)] {
        if time.is_none() && !faults.has(name) {
            faults.push(name, "is required");
        }
    }
    let mut faults = filter::check_period(from, to, faults);
    let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
    if (to - from).num_seconds() > MAX_STEPS * i64::from(step_seconds) {
        faults.push("to", format!("must be at most {MAX_STEPS} steps of {step_seconds} seconds after from"));
    }
    faults.finish().map(|()| DensityQuery { from, to, step_seconds, filter, before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let Invalid(errors) = parse(text).unwrap_err();
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    }

    #[test]
    fn the_step_is_an_hour_unless_it_is_given() {
        let day = "from=2026-05-01T00:00:00%2B02:00&to=2026-05-02T00:00:00%2B02:00";
        let query = parse(day).unwrap();
        assert_eq!((query.step_seconds, query.before, query.filter), (3600, None, EventFilter::default()));
        let query = parse(&format!("{day}&step=600&before=9&camera_id=a,b&object=cat&q=x")).unwrap();
        assert_eq!((query.step_seconds, query.before, query.filter.cameras.len()), (600, Some(Seq(9)), 2));
        assert!(query.filter.needs_payload());
    }

    #[test]
    fn the_period_is_required_and_bounded() {
        assert_eq!(errors(""), ["from: is required", "to: is required"]);
        let from = "from=2026-05-01T00:00:00Z";
        assert_eq!(errors(&format!("{from}&to=2026-05-01T00:00:00Z")), ["to: must be after from"]);
        assert_eq!(
            errors(&format!("{from}&to=2026-06-01T00:00:00Z")),
            ["to: must be at most 400 steps of 3600 seconds after from"]
        );
        assert!(parse(&format!("{from}&to=2026-06-01T00:00:00Z&step=86400")).is_ok());
        assert_eq!(
            errors(&format!("{from}&to=2026-05-02T00:00:00Z&step=59&state=dead")),
            ["step: must be a whole number from 60 to 86400", "state: unknown parameter"]
        );
    }
}
