//! The table `mqtt_config`: a single row with the MQTT settings as JSON, their secrets as age ciphertext, and
//! the client id of this installation.

use sea_orm::{entity::Set, entity::prelude::*};

use super::{SharedKeysRow, Store, StoreError, cluster};

/// The only row's id.
const ROW: i32 = 1;

/// The only row of the table.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mqtt_config")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Generated once, when the row is created.
    pub client_id: String,
    /// The settings as JSON, without secrets. `None` if no settings are stored yet.
    pub settings: Option<String>,
    /// The password as age ciphertext. `None` if there is no password.
    pub password: Option<Vec<u8>>,
    /// The client key as age ciphertext. `None` if there is no client key.
    pub client_key: Option<Vec<u8>>,
    /// When the settings were last replaced, in microseconds since 1970.
    pub updated_at: Option<i64>,
    /// The recipients that the ciphertexts are encrypted to in addition to the identity: public keys, sorted
    /// and separated by commas.
    pub recipients: String,
}

/// The table has no relations.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The change to a secret's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretColumn {
    /// The column is not changed.
    Keep,
    /// The column is set to this ciphertext, or to null.
    Write(Option<Vec<u8>>),
}

impl SecretColumn {
    fn into_value(self) -> sea_orm::ActiveValue<Option<Vec<u8>>> {
        match self {
            Self::Keep => sea_orm::ActiveValue::NotSet,
            Self::Write(ciphertext) => Set(ciphertext),
        }
    }
}

/// Returns the row. If there is none yet, creates it with a new client id and without settings.
pub async fn load_or_create(
    store: &Store,
    new_client_id: impl FnOnce() -> String,
) -> Result<Model, StoreError> {
    if let Some(row) = load(store).await? {
        return Ok(row);
    }
    let client_id = Set(new_client_id());
    Ok(ActiveModel { id: Set(ROW), client_id, ..Default::default() }.insert(&store.write).await?)
}

/// Returns the row, or `None` if there is none yet.
pub async fn load(store: &Store) -> Result<Option<Model>, StoreError> {
    Ok(Entity::find_by_id(ROW).one(&store.write).await?)
}

/// Replaces the settings and changes the secrets in one transaction.
pub async fn save(
    store: &Store,
    settings: String,
    password: SecretColumn,
    client_key: SecretColumn,
    updated_at: i64,
) -> Result<(), StoreError> {
    let row = ActiveModel {
        id: Set(ROW),
        settings: Set(Some(settings)),
        password: password.into_value(),
        client_key: client_key.into_value(),
        updated_at: Set(Some(updated_at)),
        ..Default::default()
    };
    write(store, row).await
}

/// Replaces only the ciphertexts and the recipients, after the same secrets, and these shared keys, were encrypted
/// again. Returns `false` and changes nothing if the settings were replaced since the row was `seen`.
pub async fn save_ciphertexts(
    store: &Store,
    seen: &Model,
    password: SecretColumn,
    client_key: SecretColumn,
    recipients: String,
    shared: &SharedKeysRow,
) -> Result<bool, StoreError> {
    let (password, client_key) = (password.into_value(), client_key.into_value());
    let row = ActiveModel { password, client_key, recipients: Set(recipients), ..Default::default() };
    let unchanged = match seen.updated_at {
        Some(at) => Column::UpdatedAt.eq(at),
        None => Column::UpdatedAt.is_null(),
    };
    let update = Entity::update_many().set(row).filter(Column::Id.eq(ROW)).filter(unchanged);
    if shared.is_empty() {
        return Ok(update.exec(&store.write).await?.rows_affected > 0);
    }
    let transaction = store.begin().await?;
    if update.exec(&transaction).await?.rows_affected == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    cluster::save_keys(&transaction, shared).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn write(store: &Store, row: ActiveModel) -> Result<(), StoreError> {
    let transaction = store.begin().await?;
    Entity::update(row).exec(&transaction).await?;
    Ok(transaction.commit().await?)
}

/// Writes the row without changing it, to check that the database is writable.
pub async fn touch(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    db.execute_unprepared("UPDATE mqtt_config SET id = id").await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database::TestDatabase;

    #[tokio::test]
    async fn the_client_id_is_generated_once() {
        for database in TestDatabase::each() {
            let store = database.open().await;
            let first = load_or_create(&store, || "liveobject-1".to_owned()).await.unwrap();
            store.close().await;
            let again = load_or_create(&database.open().await, || "liveobject-2".to_owned()).await.unwrap();
            assert_eq!((first.client_id.as_str(), &first), ("liveobject-1", &again));
            assert_eq!((again.settings, again.password, again.updated_at), (None, None, None));
        }
    }

    #[tokio::test]
    async fn kept_secrets_are_not_changed() {
        for database in TestDatabase::each() {
            let store = database.open().await;
            load_or_create(&store, || "c".to_owned()).await.unwrap();
            let (password, none) = (SecretColumn::Write(Some(vec![1, 2])), SecretColumn::Write(None));
            save(&store, "{}".to_owned(), password, SecretColumn::Keep, 5).await.unwrap();
            save(&store, "{\"a\":1}".to_owned(), SecretColumn::Keep, none, 6).await.unwrap();
            let row = load(&store).await.unwrap().unwrap();
            assert_eq!(row.settings.as_deref(), Some("{\"a\":1}"));
            assert_eq!(
                (row.client_id.as_str(), row.password, row.updated_at),
                ("c", Some(vec![1, 2]), Some(6))
            );
        }
    }
}
