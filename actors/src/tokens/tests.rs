//! The actor on a real database, and another process beside it.

use actix::Addr;
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;

use super::*;
use crate::{domain::token::scope::Scope, testing::Crash};

struct Running {
    dir: tempfile::TempDir,
    store: Store,
    addr: Addr<TokenActor>,
    crashed: mpsc::UnboundedReceiver<&'static str>,
}

impl Running {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_file(&dir.path().join("l.db")).await.unwrap();
        let (crash, crashed) = mpsc::unbounded_channel();
        let addr = TokenActor::new(store.clone(), crash).start();
        Self { dir, store, addr, crashed }
    }

    /// What another process sees and does.
    async fn elsewhere(&self) -> Store {
        Store::open_file(&self.dir.path().join("l.db")).await.unwrap()
    }

    async fn create(&self, text: &str, scope: Scope) -> Result<NewToken, CreateTokenError> {
        self.addr.send(CreateToken { name: name(text), scopes: only(scope) }).await.unwrap()
    }

    async fn revoke(&self, text: &str) -> Result<(), RevokeTokenError> {
        self.addr.send(RevokeToken(name(text))).await.unwrap()
    }

    /// The name of the one whose token it is.
    async fn whose(&self, token: &str) -> Option<String> {
        let found = self.addr.send(Authenticate(TokenHash::of(token))).await.unwrap().unwrap();
        found.map(|record| format!("{} {}", record.name, record.scopes))
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

#[actix_rt::test]
async fn a_token_opens_from_when_it_is_made_until_it_is_revoked() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::EventsWrite).await.unwrap();
    let token = made.secret.expose_secret();
    assert_eq!(actor.whose(token).await.as_deref(), Some("door events:write"));
    assert_eq!(actor.whose("lo_other").await, None);
    assert_eq!(actor.whose("").await, None);
    actor.revoke("door").await.unwrap();
    assert_eq!(actor.whose(token).await, None);
    assert_eq!(actor.revoke("door").await, Err(RevokeTokenError::Unknown(name("door"))));
}

#[actix_rt::test]
async fn what_another_process_makes_holds_at_once_and_what_it_revokes_within_a_second() {
    let actor = Running::start().await;
    let elsewhere = actor.elsewhere().await;
    assert_eq!(actor.whose("x").await, None);
    let made = create(&elsewhere, name("door"), only(Scope::Read)).await.unwrap();
    let token = made.secret.expose_secret();
    assert_eq!(actor.whose(token).await.as_deref(), Some("door read"));
    let revoked = Instant::now();
    revoke(&elsewhere, name("door")).await.unwrap();
    while actor.whose(token).await.is_some() {
        assert!(revoked.elapsed().as_millis() < 1500, "it still opens");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn nothing_in_the_database_is_the_token() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::Admin).await.unwrap();
    let token = made.secret.expose_secret().as_bytes().to_owned();
    actor.store.close().await;
    for entry in std::fs::read_dir(actor.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(64).any(|part| part == &token[3..]));
    }
}

#[actix_rt::test]
async fn a_name_is_given_once_and_there_are_100_tokens_at_most() {
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

#[actix_rt::test]
async fn the_list_tells_when_a_token_was_last_used() {
    let actor = Running::start().await;
    let made = actor.create("b", Scope::Read).await.unwrap();
    actor.create("a", Scope::Admin).await.unwrap();
    let used: Vec<_> = actor.list().await.into_iter().map(|r| (r.name, r.last_used_at)).collect();
    assert_eq!(used, [(name("a"), None), (name("b"), None)]);
    actor.whose(made.secret.expose_secret()).await.unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(5);
    while actor.list().await[1].last_used_at.is_none() {
        assert!(Instant::now() < deadline, "its use is not noted");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(actor.list().await[0].last_used_at, None);
}

#[actix_rt::test]
async fn while_the_database_is_away_known_tokens_stay_good_and_others_are_not_decided() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::Read).await.unwrap();
    let token = made.secret.expose_secret();
    actor.whose(token).await.unwrap();
    actor.store.close().await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(actor.whose(token).await.as_deref(), Some("door read"));
    let other = actor.addr.send(Authenticate(TokenHash::of("x"))).await.unwrap();
    assert!(matches!(other, Err(TokensUnavailable(_))), "{other:?}");
}

#[actix_rt::test]
async fn a_row_that_is_not_understood_opens_nothing() {
    let actor = Running::start().await;
    let made = actor.create("door", Scope::Admin).await.unwrap();
    actor.store.execute("UPDATE tokens SET scopes = 'events:fly'").await.unwrap();
    assert_eq!(actor.whose(made.secret.expose_secret()).await, None);
}

#[actix_rt::test]
async fn a_panic_is_told() {
    let mut actor = Running::start().await;
    let _closed = actor.addr.send(Crash).await;
    assert_eq!(actor.crashed.recv().await, Some("tokens"));
}
