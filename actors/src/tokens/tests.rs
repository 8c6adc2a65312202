//! The actor with a real database, which another process uses too.

use actix::{Addr, Message};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;

use super::*;
use crate::{
    domain::{lease::NodeId, token::scope::Scope},
    testing::{Crash, wait_until},
};

/// Returns how often the table was read.
#[derive(Message)]
#[rtype(result = "u64")]
struct CountReads;

impl Handler<CountReads> for TokenActor {
    type Result = u64;

    fn handle(&mut self, _: CountReads, _: &mut Self::Context) -> u64 {
        self.reads
    }
}

struct Running {
    dir: tempfile::TempDir,
    store: Store,
    addr: Addr<TokenActor>,
    crashed: mpsc::UnboundedReceiver<&'static str>,
}

impl Running {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::database::open(&dir.path().join("l.db")).await;
        let (crash, crashed) = mpsc::unbounded_channel();
        let addr = TokenActor::new(store.clone(), crash).start();
        Self { dir, store, addr, crashed }
    }

    /// Opens the database like another process.
    async fn open_elsewhere(&self) -> Store {
        crate::testing::database::open_elsewhere(&self.dir.path().join("l.db")).await
    }

    async fn create(&self, text: &str, scope: Scope) -> Result<NewToken, CreateTokenError> {
        self.addr.send(CreateToken { name: name(text), scopes: only(scope) }).await.unwrap()
    }

    async fn revoke(&self, text: &str) -> Result<(), RevokeTokenError> {
        self.addr.send(RevokeToken(name(text))).await.unwrap()
    }

    /// Returns the name and the scopes of a token.
    async fn authenticate(&self, token: &str) -> Option<String> {
        let found = self.addr.send(Authenticate(TokenHash::of(token))).await.unwrap().unwrap();
        found.map(|found| match found {
            Authenticated::Token(record) => format!("{} {}", record.name, record.scopes),
            Authenticated::Administrator => "administrator".to_owned(),
        })
    }

    async fn list(&self) -> Vec<TokenRecord> {
        self.addr.send(ListTokens).await.unwrap().unwrap()
    }
}

fn name(text: &str) -> TokenName {
    TokenName::parse(text).unwrap()
}

fn only(scope: Scope) -> Scopes {
    Scopes::of([scope]).unwrap()
}

#[actix_rt::test(system = "crate::System")]
async fn a_token_is_valid_from_its_creation_until_it_is_revoked() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::EventsWrite).await.unwrap();
    let token = made.secret.expose_secret();
    assert_eq!(actor.authenticate(token).await.as_deref(), Some("door events:write"));
    assert_eq!(actor.authenticate("lo_other").await, None);
    assert_eq!(actor.authenticate("").await, None);
    actor.revoke("door").await.unwrap();
    assert_eq!(actor.authenticate(token).await, None);
    assert_eq!(actor.revoke("door").await, Err(RevokeTokenError::Unknown(name("door"))));
}

#[actix_rt::test(system = "crate::System")]
async fn a_token_of_another_process_is_valid_at_once_and_refused_within_a_second_of_its_revocation() {
    let actor = Running::start().await;
    let elsewhere = actor.open_elsewhere().await;
    assert_eq!(actor.authenticate("x").await, None);
    let made = create(&elsewhere, name("door"), only(Scope::Read)).await.unwrap();
    let token = made.secret.expose_secret();
    assert_eq!(actor.authenticate(token).await.as_deref(), Some("door read"));
    let revoked = Instant::now();
    revoke(&elsewhere, name("door")).await.unwrap();
    while actor.authenticate(token).await.is_some() {
        assert!(revoked.elapsed().as_millis() < 1500, "it is still valid");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn the_database_does_not_contain_the_token() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::Admin).await.unwrap();
    let token = made.secret.expose_secret().as_bytes().to_owned();
    actor.store.close().await;
    for entry in std::fs::read_dir(actor.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(64).any(|part| part == &token[3..]));
    }
}

