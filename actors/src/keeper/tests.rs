//! Keepers with a real database on a server.

use actix::Addr;
use liveobject_test_support::Postgres;
use tokio::{sync::mpsc, time::sleep};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        lease::{NodeId, Term},
        node::Readable,
    },
    store::{Location, NodeDescription},
};

struct Database {
    server: &'static Postgres,
    name: String,
}

struct Keeper {
    actor: Addr<KeeperActor>,
    view: watch::Receiver<NodeView>,
    ownership: Ownership,
}

impl Database {
    fn new() -> Self {
        let server = Postgres::shared();
        Self { server, name: server.create_database() }
    }

    /// Starts a keeper of the node with this id.
    async fn keeper(&self, id: u128) -> Keeper {
        self.keeper_in(id, id).await
    }

    /// Starts a keeper of the node with this id, whose data directory is there.
    async fn keeper_in(&self, id: u128, place: u128) -> Keeper {
        let Ok(Location::Server(location)) = Location::parse(&self.server.url(&self.name)) else {
            unreachable!("it is on a server");
        };
        let me = NodeName { name: format!("node-{id}"), url: format!("http://node-{id}:8080") };
        let (name, url, version) = (me.name.clone(), me.url.clone(), "1".to_owned());
        let about = NodeDescription { name, url, version, reads: Readable::ALL };
        let id = NodeId(Uuid::from_u128(id));
        let connection =
            NodeConnection::open(&location, id, Some(Uuid::from_u128(place)), about).await.unwrap();
        let ownership = Ownership::new(Lease::new(id, true));
        let metrics = crate::metrics::NodeMetrics::default();
        let inspection: Inspection = Box::new(|_| Box::pin(async { None }));
        let (keeper, view) = KeeperActor::new(
            connection,
            me,
            ownership.clone(),
            metrics,
            inspection,
            mpsc::unbounded_channel().0,
        );
        Keeper { actor: keeper.start(), view, ownership }
    }
}

impl Keeper {
    async fn until(&mut self, is_met: impl Fn(&NodeView) -> bool) -> NodeView {
        self.view.wait_for(is_met).await.unwrap().clone()
    }

    async fn until_active(&mut self) -> Term {
        self.until(|view| view.role.term().is_some()).await.role.term().unwrap()
    }
}

fn name_of(view: &NodeView) -> Option<&str> {
    view.active.as_ref().map(|active| active.name.as_str())
}

#[actix_rt::test(system = "crate::System")]
async fn one_node_is_active_and_the_next_one_is_when_it_has_given_the_event_log_back() {
    let database = Database::new();
    let mut first = database.keeper(1).await;
    let term = first.until_active().await;
    assert!(first.ownership.is_trusted_in(term));
    let mut second = database.keeper(2).await;
    let view = second.until(|view| view.active.is_some()).await;
    assert_eq!((view.role, name_of(&view)), (NodeRole::Standby, Some("node-1")));
    first.actor.send(Release).await.unwrap();
    assert_ne!(second.until_active().await, term);
    let view = second.until(|view| name_of(view) == Some("node-2")).await;
    assert!(!first.ownership.is_trusted() && view.is_connected);
    assert!(!first.actor.connected(), "it has stopped");
}

#[actix_rt::test(system = "crate::System")]
async fn a_term_that_has_ended_is_noticed_with_the_next_beat() {
    let database = Database::new();
    let mut keeper = database.keeper(1).await;
    let term = keeper.until_active().await;
    let sql = "UPDATE liveobject_0.owner SET term = gen_random_uuid(), node = NULL";
    database.server.execute(&database.name, sql);
    let view = keeper.until(|view| view.role.term() != Some(term)).await;
    assert_eq!(view.role, NodeRole::Standby);
    assert_ne!(keeper.until_active().await, term, "nobody else wants it");
}

#[actix_rt::test(system = "crate::System")]
async fn a_write_that_was_fenced_ends_the_term() {
    let database = Database::new();
    let mut keeper = database.keeper(1).await;
    let term = keeper.until_active().await;
    keeper.ownership.fenced(term);
    keeper.until(|view| view.role.term() != Some(term)).await;
}

#[actix_rt::test(system = "crate::System")]
async fn the_copy_of_an_active_node_ends_and_the_active_one_goes_on() {
    let database = Database::new();
    let mut first = database.keeper(1).await;
    let term = first.until_active().await;
    let mut copy = database.keeper_in(1, 2).await;
    let view = copy.until(|view| view.role == NodeRole::Duplicate).await;
    assert_eq!(view.active, None, "it forwards nothing to a node with its own id");
    assert!(first.ownership.is_trusted_in(term) && !copy.ownership.is_trusted());
    assert_eq!(database.server.execute(&database.name, "SELECT terms FROM liveobject_0.owner"), "1");
}

#[actix_rt::test(system = "crate::System")]
async fn the_later_one_of_two_standbys_with_one_id_ends() {
    let database = Database::new();
    database.keeper(9).await.until_active().await;
    let mut first = database.keeper(1).await;
    first.until(|view| view.active.is_some()).await;
    let mut copy = database.keeper_in(1, 2).await;
    copy.until(|view| view.role == NodeRole::Duplicate).await;
    assert_eq!(first.view.borrow().role, NodeRole::Standby);
}

#[actix_rt::test(system = "crate::System")]
async fn an_owner_that_was_away_ends_if_its_copy_has_claimed_the_log_and_beats() {
    let database = Database::new();
    let mut first = database.keeper(1).await;
    first.until_active().await;
    let taken = "UPDATE liveobject_0.owner SET term = gen_random_uuid(), place = gen_random_uuid()";
    database.server.execute(&database.name, taken);
    let copy_beats = async {
        loop {
            database.server.execute(&database.name, "UPDATE liveobject.node SET beat = beat + 1");
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        _ = first.until(|view| view.role == NodeRole::Duplicate) => {}
        () = copy_beats => {}
    }
    assert!(!first.ownership.is_trusted());
}

#[actix_rt::test(system = "crate::System")]
async fn the_next_run_in_the_same_directory_is_active_at_once_and_another_node_gets_what_was_given_up() {
    let database = Database::new();
    let mut first = database.keeper(1).await;
    let term = first.until_active().await;
    first.actor.send(GiveUp(term)).await.unwrap();
    let mut second = database.keeper(2).await;
    second.until_active().await;
    assert_eq!(first.ownership.term(), None);
    // It ends without giving the log back.
    let mut again = database.keeper(2).await;
    let waits = again.until(|view| !view.nodes.is_empty()).await;
    assert_eq!(waits.role, NodeRole::Standby, "the other node waits, and the term is young");
    second.actor.send(ServiceStarted(second.ownership.term().unwrap())).await.unwrap();
    database
        .server
        .execute(&database.name, "UPDATE liveobject_0.owner SET since = since - interval '2 minutes'");
    again.until_active().await;
}
