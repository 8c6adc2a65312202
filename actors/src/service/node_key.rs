//! The key with which this node proves to the active node that it has forwarded a request.

use super::{ServiceOptions, node::ask};
use crate::{
    config::{SharedKey, shared_link_key},
    domain::node_key::NodeKey,
    store::Location,
};

impl ServiceOptions {
    /// Reads the key from a database on a server, which the first active node has stored there. Returns `None` while
    /// there is none, if this node has another identity, or if the database cannot be read at the moment.
    pub async fn load_node_key(&self) -> Option<NodeKey> {
        let location = self.database().ok()?;
        if matches!(location, Location::File(_)) {
            return None;
        }
        match ask(&location, async |store| shared_link_key(store, &self.identity_source()).await).await? {
            SharedKey::Known(key) => Some(NodeKey::new(key)),
            SharedKey::Absent => None,
            SharedKey::Unreadable(reason) => {
                tracing::debug!(reason, "requests that this node forwards carry no proof");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{Service, testing::database::TestDatabase};

    #[actix_rt::test(system = "crate::System")]
    async fn a_node_with_the_same_identity_has_the_key_of_the_active_node() {
        let (database, [first, second]) =
            (TestDatabase::postgres(), [0, 1].map(|_| tempfile::tempdir().unwrap()));
        let options = database.options(first.path());
        assert!(options.load_node_key().await.is_none(), "there are no tables");
        let service = Service::start(options.clone()).await.unwrap();
        let (from, to) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let identity_file = Some(first.path().join("identity.age"));
        let other = ServiceOptions { identity_file, ..database.options(second.path()) };
        let proof = other.load_node_key().await.unwrap().prove(from, to);
        assert_eq!(service.handle().links.node_key().verify(&proof, to), Some(from));
        assert!(database.options(second.path()).load_node_key().await.is_none(), "another identity");
        assert!(!second.path().join("identity.age").exists(), "nothing was created");
        service.stop().await;
    }
}
