//! The table `discovery_topics`: the topics on which a broker may retain one of our messages. A row is
//! written before the message is sent, and removed after the broker has acknowledged that the topic is
//! cleared.

use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    entity::prelude::*, sea_query::OnConflict,
};

use super::Store;
use crate::domain::retained::Kind;

const ROWS_PER_STATEMENT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "discovery_topics")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub broker: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub topic: String,
    pub kind: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Returns the topics on a broker, in order.
pub async fn of_broker(db: &impl ConnectionTrait, broker: &str) -> Result<Vec<(String, Kind)>, DbErr> {
    let rows: Vec<(String, String)> = Entity::find()
        .select_only()
        .columns([Column::Topic, Column::Kind])
        .filter(Column::Broker.eq(broker))
        .order_by_asc(Column::Topic)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|(topic, kind)| (topic, Kind::named(&kind))).collect())
}

/// Removes topics that are cleared, then adds topics that are about to be published. A topic may be in both
/// lists.
pub async fn change(
    store: &Store,
    broker: &str,
    cleared: &[String],
    new: &[(String, Kind)],
) -> Result<(), DbErr> {
    let txn = store.begin().await?;
    for chunk in cleared.chunks(ROWS_PER_STATEMENT) {
        Entity::delete_many()
            .filter(Column::Broker.eq(broker))
            .filter(Column::Topic.is_in(chunk.iter().map(String::as_str)))
            .exec(&txn)
            .await?;
    }
    for chunk in new.chunks(ROWS_PER_STATEMENT) {
        let rows = chunk.iter().map(|(topic, kind)| ActiveModel {
            broker: Set(broker.to_owned()),
            topic: Set(topic.clone()),
            kind: Set(kind.as_str().to_owned()),
        });
        let ignore = OnConflict::columns([Column::Broker, Column::Topic]).do_nothing().to_owned();
        Entity::insert_many(rows).on_conflict(ignore).exec_without_returning(&txn).await?;
    }
    txn.commit().await
}
