//! The table `dead_events`: events that are not published unless they are sent again, and why.

use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, entity::prelude::*, sea_query::OnConflict,
};

use super::{StoreError, events};
use crate::domain::{
    clock::{self, Moment},
    delivery::{DeadFilter, DeadReason},
    ids::{EventId, Seq},
};

const ROWS_PER_STATEMENT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub reason: String,
    pub at: i64,
    /// When a user dismissed the event. Dismissed events are not listed as dead.
    pub dismissed_at: Option<i64>,
    /// The same as in `events`, to find the dead events of a camera.
    pub camera_id: Option<String>,
    pub log_time: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// An event that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadEvent {
    /// The event's position.
    pub seq: Seq,
    /// Why it died.
    pub reason: DeadReason,
    /// When it died.
    pub at: Moment,
}

/// Adds dead events.
pub async fn insert(db: &impl ConnectionTrait, deaths: &[DeadEvent]) -> Result<(), DbErr> {
    for chunk in deaths.chunks(ROWS_PER_STATEMENT) {
        // The rows of unreadable events may be damaged so badly that this would fail.
        let readable = chunk.iter().filter(|death| death.reason != DeadReason::Unreadable);
        let mut cameras = events::cameras_at(db, readable.map(|death| death.seq)).await?;
        let models = chunk.iter().map(|death| ActiveModel {
            seq: Set(death.seq.0),
            reason: Set(death.reason.as_str().to_owned()),
            at: Set(clock::to_micros(death.at.wall)),
            log_time: Set(Some(death.at.log.0)),
            dismissed_at: Set(None),
            camera_id: Set(cameras.remove(&death.seq)),
        });
        // A commit with an unknown outcome is repeated, so that the rows may already exist.
        let ignore = OnConflict::column(Column::Seq).do_nothing().to_owned();
        Entity::insert_many(models).on_conflict(ignore).exec_without_returning(db).await?;
    }
    Ok(())
}

/// Returns the number of dead events that are not dismissed.
pub async fn count(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().filter(Column::DismissedAt.is_null()).count(db).await
}

/// Returns the number of dead events whose rows are damaged and that are not dismissed.
pub async fn count_unreadable(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    let unreadable = Column::Reason.eq(DeadReason::Unreadable.as_str());
    Entity::find().filter(Column::DismissedAt.is_null()).filter(unreadable).count(db).await
}

/// Returns the first dead events that match the filter and are not dismissed, in order.
pub async fn find(
    db: &impl ConnectionTrait,
    filter: &DeadFilter,
    limit: u64,
) -> Result<Vec<(Seq, EventId)>, StoreError> {
    let DeadFilter { camera_id, reason, before, after } = filter;
    let mut dead = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::DismissedAt.is_null())
        .order_by_asc(Column::Seq)
        .limit(limit);
    if let Some(camera_id) = camera_id {
        dead = dead.filter(Column::CameraId.eq(camera_id.as_str()));
    }
    if let Some(reason) = reason {
        dead = dead.filter(Column::Reason.eq(reason.as_str()));
    }
    if let Some(before) = before {
        dead = dead.filter(Column::Seq.lt(before.0));
    }
    if let Some(after) = after {
        dead = dead.filter(Column::Seq.gt(after.0));
    }
    let seqs: Vec<i64> = dead.into_tuple().all(db).await?;
    events::ids_at(db, &seqs).await
}

/// Returns the positions of the dead events above `cursor`.
pub async fn above(db: &impl ConnectionTrait, cursor: Seq) -> Result<Vec<Seq>, DbErr> {
    let rows: Vec<i64> = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::Seq.gt(cursor.0))
        .order_by_asc(Column::Seq)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(Seq).collect())
}
