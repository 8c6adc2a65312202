//! The tokens of the API, beside the administrator's own.
//!
//! [`TokenActor`] owns the table of them, and promises: a token is told once, when it is made, and kept as a hash only; what
//! was made or revoked by a message holds when that is answered; what another process did to the table (`liveobject token
//! create`) holds at once for a new token, and within a second for a revoked one. While the database cannot be read, the
//! tokens that were known last stay good: a source is not turned away because of a disk.
//!
//! It knows scopes, not routes: what needs which is the HTTP layer's.

mod cache;
#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, ResponseFuture, WrapFuture,
};
use futures_util::FutureExt;
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout},
};

use self::cache::TokenCache;
use crate::{
    domain::{
        clock,
        token::{MAX_TOKENS, Scopes, TokenHash, TokenName, TokenRecord, secret},
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::tokens::{
        Authenticate, CreateToken, CreateTokenError, ListTokens, NewToken, RevokeToken, RevokeTokenError,
        TokensUnavailable,
    },
    store::{Inserted, Store, StoreError},
};

/// Requests wait here, not in memory without bound; a full mailbox is waited for by the HTTP layer.
const MAILBOX: usize = 1024;

/// A database that takes longer is away: the callers wait.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Makes a token and stores its hash. A service that runs on the same database takes it at once.
pub async fn create(store: &Store, name: TokenName, scopes: Scopes) -> Result<NewToken, CreateTokenError> {
    let (secret, hash) = secret::generate().map_err(|error| {
        tracing::warn!(%error, "the system returned no random bytes for a token");
        CreateTokenError::Random(error.to_string())
    })?;
    let record = TokenRecord { name, scopes, created_at: clock::now(), last_used_at: None };
    match store.insert_token(&record, &hash, MAX_TOKENS).await {
        Ok(Inserted::Yes) => Ok(NewToken { record, secret }),
        Ok(Inserted::Exists) => Err(CreateTokenError::Exists(record.name)),
        Ok(Inserted::TooMany) => Err(CreateTokenError::TooMany),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a token was not stored");
            Err(CreateTokenError::Storage(error.fault()))
        }
    }
}

/// The tokens, in the order of their names.
pub async fn list(store: &Store) -> Result<Vec<TokenRecord>, TokensUnavailable> {
    match read(store.clone()).await {
        Ok(tokens) => Ok(tokens.into_iter().map(|(_, record)| record).collect()),
        Err(error) => Err(unavailable(&error)),
    }
}

/// Removes a token. A service that runs on the same database refuses it within a second.
pub async fn revoke(store: &Store, name: TokenName) -> Result<(), RevokeTokenError> {
    match store.delete_token(&name).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(RevokeTokenError::Unknown(name)),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a token was not revoked");
            Err(RevokeTokenError::Storage(error.fault()))
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct TokenActor {
    store: Store,
    book: TokenCache,
    _crash_guard: CrashGuard,
}

impl TokenActor {
    /// The tokens in this store.
    pub fn new(store: Store, crashed: UnboundedSender<&'static str>) -> Self {
        Self { store, book: TokenCache::default(), _crash_guard: CrashGuard::new("tokens", crashed) }
    }

    /// Notes that a token was shown, and writes that down now and then. Nobody waits for it.
    fn used(&mut self, name: &TokenName, ctx: &mut Context<Self>) {
        let now = clock::now();
        if !self.book.note_use(name, now) {
            return;
        }
        let (store, name) = (self.store.clone(), name.clone());
        let noting = async move { store.note_token_use(&name, now).await };
        ctx.spawn(noting.into_actor(self).map(|noted, _, _| {
            if let Err(error) = noted {
                tracing::debug!(error = &error as &dyn std::error::Error, "the use of a token was not noted");
            }
        }));
    }
}

/// Every token, or why they cannot be told in time.
async fn read(store: Store) -> Result<Vec<(TokenHash, TokenRecord)>, StoreError> {
    timeout(READ_WITHIN, store.list_tokens()).await.unwrap_or_else(|_| Err(StoreError::timeout()))
}

/// Logs that the tokens could not be read.
fn unavailable(error: &StoreError) -> TokensUnavailable {
    tracing::warn!(error = error as &dyn std::error::Error, "the tokens could not be read");
    TokensUnavailable(error.fault())
}

impl Actor for TokenActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Authenticate> for TokenActor {
    type Result = ResponseActFuture<Self, Result<Option<TokenRecord>, TokensUnavailable>>;

    fn handle(&mut self, Authenticate(hash): Authenticate, ctx: &mut Self::Context) -> Self::Result {
        let known = self.book.find(&hash).cloned();
        if let Some(found) = known.clone().filter(|_| self.book.is_fresh(Instant::now())) {
            self.used(&found.name, ctx);
            return Box::pin(std::future::ready(Ok(Some(found))).into_actor(self));
        }
        // One that is not known may have been made since. Not atomic: what else this actor does at the database would
        // stand still meanwhile, and hold up the writers.
        let changes = self.book.changes();
        Box::pin(read(self.store.clone()).into_actor(self).map(move |read, act, ctx| {
            let found = match read {
                Ok(tokens) => {
                    act.book.read(&tokens, changes, Instant::now());
                    cache::find(&tokens, &hash).cloned()
                }
                Err(away) => {
                    // One that was revoked meanwhile is not in the book any more.
                    let still_known = known.filter(|_| act.book.find(&hash).is_some());
                    if still_known.is_some() {
                        let away = &away as &dyn std::error::Error;
                        tracing::debug!(
                            error = away,
                            "the tokens could not be read; this one was valid before"
                        );
                    }
                    Some(still_known.ok_or_else(|| unavailable(&away))?)
                }
            };
            if let Some(found) = &found {
                act.used(&found.name, ctx);
            }
            Ok(found)
        }))
    }
}

impl Handler<ListTokens> for TokenActor {
    type Result = ResponseFuture<Result<Vec<TokenRecord>, TokensUnavailable>>;

    fn handle(&mut self, _: ListTokens, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move { list(&store).await })
    }
}

impl Handler<CreateToken> for TokenActor {
    type Result = ResponseActFuture<Self, Result<NewToken, CreateTokenError>>;

    fn handle(&mut self, CreateToken { name, scopes }: CreateToken, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        let creating = async move { create(&store, name, scopes).await };
        Box::pin(creating.into_actor(self).map(|created, act, _| {
            act.book.outdate();
            if let Ok(NewToken { record, .. }) = &created {
                tracing::info!(token = %record.name, scopes = %record.scopes, "a token was made");
            }
            created
        }))
    }
}

impl Handler<RevokeToken> for TokenActor {
    type Result = ResponseActFuture<Self, Result<(), RevokeTokenError>>;

    fn handle(&mut self, RevokeToken(name): RevokeToken, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        let revoking = async move { revoke(&store, name.clone()).map(|revoked| (name, revoked)).await };
        Box::pin(revoking.into_actor(self).map(|(name, revoked), act, _| {
            if revoked.is_ok() {
                tracing::info!(token = %name, "a token was revoked");
                // Also when the table cannot be read again.
                act.book.remove(&name);
            }
            act.book.outdate();
            revoked
        }))
    }
}

stops_on_request!(TokenActor);
