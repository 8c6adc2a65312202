//! `mqtt_config`: the one row that holds the MQTT settings as JSON, their secrets as age ciphertext, and the client id of
//! this installation.

use sea_orm::{TransactionTrait, entity::Set, entity::prelude::*};

use super::{Store, StoreError};

/// The id of the only row.
const ROW: i32 = 1;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mqtt_config")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Made once, when the row is.
    pub client_id: String,
    /// JSON without secrets; `None`: none stored yet.
    pub settings: Option<String>,
    /// age ciphertext; `None`: no password.
    pub password: Option<Vec<u8>>,
    /// age ciphertext; `None`: no client key.
    pub client_key: Option<Vec<u8>>,
    /// When the settings were last replaced, in µs since 1970.
    pub updated_at: Option<i64>,
    /// Whom the ciphertexts are encrypted to besides the identity: public keys, sorted, separated by commas.
    pub recipients: String,
}

/// It stands alone.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What becomes of a secret's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretColumn {
    /// It stays, byte for byte.
    Keep,
    /// It holds this ciphertext, or nothing, from now on.
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

/// The row; when there is none yet, it is made with this client id and nothing else.
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

/// The row, as the last commit left it; `None` when there is none yet.
pub async fn load(store: &Store) -> Result<Option<Model>, StoreError> {
    Ok(Entity::find_by_id(ROW).one(&store.write).await?)
}

/// Replaces the settings and what is to be written of the secrets, in one transaction.
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

/// Replaces the ciphertexts alone, and notes whom they are encrypted to, in one transaction: the same secrets, encrypted
/// anew. Whether it was done: not when the settings were replaced since the row was `seen`.
pub async fn save_ciphertexts(
    store: &Store,
    seen: &Model,
    password: SecretColumn,
    client_key: SecretColumn,
    recipients: String,
) -> Result<bool, StoreError> {
    let (password, client_key) = (password.into_value(), client_key.into_value());
    let row = ActiveModel { password, client_key, recipients: Set(recipients), ..Default::default() };
    let unchanged = match seen.updated_at {
        Some(at) => Column::UpdatedAt.eq(at),
        None => Column::UpdatedAt.is_null(),
    };
    let update = Entity::update_many().set(row).filter(Column::Id.eq(ROW)).filter(unchanged);
    Ok(update.exec(&store.write).await?.rows_affected > 0)
}

async fn write(store: &Store, row: ActiveModel) -> Result<(), StoreError> {
    let transaction = store.write.begin().await?;
    Entity::update(row).exec(&transaction).await?;
    Ok(transaction.commit().await?)
}

/// Writes the row as it is: whether the database can be written to.
pub async fn touch(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    db.execute_unprepared("UPDATE mqtt_config SET id = id").await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(dir: &tempfile::TempDir) -> Store {
        Store::open_file(&dir.path().join("l.db")).await.unwrap()
    }

    #[actix_rt::test]
    async fn the_client_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(&store(&dir).await, || "liveobject-1".to_owned()).await.unwrap();
        let again = load_or_create(&store(&dir).await, || "liveobject-2".to_owned()).await.unwrap();
        assert_eq!((first.client_id.as_str(), &first), ("liveobject-1", &again));
        assert_eq!((again.settings, again.password, again.updated_at), (None, None, None));
    }

    #[actix_rt::test]
    async fn what_is_kept_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        load_or_create(&store, || "c".to_owned()).await.unwrap();
        let (password, none) = (SecretColumn::Write(Some(vec![1, 2])), SecretColumn::Write(None));
        save(&store, "{}".to_owned(), password, SecretColumn::Keep, 5).await.unwrap();
        save(&store, "{\"a\":1}".to_owned(), SecretColumn::Keep, none, 6).await.unwrap();
        let row = load(&store).await.unwrap().unwrap();
        assert_eq!(row.settings.as_deref(), Some("{\"a\":1}"));
        assert_eq!((row.client_id.as_str(), row.password, row.updated_at), ("c", Some(vec![1, 2]), Some(6)));
    }
}
