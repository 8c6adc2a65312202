//! The table `camera_days`: the number of events of a camera on a day, without those that the row of the camera does
//! not contain (see [`tracked`](super::tracked)).

use std::collections::BTreeMap;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, Statement, Value, entity::prelude::*,
};

use super::dialect::{Existing, Insert, Type};
use crate::domain::{calendar::Day, ids::CameraId, numbers::saturate};

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

/// Additional events of a camera on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayIncrement {
    /// The camera.
    pub camera_id: CameraId,
    /// The day.
    pub day: Day,
    /// The number of events.
    pub events: u64,
}

/// Returns what to add to the counts of a camera.
pub fn increments(camera_id: &CameraId, days: &BTreeMap<Day, u64>) -> Vec<DayIncrement> {
    let increment = |(day, events): (&Day, &u64)| DayIncrement {
        camera_id: camera_id.clone(),
        day: *day,
        events: *events,
    };
    days.iter().map(increment).collect()
}

/// Adds to the counts.
pub const INCREMENT: Insert<3> = Insert {
    table: "camera_days",
    columns: [("camera_id", Type::Text), ("day", Type::Text), ("count", Type::Number)],
    existing: Existing::Changes(
        " ON CONFLICT (camera_id, day) DO UPDATE SET count = camera_days.count + excluded.count",
    ),
};

/// Returns statements that add to the counts. Each camera and day may occur once.
pub fn increment_statements(
    backend: DbBackend,
    increments: &[DayIncrement],
) -> impl Iterator<Item = Statement> {
    let chunks = increments.chunks(ROWS_PER_STATEMENT);
    chunks.map(move |chunk| INCREMENT.statement(backend, chunk.iter().map(row)))
}

/// Returns the row of an increment.
pub fn row(increment: &DayIncrement) -> [Value; 3] {
    let DayIncrement { camera_id, day, events } = increment;
    let events: i64 = saturate(*events);
    [Value::from(camera_id.as_str()), day.to_string().into(), events.into()]
}

/// The number of events per camera and day.
pub type Counts = BTreeMap<CameraId, BTreeMap<Day, u64>>;

/// Returns the counts of all cameras from this day on.
pub async fn since(db: &impl ConnectionTrait, day: Day) -> Result<Counts, DbErr> {
    let rows = Entity::find().filter(Column::Day.gte(day.to_string())).all(db).await?;
    Ok(counts(rows))
}

/// Returns the counts of these cameras from this day on.
pub async fn of_since(db: &impl ConnectionTrait, ids: &[CameraId], day: Day) -> Result<Counts, DbErr> {
    let mut rows = Vec::new();
    for chunk in ids.chunks(IDS_PER_STATEMENT) {
        let these_cameras = Column::CameraId.is_in(chunk.iter().map(CameraId::as_str));
        let days = Entity::find().filter(Column::Day.gte(day.to_string()));
        rows.extend(days.filter(these_cameras).all(db).await?);
    }
    Ok(counts(rows))
}

fn counts(rows: Vec<Model>) -> Counts {
    let mut counts = Counts::new();
    for row in rows {
        // Invalid rows cannot exist, because all rows were written by this module.
        if let (Ok(camera), Ok(day)) = (CameraId::parse(row.camera_id), row.day.parse()) {
            counts.entry(camera).or_default().insert(day, saturate(row.count));
        }
    }
    counts
}

/// Removes the counts before this day. Returns the number of removed rows.
pub async fn delete_before(db: &impl ConnectionTrait, day: Day) -> Result<u64, DbErr> {
    let old = Entity::delete_many().filter(Column::Day.lt(day.to_string()));
    Ok(old.exec(db).await?.rows_affected)
}

/// Removes the counts of a camera.
pub async fn delete_camera(db: &impl ConnectionTrait, camera: &CameraId) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::CameraId.eq(camera.as_str())).exec(db).await?;
    Ok(())
}
