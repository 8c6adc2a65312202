//! The table `camera_days`: how many events of a camera happened on a day.

use std::collections::BTreeMap;

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, FromQueryResult as _, QueryFilter, QueryResult, Statement, Value,
    entity::prelude::*,
};

use super::statements::insertion;
use crate::domain::{calendar::Day, ids::CameraId};

const IDS_PER_STATEMENT: usize = 500;
const ROWS_PER_STATEMENT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "camera_days")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub camera_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: String,
    pub count: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// So many more events of a camera on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayIncrement {
    /// The camera.
    pub camera_id: CameraId,
    /// The day.
    pub day: Day,
    /// How many.
    pub events: u64,
}

/// Counts more events, each camera and day once. The answers tell how many it are then: see [`counted`].
pub fn adding(more: &[DayIncrement]) -> impl Iterator<Item = Statement> {
    const INTO: &str = "INSERT INTO camera_days (camera_id, day, count)";
    const TAIL: &str = " ON CONFLICT (camera_id, day) DO UPDATE SET count = count + excluded.count \
        RETURNING camera_id, day, count";
    more.chunks(ROWS_PER_STATEMENT).map(|chunk| {
        let rows = chunk.iter().map(|DayIncrement { camera_id, day, events }| {
            let events = i64::try_from(*events).unwrap_or(i64::MAX);
            [Value::from(camera_id.as_str()), day.to_string().into(), events.into()]
        });
        insertion(INTO, rows, TAIL)
    })
}

/// What the statements of [`adding`] answered.
pub fn counted(rows: &[QueryResult]) -> Result<Counts, DbErr> {
    Ok(counts(rows.iter().map(|row| Model::from_query_result(row, "")).collect::<Result<_, _>>()?))
}

/// The counts of cameras.
pub type Counts = BTreeMap<CameraId, BTreeMap<Day, u64>>;

/// The counts of every camera from this day on.
pub async fn since(db: &impl ConnectionTrait, day: Day) -> Result<Counts, DbErr> {
    let rows = Entity::find().filter(Column::Day.gte(day.to_string())).all(db).await?;
    Ok(counts(rows))
}

/// The counts of these cameras from this day on.
pub async fn of_since(db: &impl ConnectionTrait, ids: &[CameraId], day: Day) -> Result<Counts, DbErr> {
    let mut rows = Vec::new();
    for chunk in ids.chunks(IDS_PER_STATEMENT) {
        let of_these = Column::CameraId.is_in(chunk.iter().map(CameraId::as_str));
        rows.extend(Entity::find().filter(Column::Day.gte(day.to_string())).filter(of_these).all(db).await?);
    }
    Ok(counts(rows))
}

fn counts(rows: Vec<Model>) -> Counts {
    let mut counts = Counts::new();
    for row in rows {
        // What the table holds was written here.
        if let (Ok(camera), Ok(day)) = (CameraId::parse(row.camera_id), row.day.parse()) {
            counts.entry(camera).or_default().insert(day, u64::try_from(row.count).unwrap_or(0));
        }
    }
    counts
}

/// Removes the counts of days before this one.
pub async fn delete_before(db: &impl ConnectionTrait, day: Day) -> Result<u64, DbErr> {
    let old = Entity::delete_many().filter(Column::Day.lt(day.to_string()));
    Ok(old.exec(db).await?.rows_affected)
}

/// Removes a camera's counts.
pub async fn delete_camera(db: &impl ConnectionTrait, camera: &CameraId) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::CameraId.eq(camera.as_str())).exec(db).await?;
    Ok(())
}
