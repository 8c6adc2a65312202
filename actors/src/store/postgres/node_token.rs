//! The hash of a node's admin token, which the owner of the log accepts too. Each node stores its own, on a connection
//! that is closed afterwards: that happens at the start and when the token changes.

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, ConnectOptions as _, Connection as _},
};
use tokio::time::timeout;

use super::{CONNECT_TIMEOUT, Location, held::no_response, options};
use crate::{
    domain::{lease::NodeId, token::secret::TokenHash},
    store::StoreError,
};

const PUBLISH: &str = "INSERT INTO node_tokens (node, hash, seen_at) VALUES ($1::uuid, $2, now()) \
    ON CONFLICT (node) DO UPDATE SET hash = excluded.hash, seen_at = excluded.seen_at";
/// These are no longer valid, see `store/cluster.rs`.
const FORGET: &str = "DELETE FROM node_tokens WHERE seen_at <= now() - interval '7 days'";

/// Stores the hash of this node's admin token in place of an earlier one.
pub async fn publish(location: &Location, node: NodeId, hash: &TokenHash) -> Result<(), StoreError> {
    let publishing = async {
        let mut connection = options(location).connect().await?;
        let publish = sqlx::query(PUBLISH).bind(node.0.to_string()).bind(hash.as_bytes());
        publish.execute(&mut connection).await?;
        sqlx::query(FORGET).execute(&mut connection).await?;
        connection.close().await
    };
    let published = timeout(CONNECT_TIMEOUT, publishing).await.unwrap_or_else(|_| Err(no_response()));
    published.map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())).into())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::testing::database::TestDatabase;

    #[tokio::test]
    async fn the_owner_knows_the_token_that_each_node_has_now() {
        let database = TestDatabase::postgres();
        let (one, other) = (NodeId(Uuid::from_u128(1)), NodeId(Uuid::from_u128(2)));
        let location = database.location();
        assert!(publish(&location, one, &TokenHash::of("a")).await.is_err(), "there is no table yet");
        let store = database.open().await;
        for (node, token) in [(one, "a"), (other, "b"), (one, "c")] {
            publish(&location, node, &TokenHash::of(token)).await.unwrap();
        }
        let known = store.list_node_tokens().await.unwrap();
        let is_known = |token| known.contains(&TokenHash::of(token));
        assert_eq!(["a", "b", "c"].map(is_known), [false, true, true]);
        let leave = "UPDATE node_tokens SET seen_at = seen_at - interval '8 days'";
        store.execute(leave).await.unwrap();
        assert!(store.list_node_tokens().await.unwrap().is_empty(), "they have not run for a week");
        publish(&location, other, &TokenHash::of("b")).await.unwrap();
        assert_eq!(store.list_node_tokens().await.unwrap(), [TokenHash::of("b")]);
        store.close().await;
    }
}
