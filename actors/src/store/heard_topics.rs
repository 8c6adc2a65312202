//! The table `heard_topics`: the topics that had a subscriber on a broker, and when this was last noticed. The
//! discovery prefix stands for Home Assistant.

use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
    entity::prelude::*, sea_query::OnConflict,
};

use super::Store;
use crate::domain::clock::LogTime;

const ROWS_PER_STATEMENT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "heard_topics")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub broker: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub topic: String,
    /// In log time.
    pub heard_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Returns at most `limit` topics that had a subscriber on this broker, the latest first.
pub async fn of_broker(
    db: &impl ConnectionTrait,
    broker: &str,
    limit: u64,
) -> Result<Vec<(String, LogTime)>, DbErr> {
    let rows: Vec<(String, i64)> = Entity::find()
        .select_only()
        .columns([Column::Topic, Column::HeardAt])
        .filter(Column::Broker.eq(broker))
        .order_by(Column::HeardAt, Order::Desc)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|(topic, at)| (topic, LogTime(at))).collect())
}

/// Adds topics on this broker, or sets when they last had a subscriber, in one transaction.
pub async fn note(store: &Store, broker: &str, topics: &[(String, LogTime)]) -> Result<(), DbErr> {
    let txn = store.begin().await?;
    for chunk in topics.chunks(ROWS_PER_STATEMENT) {
        let rows = chunk.iter().map(|(topic, heard_at)| ActiveModel {
            broker: Set(broker.to_owned()),
            topic: Set(topic.clone()),
            heard_at: Set(heard_at.0),
        });
        let update =
            OnConflict::columns([Column::Broker, Column::Topic]).update_column(Column::HeardAt).to_owned();
        Entity::insert_many(rows).on_conflict(update).exec_without_returning(&txn).await?;
    }
    txn.commit().await
}

/// Removes the topics that last had a subscriber before this time.
pub async fn forget(db: &impl ConnectionTrait, before: LogTime) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::HeardAt.lt(before.0)).exec(db).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database::TestDatabase;

    #[tokio::test]
    async fn topics_are_kept_per_broker_until_they_are_forgotten() {
        for database in TestDatabase::each() {
            let store = database.open().await;
            let topic = |name: &str, at| (name.to_owned(), LogTime(at));
            note(&store, "a:1", &[topic("x", 1), topic("y", 2)]).await.unwrap();
            note(&store, "b:1", &[topic("x", 3)]).await.unwrap();
            note(&store, "a:1", &[topic("x", 4), topic("z", 5)]).await.unwrap();
            let of = async |broker: &str, limit| of_broker(&store.read, broker, limit).await.unwrap();
            assert_eq!(of("a:1", 9).await, [topic("z", 5), topic("x", 4), topic("y", 2)]);
            assert_eq!(of("a:1", 1).await, [topic("z", 5)]);
            forget(&store.write, LogTime(4)).await.unwrap();
            assert_eq!(of("a:1", 9).await, [topic("z", 5), topic("x", 4)]);
            assert_eq!(of("b:1", 9).await, []);
        }
    }
}
