//! The table `tokens`: a record and a hash for each API token. The tokens themselves are not stored.

use sea_orm::{
    ActiveValue::Set, DbBackend, DbErr, EntityTrait, PaginatorTrait as _, QueryOrder, entity::prelude::*,
};

use super::Store;
use crate::domain::{
    clock::{self, Timestamp},
    token::{
        TokenRecord,
        scope::Scopes,
        secret::{TokenHash, TokenName},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub hash: Vec<u8>,
    pub scopes: String,
    pub created_at: i64,
    pub last_used_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The result of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The token was added.
    Yes,
    /// A token with this name exists.
    Exists,
    /// The maximum number of tokens is reached.
    TooMany,
}

/// Returns all tokens, ordered by name.
pub async fn all(store: &Store) -> Result<Vec<(TokenHash, TokenRecord)>, DbErr> {
    let rows = Entity::find().order_by_asc(Column::Name).all(&store.read).await?;
    Ok(rows.into_iter().filter_map(token).collect())
}

/// Adds a token in its own transaction, unless its name is taken or there are already `max` tokens. Another
/// process may add tokens at the same time.
pub async fn insert(
    store: &Store,
    record: &TokenRecord,
    hash: &TokenHash,
    max: u64,
) -> Result<Inserted, DbErr> {
    // Takes the write lock before the reads, so that the checks and the insertion are atomic.
    let txn = store.begin().await?;
    if txn.get_database_backend() == DbBackend::Postgres {
        txn.execute_unprepared("LOCK TABLE tokens IN SHARE ROW EXCLUSIVE MODE").await?;
    }
    if Entity::find_by_id(record.name.as_str()).one(&txn).await?.is_some() {
        return Ok(Inserted::Exists);
    }
    if Entity::find().count(&txn).await? >= max {
        return Ok(Inserted::TooMany);
    }
    let row = ActiveModel {
        name: Set(record.name.as_str().to_owned()),
        hash: Set(hash.as_bytes().to_vec()),
        scopes: Set(record.scopes.to_string()),
        created_at: Set(clock::to_micros(record.created_at)),
        last_used_at: Set(record.last_used_at.map(clock::to_micros)),
    };
    Entity::insert(row).exec_without_returning(&txn).await?;
    txn.commit().await?;
    Ok(Inserted::Yes)
}

/// Removes a token. Returns whether it existed.
pub async fn delete(store: &Store, name: &TokenName) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(name.as_str()).exec(&store.write).await?.rows_affected > 0)
}

/// Records that a token was used.
pub async fn note_use(store: &Store, name: &TokenName, time: Timestamp) -> Result<(), DbErr> {
    let last_used_at = Some(clock::to_micros(time));
    let update = Entity::update_many().col_expr(Column::LastUsedAt, Expr::value(last_used_at));
    update.filter(Column::Name.eq(name.as_str())).exec(&store.write).await.map(drop)
}

/// Returns `None` for a row that this version does not understand. Such a token grants no access.
fn token(row: Model) -> Option<(TokenHash, TokenRecord)> {
    let record = TokenRecord {
        name: TokenName::parse(row.name).ok()?,
        scopes: Scopes::parse(row.scopes.split(',')).ok()?,
        created_at: clock::from_micros(row.created_at),
        last_used_at: row.last_used_at.map(clock::from_micros),
    };
    Some((TokenHash::from_bytes(&row.hash)?, record))
}
