//! The API tokens, except the administrator's own token.
//!
//! [`TokenActor`] owns the table of tokens. It guarantees that a token is shown once, when it is created, and
//! only its hash is stored; that a creation or revocation is in effect when its message is answered; and that
//! changes by another process (`liveobject token create`) are in effect immediately for a new token, and
//! within a second for a revoked one. While the database cannot be read, the tokens that were known last
//! remain valid, so that a source is not rejected because of a failing disk.
//!
//! The nodes that share a database on a server accept each other's admin tokens, whose hashes are in a table of their
//! own, in the same way.
//!
//! It knows scopes, but not routes: the HTTP layer decides which scope a route requires.

mod cache;
#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, ResponseFuture, WrapFuture,
};
use futures_util::FutureExt;
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::{Instant, timeout},
};

use self::cache::{TokenCache, Tokens};
use crate::{
    domain::{
        causes::with_causes,
        clock,
        store_fault::StoreFault,
        token::{MAX_TOKENS, Scopes, TokenHash, TokenName, TokenRecord, secret},
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::tokens::{
        Authenticate, Authenticated, CreateToken, CreateTokenError, EndSessions, ListTokens, NewToken,
        RevokeToken, RevokeTokenError, TokensUnavailable,
    },
    store::{Inserted, Store, StoreError},
};

/// Maximum number of requests in the mailbox. The HTTP layer waits while it is full.
const MAILBOX: usize = 1024;

/// The time after which the database counts as unavailable. It is short, because requests wait for it.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Creates a token and stores its hash. A service that uses the same database accepts it immediately.
pub async fn create(store: &Store, name: TokenName, scopes: Scopes) -> Result<NewToken, CreateTokenError> {
    let (secret, hash) = secret::generate().map_err(|error| {
        tracing::warn!(error = %with_causes(&error), "the system returned no random bytes for a token");
        CreateTokenError::Random(error.to_string())
    })?;
    let record = TokenRecord { name, scopes, created_at: clock::now(), last_used_at: None };
    match store.insert_token(&record, &hash, MAX_TOKENS).await {
        Ok(Inserted::Yes) => Ok(NewToken { record, secret }),
        Ok(Inserted::Exists) => Err(CreateTokenError::Exists(record.name)),
        Ok(Inserted::TooMany) => Err(CreateTokenError::TooMany),
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "a token was not stored");
            Err(CreateTokenError::Storage(error.fault()))
        }
    }
}

/// Returns the tokens, ordered by name.
pub async fn list(store: &Store) -> Result<Vec<TokenRecord>, TokensUnavailable> {
    match read_all(store.clone()).await {
        Ok(Tokens { tokens, .. }) => Ok(tokens.into_iter().map(|(_, record)| record).collect()),
        Err(error) => Err(unavailable(&error, true)),
    }
}

/// Revokes a token. A service that uses the same database refuses it within a second.
pub async fn revoke(store: &Store, name: TokenName) -> Result<(), RevokeTokenError> {
    match store.delete_token(&name).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(RevokeTokenError::Unknown(name)),
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "a token was not revoked");
            Err(RevokeTokenError::Storage(error.fault()))
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct TokenActor {
    store: Store,
    cache: TokenCache,
    /// The read in progress.
    reading: Option<Reading>,
    /// Why the last read failed, if it did.
    failing: Option<StoreFault>,
    /// Number of reads so far.
    #[cfg(test)]
    reads: u64,
    _crash_guard: CrashGuard,
}

type AuthenticateResult = Result<Option<Authenticated>, TokensUnavailable>;
type Reply = oneshot::Sender<AuthenticateResult>;

/// A request that waits for a read.
#[derive(Debug)]
struct Lookup {
    hash: TokenHash,
    reply: Reply,
}

/// A read of the table, and who waits for it.
#[derive(Debug)]
struct Reading {
    current: Vec<Lookup>,
    /// Requests that need a read that begins later.
    next: Vec<Lookup>,
}

impl TokenActor {
    /// Creates the actor for the tokens in `store`.
    pub fn new(store: Store, crashed: UnboundedSender<&'static str>) -> Self {
        let crash_guard = CrashGuard::new("tokens", crashed);
        Self {
            store,
            cache: TokenCache::default(),
            reading: None,
            failing: None,
            #[cfg(test)]
            reads: 0,
            _crash_guard: crash_guard,
        }
    }

