//! The admin token of this node, which the other nodes with its database accept, too.

use std::io;

use super::ServiceOptions;
use crate::{
    domain::token::TokenHash,
    keeper::node_id,
    store::{Location, OpenError, Store, StoreError},
};

/// Why the hash of the admin token was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishTokenError {
    /// The URL of the database is invalid.
    #[error(transparent)]
    Location(#[from] OpenError),
    /// The id of this node cannot be read.
    #[error("the id of this node cannot be read")]
    NodeId(#[source] io::Error),
    /// The database could not store it.
    #[error("the hash of the admin token was not stored")]
    Store(#[source] StoreError),
}

impl ServiceOptions {
    /// Stores the hash of this node's admin token in a database on a server, so that the other nodes accept the token.
    /// Does nothing if the database is a file. The data directory must be locked, and the tables must exist.
    pub async fn publish_admin_token(&self, hash: &TokenHash) -> Result<(), PublishTokenError> {
        let Location::Server(location) = self.database()? else { return Ok(()) };
        let node = node_id::load_or_create(&self.data_dir).map_err(PublishTokenError::NodeId)?;
        Store::publish_admin_token(&location, node, hash).await.map_err(PublishTokenError::Store)
    }
}
