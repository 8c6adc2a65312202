//! The table `replays`, and the search for the events of a replay.

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    entity::prelude::*,
};

use super::{Store, StoreError, events, page};
use crate::domain::{
    clock,
    event_log::LogRow,
    ids::{CameraId, Seq},
    numbers::saturate,
    replay::{Replay, ReplayRecord, ReplayRequest, ReplayState, ReplayTopic},
};

/// How many positions of the log are searched at a time. A search takes some 10 ms.
const CHUNK: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "replays")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub state: String,
    pub from_at: i64,
    pub to_at: i64,
    pub camera_id: Option<String>,
    pub topic: String,
    pub max_per_second: i64,
    pub events: i64,
    pub published: i64,
    pub skipped: i64,
    pub position: i64,
    pub last_seq: i64,
    pub reason: Option<String>,
    pub created_at: i64,
    pub ended_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The events of a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Matching {
    /// How many there are.
    pub events: u64,
    /// The position of the first one.
    pub first: Seq,
    /// The position of the last one.
    pub last: Seq,
}

/// A part of the events of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The positions of the events, in order.
    pub seqs: Vec<Seq>,
    /// Up to where the log was searched.
    pub end: Seq,
}

/// Adds a replay and returns its id.
pub async fn insert(db: &impl ConnectionTrait, record: &ReplayRecord) -> Result<i64, DbErr> {
    let model = ActiveModel { id: NotSet, ..active(record) };
    Ok(Entity::insert(model).exec(db).await?.last_insert_id)
}

/// Updates these replays and removes others, in one transaction.
pub async fn write(store: &Store, changed: &[ReplayRecord], removed: &[i64]) -> Result<(), DbErr> {
    let txn = store.begin().await?;
    for record in changed {
        let exists = Entity::find_by_id(record.replay.id).one(&txn).await?.is_some();
        if exists {
            Entity::update(active(record)).exec(&txn).await?;
        }
    }
    if !removed.is_empty() {
        Entity::delete_many().filter(Column::Id.is_in(removed.iter().copied())).exec(&txn).await?;
    }
    txn.commit().await
}

/// Returns all replays, oldest first.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<ReplayRecord>, DbErr> {
    let rows = Entity::find().order_by_asc(Column::Id).all(db).await?;
    Ok(rows.into_iter().map(record).collect())
}

fn active(record: &ReplayRecord) -> ActiveModel {
    let ReplayRecord { replay, position, last } = record;
    let ReplayRequest { from, to, camera_id, topic, max_per_second } = &replay.request;
    // Whether it is running is not stored: another one may run after the next start.
    let state = if replay.state.is_over() { replay.state } else { ReplayState::Queued };
    ActiveModel {
        id: Set(replay.id),
        state: Set(state.as_str().to_owned()),
        from_at: Set(clock::to_micros(*from)),
        to_at: Set(clock::to_micros(*to)),
        camera_id: Set(camera_id.as_ref().map(|id| id.as_str().to_owned())),
        topic: Set(topic.as_str().to_owned()),
        max_per_second: Set((*max_per_second).into()),
        events: Set(saturate(replay.events)),
        published: Set(saturate(replay.published)),
        skipped: Set(saturate(replay.skipped)),
        position: Set(position.0),
        last_seq: Set(last.0),
        reason: Set(replay.reason.clone()),
        created_at: Set(clock::to_micros(replay.created_at)),
        ended_at: Set(replay.ended_at.map(clock::to_micros)),
    }
}

fn record(row: Model) -> ReplayRecord {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let request = ReplayRequest {
        from: clock::from_micros(row.from_at),
        to: clock::from_micros(row.to_at),
        // The table's contents were checked when they were accepted.
        camera_id: row.camera_id.and_then(|id| CameraId::parse(id).ok()),
        topic: ReplayTopic::named(row.topic),
        max_per_second: u16::try_from(row.max_per_second).unwrap_or(1).max(1),
    };
    let replay = Replay {
        id: row.id,
        state: ReplayState::named(&row.state),
        waiting_for: None,
        request,
        events: count(row.events),
        published: count(row.published),
        skipped: count(row.skipped),
        reason: row.reason,
        created_at: clock::from_micros(row.created_at),
        ended_at: row.ended_at.map(clock::from_micros),
    };
    ReplayRecord { replay, position: Seq(row.position), last: Seq(row.last_seq) }
}

/// Returns the number of the requested events, and the positions of the first and the last one. Searches
/// the whole log, a part at a time.
pub async fn count(store: &Store, request: &ReplayRequest) -> Result<Matching, StoreError> {
    let first: Option<Option<i64>> = events::Entity::find()
        .select_only()
        .column_as(events::Column::Seq.min(), "first")
        .into_tuple()
        .one(&store.read)
        .await?;
    let Some(first) = first.flatten() else { return Ok(Matching::default()) };
    let last = events::last_seq(&store.read).await?;
    let (mut matching, mut after) = (Matching::default(), Seq(first).previous());
    while after < last {
        let Found { seqs, end } = find(&store.read, request, after, last).await?;
        if let (Some(first), Some(last)) = (seqs.first(), seqs.last()) {
            matching.first = if matching.events == 0 { *first } else { matching.first };
            matching.last = *last;
            matching.events += u64::try_from(seqs.len()).unwrap_or(0);
        }
        after = end;
    }
    Ok(matching)
}