    /// Reads the table for these requests. There is one read at a time, however many requests wait, so that
    /// invalid tokens cause little work.
    fn read(&mut self, lookups: Vec<Lookup>, ctx: &mut Context<Self>) {
        #[cfg(test)]
        {
            self.reads += 1;
        }
        self.reading = Some(Reading { current: lookups, next: Vec::new() });
        let changes = self.cache.changes();
        // Not atomic: that would suspend this actor's other database operations, and block the writers.
        ctx.spawn(read_all(self.store.clone()).into_actor(self).map(move |read, act, ctx| {
            let Some(Reading { current, next }) = act.reading.take() else { return };
            match read {
                Ok(tokens) => {
                    act.failing = None;
                    act.cache.fill(&tokens, changes, Instant::now());
                    for Lookup { hash, reply } in current {
                        let found = tokens.find(&hash);
                        act.reply(reply, Ok(found), ctx);
                    }
                }
                Err(error) => {
                    let before = act.failing.replace(error.fault());
                    let is_new = before.is_none_or(|before| !before.alternates_with(error.fault()));
                    let unavailable = unavailable(&error, is_new);
                    for Lookup { hash, reply } in current {
                        // A token that was valid before stays valid, unless it was revoked here.
                        let found = act.cache.find(&hash);
                        act.reply(reply, found.map(Some).ok_or_else(|| unavailable.clone()), ctx);
                    }
                }
            }
            if !next.is_empty() {
                act.read(next, ctx);
            }
        }));
    }

    fn reply(&mut self, reply: Reply, found: AuthenticateResult, ctx: &mut Context<Self>) {
        if let Ok(Some(found)) = &found {
            self.record_use(found, ctx);
        }
        // The request may have been cancelled.
        let _gone = reply.send(found);
    }

    /// Records that a token was used, and stores that from time to time, in the background.
    fn record_use(&mut self, found: &Authenticated, ctx: &mut Context<Self>) {
        let Authenticated::Token(TokenRecord { name, .. }) = found else { return };
        let now = clock::now();
        if !self.cache.record_use(name, now) {
            return;
        }
        let (store, name) = (self.store.clone(), name.clone());
        let storing = async move { store.note_token_use(&name, now).await };
        ctx.spawn(storing.into_actor(self).map(|stored, _, _| {
            if let Err(error) = stored {
                tracing::debug!(
                    error = %with_causes(&error),
                    "the use of a token was not stored"
                );
            }
        }));
    }
}

/// Reads all tokens. Fails if that takes too long.
async fn read_all(store: Store) -> Result<Tokens, StoreError> {
    let reading =
        async { Ok(Tokens { tokens: store.list_tokens().await?, admins: store.list_node_tokens().await? }) };
    timeout(READ_TIMEOUT, reading).await.unwrap_or_else(|_| Err(StoreError::timeout()))
}

/// Logs that the tokens could not be read: as a warning if that `is_new`, otherwise only for debugging, because any
/// number of requests can cause it. Returns the error for the client.
fn unavailable(error: &StoreError, is_new: bool) -> TokensUnavailable {
    if is_new {
        tracing::warn!(error = %with_causes(error), "the tokens could not be read");
    } else {
        tracing::debug!(error = %with_causes(error), "the tokens could not be read again");
    }
    TokensUnavailable(error.fault())
}

impl Actor for TokenActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Authenticate> for TokenActor {
    type Result = ResponseActFuture<Self, AuthenticateResult>;

    fn handle(&mut self, Authenticate(hash): Authenticate, ctx: &mut Self::Context) -> Self::Result {
        let known = self.cache.find(&hash);
        if let Some(found) = known.clone().filter(|_| self.cache.is_fresh(Instant::now())) {
            self.record_use(&found, ctx);
            return Box::pin(std::future::ready(Ok(Some(found))).into_actor(self));
        }
        let (reply, found) = oneshot::channel();
        let lookup = Lookup { hash, reply };
        match &mut self.reading {
            // Another process may have created an unknown token after this read began.
            Some(reading) if known.is_none() => reading.next.push(lookup),
            Some(reading) => reading.current.push(lookup),
            None => self.read(vec![lookup], ctx),
        }
        Box::pin(async { found.await.unwrap_or(Err(TokensUnavailable(StoreFault::Other))) }.into_actor(self))
    }
}

impl Handler<EndSessions> for TokenActor {
    type Result = ResponseFuture<Result<(), StoreFault>>;

    fn handle(&mut self, end: EndSessions, _: &mut Self::Context) -> Self::Result {
        let (store, now) = (self.store.clone(), self.store.clock().now().log.seconds());
        Box::pin(async move {
            let stored = match end {
                EndSessions::These(ended) => store.end_sessions(&ended, now).await,
                EndSessions::All => store.end_all_sessions().await,
            };
            stored.map_err(|error| {
                tracing::warn!(
                    error = %with_causes(&error),
                    "the end of sessions was not stored"
                );
                error.fault()
            })
        })
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
            act.cache.invalidate();
            if let Ok(NewToken { record, .. }) = &created {
                tracing::info!(token = %record.name, scopes = %record.scopes, "created a token");
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
                tracing::info!(token = %name, "revoked a token");
                // The revocation is in effect even if the table cannot be read again.
                act.cache.remove(&name);
            }
            act.cache.invalidate();
            revoked
        }))
    }
}

stops_on_request!(TokenActor);
