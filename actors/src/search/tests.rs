//! The actor counts events, and reports faults.

use actix::Actor as _;
use tokio::sync::mpsc;

use super::*;
use crate::domain::{
    clock,
    search::{DensityQuery, EventFilter},
    store_fault::StoreFault,
};

fn query() -> DensityQuery {
    DensityQuery {
        from: clock::from_micros(0),
        to: clock::from_micros(7_200_000_000),
        step_seconds: 3600,
        filter: EventFilter::default(),
        before: None,
    }
}

#[actix_rt::test(system = "crate::System")]
async fn events_are_counted_until_the_database_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::testing::database::open(&dir.path().join("l.db")).await;
    let insert = "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) VALUES \
                  (1, 'a', 'c', 3599999999, 1, x''), (2, 'b', 'c', 3600000000, 1, x'')";
    store.execute(insert).await.unwrap();
    let (crashed, _) = mpsc::unbounded_channel();
    let actor = SearchActor::new(store.clone(), crashed).start();
    let counted = actor.send(CountEvents(query())).await.unwrap().unwrap();
    assert_eq!(counted, Density { events: vec![1, 1], next_before: None });
    store.close().await;
    assert_eq!(actor.send(CountEvents(query())).await.unwrap(), Err(QueryError(StoreFault::Other)));
}