/// Searches the next part of the log, from the position after `after` up to `last`. If the database is damaged there,
/// events that cannot be read are left out.
pub async fn find(
    db: &impl ConnectionTrait,
    request: &ReplayRequest,
    after: Seq,
    last: Seq,
) -> Result<Found, StoreError> {
    let end = Seq(after.0.saturating_add(CHUNK)).min(last);
    let (from, to) = (clock::to_micros(request.from), clock::to_micros(request.to));
    let camera = request.camera_id.as_ref().map(CameraId::as_str);
    let seqs = events::Entity::find()
        .select_only()
        .column(events::Column::Seq)
        .filter(events::Column::Seq.gt(after.0))
        .filter(events::Column::Seq.lte(end.0))
        .filter(events::Column::OccurredAt.gte(from))
        .filter(events::Column::OccurredAt.lt(to))
        .apply_if(camera, |select, camera| select.filter(events::Column::CameraId.eq(camera)))
        .order_by_asc(events::Column::Seq)
        .into_tuple()
        .all(db)
        .await;
    let seqs = match seqs.map_err(StoreError::from) {
        Ok(seqs) => seqs.into_iter().map(Seq).collect(),
        Err(error) if error.is_damaged_row() => find_one_by_one(db, request, after, end).await?,
        Err(error) => return Err(error),
    };
    Ok(Found { seqs, end })
}

async fn find_one_by_one(
    db: &impl ConnectionTrait,
    request: &ReplayRequest,
    after: Seq,
    end: Seq,
) -> Result<Vec<Seq>, StoreError> {
    let mut seqs = Vec::new();
    for seq in after.next().0..=end.0 {
        let rows = page::read_at(db, &[Seq(seq)]).await?;
        seqs.extend(rows.into_iter().filter_map(|row| match row {
            LogRow::Event(event) => {
                let is_in_time = (request.from..request.to).contains(&event.times.occurred_at);
                let is_of_camera = request.camera_id.as_ref().is_none_or(|camera| *camera == event.camera_id);
                (is_in_time && is_of_camera).then_some(event.seq)
            }
            LogRow::Unreadable(_) => None,
        }));
    }
    Ok(seqs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database::TestDatabase;

    async fn store_of(database: &TestDatabase, rows: &str) -> Store {
        let store = database.open().await;
        let insert =
            "INSERT INTO events(seq, event_id, camera_id, occurred_at, received_at, payload) VALUES ";
        store.execute(&format!("{insert}{rows}")).await.unwrap();
        store
    }

    fn request(from: i64, to: i64, camera: Option<&str>) -> ReplayRequest {
        ReplayRequest {
            from: clock::from_micros(from),
            to: clock::from_micros(to),
            camera_id: camera.map(|id| CameraId::parse(id).unwrap()),
            topic: ReplayTopic::Own("replay".to_owned()),
            max_per_second: 7,
        }
    }

    fn replay(request: ReplayRequest) -> ReplayRecord {
        let replay = Replay {
            id: 0,
            state: ReplayState::Running,
            waiting_for: None,
            request,
            events: 9,
            published: 2,
            skipped: 1,
            reason: None,
            created_at: clock::from_micros(5),
            ended_at: None,
        };
        ReplayRecord { replay, position: Seq(4), last: Seq(9) }
    }

    #[tokio::test]
    async fn events_are_found_by_their_timestamp_and_camera() {
        for database in TestDatabase::each() {
            let rows = "(1,'a','c',10,99,x''), (2,'b','d',20,1,x''), (5,'c','c',5,1,x''), (20006,'d','c',29,1,x''), \
                    (20007,'e','c',30,1,x'')";
            let store = store_of(&database, rows).await;
            let all = count(&store, &request(10, 30, None)).await.unwrap();
            assert_eq!(all, Matching { events: 3, first: Seq(1), last: Seq(20006) });
            let one = count(&store, &request(10, 30, Some("d"))).await.unwrap();
            assert_eq!(one, Matching { events: 1, first: Seq(2), last: Seq(2) });
            assert_eq!(count(&store, &request(100, 200, None)).await.unwrap().events, 0);
            let found = find(&store.read, &request(10, 30, None), Seq(1), Seq(20006)).await.unwrap();
            assert_eq!(found, Found { seqs: vec![Seq(2)], end: Seq(10_001) });
            let same =
                find_one_by_one(&store.read, &request(10, 30, Some("c")), Seq(0), Seq(9)).await.unwrap();
            assert_eq!(same, [Seq(1)]);
        }
    }

    #[tokio::test]
    async fn a_replay_is_stored_with_its_progress() {
        for database in TestDatabase::each() {
            let store = store_of(&database, "(1,'a','c',10,99,x'')").await;
            let mut first = replay(request(1, 2, Some("c")));
            first.replay.id = insert(&store.write, &first).await.unwrap();
            let second = replay(request(1, 2, None));
            let second_id = insert(&store.write, &second).await.unwrap();
            first.position = Seq(8);
            first.replay.state = ReplayState::Failed;
            first.replay.reason = Some("because".to_owned());
            first.replay.ended_at = Some(clock::from_micros(7));
            write(&store, std::slice::from_ref(&first), &[second_id]).await.unwrap();
            assert_eq!(all(&store.read).await.unwrap(), std::slice::from_ref(&first));
            write(
                &store,
                &[ReplayRecord { replay: Replay { id: 77, ..first.replay.clone() }, ..first.clone() }],
                &[],
            )
            .await
            .unwrap();
            assert_eq!(all(&store.read).await.unwrap().len(), 1, "a removed replay does not come back");
            let third = insert(&store.write, &second).await.unwrap();
            assert!(third > second_id, "ids are not reused");
            assert_eq!(all(&store.read).await.unwrap()[1].replay.state, ReplayState::Queued);
        }
    }
}
