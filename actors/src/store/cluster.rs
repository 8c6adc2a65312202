//! The tables `cluster`, `ended_sessions` and `node_tokens`, which exist only on a server: what the nodes with this
//! database share. The keys are stored as age ciphertext. Commands also learn here which node is active.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Value};

use super::{Store, dialect::statement};
use crate::domain::{node::NodeName, token::secret::TokenHash};

/// The keys that all nodes use, as age ciphertext.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedKeysRow {
    /// The key that signs links to pictures. `None` if no node has stored it yet.
    pub link_key: Option<Vec<u8>>,
    /// The key that signs the page's sessions, likewise.
    pub session_key: Option<Vec<u8>>,
}

impl SharedKeysRow {
    /// Returns whether it contains no key.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The owner of the event log, as a command sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveNode {
    /// Its name and URL.
    pub node: NodeName,
    /// How long ago it has reported to the database, by the server's clock.
    pub silent_for: Duration,
}

/// Returns the owner of the event log; `None` if there is none, or if the database is a file.
pub async fn active_node(store: &Store) -> Result<Option<ActiveNode>, DbErr> {
    const OWNER: &str = "SELECT node.name, node.url, \
        CAST(extract(epoch FROM clock_timestamp() - node.seen_at) AS double precision) \
        FROM owner JOIN node ON node.id = owner.node";
    if !store.is_on_server() {
        return Ok(None);
    }
    let row = store.read.query_one_raw(statement(&store.read, OWNER, [])).await?;
    row.map(|row| {
        let node = NodeName { name: row.try_get_by_index(0)?, url: row.try_get_by_index(1)? };
        // Negative if the clock of the server was set back.
        let silent_for = Duration::try_from_secs_f64(row.try_get_by_index(2)?).unwrap_or_default();
        Ok(ActiveNode { node, silent_for })
    })
    .transpose()
}

/// Returns the keys; none if the database is a file, which has one node.
pub async fn load_keys(store: &Store) -> Result<SharedKeysRow, DbErr> {
    const KEYS: &str = "SELECT link_key, session_key FROM cluster WHERE id = 1";
    if !store.is_on_server() {
        return Ok(SharedKeysRow::default());
    }
    let row = store.write.query_one_raw(statement(&store.write, KEYS, [])).await?;
    row.map_or_else(|| Ok(SharedKeysRow::default()), |row| keys(&row))
}

fn keys(row: &QueryResult) -> Result<SharedKeysRow, DbErr> {
    Ok(SharedKeysRow { link_key: row.try_get_by_index(0)?, session_key: row.try_get_by_index(1)? })
}

/// Stores these keys. Those that are absent stay as they are.
pub async fn save_keys(db: &impl ConnectionTrait, keys: &SharedKeysRow) -> Result<(), DbErr> {
    const SAVE: &str = "INSERT INTO cluster (id, link_key, session_key) VALUES (1, ?1, ?2) \
        ON CONFLICT (id) DO UPDATE SET link_key = COALESCE(excluded.link_key, cluster.link_key), \
        session_key = COALESCE(excluded.session_key, cluster.session_key)";
    let values: [Value; 2] = [keys.link_key.clone().into(), keys.session_key.clone().into()];
    db.execute_raw(statement(db, SAVE, values)).await.map(drop)
}

/// Returns the ids of the sessions that were ended, and when they expire, as log time in seconds.
pub async fn ended_sessions(store: &Store) -> Result<Vec<(String, i64)>, DbErr> {
    const ALL: &str = "SELECT id, expires FROM ended_sessions";
    if !store.is_on_server() {
        return Ok(Vec::new());
    }
    let rows = store.write.query_all_raw(statement(&store.write, ALL, [])).await?;
    rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
}

/// Stores sessions that were ended, and removes those that have expired at this log time, in seconds.
pub async fn end_sessions(store: &Store, ended: &[(String, i64)], now: i64) -> Result<(), DbErr> {
    const END: &str = "INSERT INTO ended_sessions (id, expires) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    const FORGET: &str = "DELETE FROM ended_sessions WHERE expires <= ?1";
    let transaction = store.begin().await?;
    transaction.execute_raw(statement(&transaction, FORGET, [now.into()])).await?;
    for (id, expires) in ended {
        let values = [id.as_str().into(), (*expires).into()];
        transaction.execute_raw(statement(&transaction, END, values)).await?;
    }
    transaction.commit().await
}

/// Removes the key of the sessions, so that the next start creates another one. All sessions have then ended.
pub async fn end_all_sessions(store: &Store) -> Result<(), DbErr> {
    let transaction = store.begin().await?;
    for sql in ["UPDATE cluster SET session_key = NULL", "DELETE FROM ended_sessions"] {
        transaction.execute_raw(statement(&transaction, sql, [])).await?;
    }
    transaction.commit().await
}

/// Returns the hashes of the nodes' admin tokens. That of a node that has not run for a week is no longer valid.
pub async fn node_tokens(store: &Store) -> Result<Vec<TokenHash>, DbErr> {
    const NEWEST: &str = "SELECT hash FROM node_tokens WHERE seen_at > now() - interval '7 days' \
        ORDER BY seen_at DESC LIMIT 100";
    if !store.is_on_server() {
        return Ok(Vec::new());
    }
    let rows = store.read.query_all_raw(statement(&store.read, NEWEST, [])).await?;
    let hash = |row: &QueryResult| Ok(TokenHash::from_bytes(&row.try_get_by_index::<Vec<u8>>(0)?));
    rows.iter().filter_map(|row| hash(row).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database::TestDatabase;

    #[tokio::test]
    async fn keys_are_stored_one_by_one_and_read_by_the_next_owner() {
        let database = TestDatabase::postgres();
        let store = database.open().await;
        assert!(load_keys(&store).await.unwrap().is_empty());
        let link = SharedKeysRow { link_key: Some(vec![1]), session_key: None };
        save_keys(&store.write, &link).await.unwrap();
        let session = SharedKeysRow { link_key: None, session_key: Some(vec![2]) };
        save_keys(&store.write, &session).await.unwrap();
        store.close().await;
        let store = database.open().await;
        let both = SharedKeysRow { link_key: Some(vec![1]), session_key: Some(vec![2]) };
        assert_eq!(load_keys(&store).await.unwrap(), both);
        store.close().await;
    }

    #[tokio::test]
    async fn ended_sessions_are_kept_until_they_expire() {
        let store = TestDatabase::postgres().open().await;
        let session = |id: &str, expires| (id.to_owned(), expires);
        end_sessions(&store, &[session("a", 10), session("b", 20)], 0).await.unwrap();
        end_sessions(&store, &[session("b", 20), session("c", 30)], 10).await.unwrap();
        let mut ended = ended_sessions(&store).await.unwrap();
        ended.sort_unstable();
        assert_eq!(ended, [session("b", 20), session("c", 30)]);
        let key = SharedKeysRow { link_key: Some(vec![1]), session_key: Some(vec![2]) };
        save_keys(&store.write, &key).await.unwrap();
        end_all_sessions(&store).await.unwrap();
        assert_eq!(ended_sessions(&store).await.unwrap(), []);
        assert_eq!(load_keys(&store).await.unwrap(), SharedKeysRow { session_key: None, ..key });
        store.close().await;
    }

    #[tokio::test]
    async fn a_file_has_none_of_this() {
        let store = TestDatabase::sqlite().open().await;
        assert!(load_keys(&store).await.unwrap().is_empty());
        assert_eq!(ended_sessions(&store).await.unwrap(), []);
        assert_eq!(active_node(&store).await.unwrap(), None);
    }
}
