//! Decisions about dead events: to retry or to dismiss them.

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryFilter, entity::prelude::*, sea_query::Expr};

use super::{dead_events, events, retries};
use crate::domain::{
    clock::{self, Moment},
    delivery::{DecideError, Decided, Decision},
    ids::EventId,
};

/// Applies one decision, in the transaction of a commit.
pub async fn decide(
    db: &impl ConnectionTrait,
    event_id: &EventId,
    decision: Decision,
    now: Moment,
) -> Result<Result<Decided, DecideError>, DbErr> {
    let Some(seq) = events::find_seq(db, event_id).await? else { return Ok(Err(DecideError::Unknown)) };
    let Some(dead) = dead_events::Entity::find_by_id(seq.0).one(db).await? else {
        return Ok(Err(DecideError::NotDead));
    };
    let was_listed = dead.dismissed_at.is_none();
    let this_event = dead_events::Column::Seq.eq(seq.0);
    match decision {
        Decision::Retry => {
            dead_events::Entity::delete_many().filter(this_event).exec(db).await?;
            retries::insert(db, seq, now).await?;
        }
        Decision::Dismiss if was_listed => {
            let dismissed_at = Expr::value(clock::to_micros(now.wall));
            let column = dead_events::Column::DismissedAt;
            dead_events::Entity::update_many()
                .col_expr(column, dismissed_at)
                .filter(this_event)
                .exec(db)
                .await?;
        }
        Decision::Dismiss => {}
    }
    Ok(Ok(Decided { seq, decision, was_listed }))
}
