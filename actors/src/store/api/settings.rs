//! Settings, keys and tokens.

use super::super::{
    ActiveNode, Inserted, MqttConfigRow, SecretColumn, SharedKeysRow, Store, StoreError, cluster,
    mqtt_config, tokens,
};
use crate::domain::{
    clock::Timestamp,
    token::{
        TokenRecord,
        secret::{TokenHash, TokenName},
    },
};

/// MQTT settings.
impl Store {
    /// Returns the settings row. If there is none, creates it with only this client id.
    pub(crate) async fn load_or_create_settings(
        &self,
        new_client_id: impl FnOnce() -> String,
    ) -> Result<MqttConfigRow, StoreError> {
        mqtt_config::load_or_create(self, new_client_id).await
    }

    /// Returns the settings row as of the last commit, or `None` if there is none yet.
    pub(crate) async fn load_settings(&self) -> Result<Option<MqttConfigRow>, StoreError> {
        mqtt_config::load(self).await
    }

    /// Replaces the settings, and the secrets that change, in one transaction.
    pub(crate) async fn save_settings(
        &self,
        settings: String,
        password: SecretColumn,
        client_key: SecretColumn,
        updated_at: i64,
    ) -> Result<(), StoreError> {
        mqtt_config::save(self, settings, password, client_key, updated_at).await
    }

    /// Replaces the ciphertexts of the same secrets and shared keys, and stores their recipients, in one transaction.
    /// Returns `false` and changes nothing if the settings were replaced since the row was `seen`.
    pub(crate) async fn save_ciphertexts(
        &self,
        seen: &MqttConfigRow,
        password: SecretColumn,
        client_key: SecretColumn,
        recipients: String,
        shared: &SharedKeysRow,
    ) -> Result<bool, StoreError> {
        mqtt_config::save_ciphertexts(self, seen, password, client_key, recipients, shared).await
    }
}

/// What the nodes with a database on a server share.
impl Store {
    /// Returns the node that owns the event log; `None` if there is none, or if the database is a file.
    pub async fn active_node(&self) -> Result<Option<ActiveNode>, StoreError> {
        Ok(cluster::active_node(self).await?)
    }

    /// Returns the keys that all nodes use, as ciphertext; none if the database is a file.
    pub(crate) async fn load_shared_keys(&self) -> Result<SharedKeysRow, StoreError> {
        Ok(cluster::load_keys(self).await?)
    }

    /// Stores these keys. Those that are absent stay as they are.
    pub(crate) async fn save_shared_keys(&self, keys: &SharedKeysRow) -> Result<(), StoreError> {
        Ok(cluster::save_keys(&self.write, keys).await?)
    }

    /// Returns the ids of the sessions that were ended, and when they expire, as log time in seconds; none if the
    /// database is a file.
    pub(crate) async fn list_ended_sessions(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(cluster::ended_sessions(self).await?)
    }

    /// Stores sessions that were ended, and removes those that have expired at this log time, in seconds.
    pub(crate) async fn end_sessions(&self, ended: &[(String, i64)], now: i64) -> Result<(), StoreError> {
        Ok(cluster::end_sessions(self, ended, now).await?)
    }

    /// Returns the hashes of the nodes' admin tokens; none if the database is a file.
    pub(crate) async fn list_node_tokens(&self) -> Result<Vec<TokenHash>, StoreError> {
        Ok(cluster::node_tokens(self).await?)
    }

    /// Removes the key of the sessions, so that the next start creates another one.
    pub(crate) async fn end_all_sessions(&self) -> Result<(), StoreError> {
        Ok(cluster::end_all_sessions(self).await?)
    }
}

/// API tokens.
impl Store {
    /// Returns every token, sorted by name.
    pub(crate) async fn list_tokens(&self) -> Result<Vec<(TokenHash, TokenRecord)>, StoreError> {
        Ok(tokens::all(self).await?)
    }

    /// Adds a token in one transaction, unless its name is taken or there are already `max` tokens.
    pub(crate) async fn insert_token(
        &self,
        record: &TokenRecord,
        hash: &TokenHash,
        max: u64,
    ) -> Result<Inserted, StoreError> {
        Ok(tokens::insert(self, record, hash, max).await?)
    }

    /// Removes a token. Returns whether it existed.
    pub(crate) async fn delete_token(&self, name: &TokenName) -> Result<bool, StoreError> {
        Ok(tokens::delete(self, name).await?)
    }

    /// Stores when a token was used.
    pub(crate) async fn note_token_use(&self, name: &TokenName, at: Timestamp) -> Result<(), StoreError> {
        Ok(tokens::note_use(self, name, at).await?)
    }
}