#[actix_rt::test(system = "crate::System")]
async fn names_are_unique_and_there_are_at_most_100_tokens() {
    let actor = Running::start().await;
    for i in 0..MAX_TOKENS {
        actor.create(&format!("t{i}"), Scope::Read).await.unwrap();
    }
    assert_eq!(actor.create("t7", Scope::Read).await.unwrap_err(), CreateTokenError::Exists(name("t7")));
    assert_eq!(actor.create("more", Scope::Read).await.unwrap_err(), CreateTokenError::TooMany);
    actor.revoke("t7").await.unwrap();
    actor.create("more", Scope::Read).await.unwrap();
    assert_eq!(actor.list().await.len(), 100);
}

#[actix_rt::test(system = "crate::System")]
async fn the_list_shows_when_a_token_was_last_used() {
    let actor = Running::start().await;
    let made = actor.create("b", Scope::Read).await.unwrap();
    actor.create("a", Scope::Admin).await.unwrap();
    let used: Vec<_> = actor.list().await.into_iter().map(|r| (r.name, r.last_used_at)).collect();
    assert_eq!(used, [(name("a"), None), (name("b"), None)]);
    actor.authenticate(made.secret.expose_secret()).await.unwrap();
    wait_until("the use is stored", async || actor.list().await[1].last_used_at.is_some()).await;
    assert_eq!(actor.list().await[0].last_used_at, None);
}

#[actix_rt::test(system = "crate::System")]
async fn while_the_database_is_unavailable_known_tokens_stay_valid_and_others_get_an_error() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::Read).await.unwrap();
    let token = made.secret.expose_secret();
    actor.authenticate(token).await.unwrap();
    actor.store.close().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(actor.authenticate(token).await.as_deref(), Some("door read"));
    let other = actor.addr.send(Authenticate(TokenHash::of("x"))).await.unwrap();
    assert!(matches!(other, Err(TokensUnavailable(_))), "{other:?}");
}

#[actix_rt::test(system = "crate::System")]
async fn a_row_with_unknown_scopes_is_not_a_valid_token() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::Admin).await.unwrap();
    actor.store.execute("UPDATE tokens SET scopes = 'events:fly'").await.unwrap();
    assert_eq!(actor.authenticate(made.secret.expose_secret()).await, None);
}

#[actix_rt::test(system = "crate::System")]
async fn a_panic_is_reported() {
    let mut actor = Running::start().await;
    let _closed = actor.addr.send(Crash).await;
    assert_eq!(actor.crashed.recv().await, Some("tokens"));
}

#[actix_rt::test(system = "crate::System")]
async fn invalid_tokens_that_arrive_together_share_a_read() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::Read).await.unwrap();
    let before = actor.addr.send(CountReads).await.unwrap();
    let guesses: Vec<_> = (0..300).map(|i| format!("guess-{i}")).collect();
    let all = futures_util::future::join_all(guesses.iter().map(|guess| actor.authenticate(guess))).await;
    assert!(all.iter().all(Option::is_none));
    let reads = actor.addr.send(CountReads).await.unwrap() - before;
    assert!(reads <= 3, "{reads} reads");
    assert_eq!(actor.authenticate(made.secret.expose_secret()).await.as_deref(), Some("door read"));
}

#[actix_rt::test(system = "crate::System")]
async fn the_admin_tokens_of_all_nodes_are_valid_until_they_are_replaced() {
    let database = crate::testing::database::TestDatabase::postgres();
    let store = database.open().await;
    let node = NodeId(uuid::Uuid::from_u128(7));
    let publish = async |token| {
        Store::publish_admin_token(&database.location(), node, &TokenHash::of(token)).await.unwrap();
    };
    let addr = TokenActor::new(store.clone(), mpsc::unbounded_channel().0).start();
    let found = async |token| addr.send(Authenticate(TokenHash::of(token))).await.unwrap().unwrap();
    assert_eq!(found("old").await, None);
    publish("old").await;
    assert_eq!(
        found("old").await,
        Some(Authenticated::Administrator),
        "an unknown token is looked up at once"
    );
    publish("new").await;
    assert_eq!(found("new").await, Some(Authenticated::Administrator));
    wait_until("the old token is refused", async || found("old").await.is_none()).await;
    store.close().await;
    assert_eq!(found("new").await, Some(Authenticated::Administrator), "known tokens stay valid");
}
