//! Counts the events in each step of a period.

use sea_orm::ConnectionTrait;

use super::{
    Shared,
    part::{Budget, Part, Walk},
};
use crate::{
    domain::{
        clock,
        numbers::saturate,
        search::{Density, DensityQuery, EventFilter},
    },
    store::StoreError,
};

/// Counts events, while no other search is running. Does a bounded amount of work: if `next_before` is set, older
/// events are not counted yet.
pub async fn count(
    db: &impl ConnectionTrait,
    shared: &Shared,
    query: &DensityQuery,
) -> Result<Density, StoreError> {
    let _turn = shared.turn().await?;
    let (from, to) = (clock::to_micros(query.from), clock::to_micros(query.to));
    let step = i64::from(query.step_seconds.max(1)) * 1_000_000;
    let step_of = move |at: i64| at.saturating_sub(from).div_euclid(step);
    let steps = (to.saturating_sub(from) + step - 1).div_euclid(step);
    let mut events = vec![0; saturate(steps)];
    let filter = EventFilter { from: Some(query.from), to: Some(query.to), ..query.filter.clone() };
    let mut walk = Walk::new(db, shared, &filter, query.before, Budget::DEFAULT)
        .await?
        .in_steps(move |one, other| step_of(one) == step_of(other));
    while let Some(part) = walk.next().await? {
        let (times, number) = match part {
            Part::Whole(events, at) => (vec![at], events),
            Part::Hits(hits) => (hits.into_iter().map(|(_, at)| at).collect(), 1),
        };
        for at in times {
            let place: usize = saturate(step_of(at));
            if let Some(count) = events.get_mut(place) {
                *count += number;
            }
        }
    }
    Ok(Density { events, next_before: walk.next_before() })
}
