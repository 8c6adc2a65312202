//! The event streams of Home Assistant's users. Each open page has one. All users connect through the same proxy, so
//! the streams of each user are limited: a user with many open pages must leave some for others.
//!
//! At the limit of a user, a new stream replaces that user's oldest one. At the limit in total, it replaces the oldest
//! one of the user with the most streams. That is often the stream of a page that was closed, which the server notices
//! only when it cannot send any more.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix_web::{HttpRequest, http::header::HeaderName};
use tokio::sync::oneshot;

use super::state::ApiState;

/// The id of the user, which Home Assistant's ingress sets.
const REMOTE_USER_ID: HeaderName = HeaderName::from_static("x-remote-user-id");

/// Maximum number of streams of one user.
const MAX_PER_USER: usize = 8;
/// Maximum number of streams of all users. The service's other streams remain for clients that do not use the ingress.
const MAX_IN_TOTAL: usize = 24;
/// Home Assistant's ids are shorter. Longer ones are shortened.
const MAX_ID_BYTES: usize = 64;

/// The open streams. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct UserStreams(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// The streams of each user, the oldest first: the number of a stream, and a sender that ends it when dropped.
    users: HashMap<Vec<u8>, Vec<(u64, oneshot::Sender<()>)>>,
}

/// The place of one open stream. Dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct UserStream {
    streams: UserStreams,
    user: Vec<u8>,
    number: u64,
    taken: oneshot::Receiver<()>,
}

/// Returns a place for the stream of the user who sends this request; `None` on an ordinary listener.
pub(super) fn place(state: &ApiState, request: &HttpRequest) -> Option<UserStream> {
    state.trusted_peers.as_ref()?;
    let id = request.headers().get(REMOTE_USER_ID).map_or(&b""[..], |id| id.as_bytes());
    Some(state.user_streams.open(&id[..id.len().min(MAX_ID_BYTES)]))
}

/// Waits until another stream has taken this place. Call it again only if it was cancelled.
pub(super) async fn taken(place: Option<&mut UserStream>) {
    match place {
        Some(place) => drop((&mut place.taken).await),
        None => pending().await,
    }
}

impl UserStreams {
    fn open(&self, user: &[u8]) -> UserStream {
        let mut table = self.table();
        if table.users.get(user).is_some_and(|streams| streams.len() >= MAX_PER_USER) {
            table.end_oldest_of(user);
        }
        while table.users.values().map(Vec::len).sum::<usize>() >= MAX_IN_TOTAL {
            let Some((most, _)) = table.users.iter().max_by_key(|(_, streams)| streams.len()) else { break };
            let most = most.clone();
            table.end_oldest_of(&most);
        }
        let (number, (sender, taken)) = (table.next, oneshot::channel());
        table.next += 1;
        table.users.entry(user.to_owned()).or_default().push((number, sender));
        UserStream { streams: self.clone(), user: user.to_owned(), number, taken }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn end_oldest_of(&mut self, user: &[u8]) {
        let Some((oldest, _)) = self.users.get(user).and_then(|streams| streams.first()) else { return };
        self.remove(user, *oldest);
    }

    /// Removes a stream, unless it has been removed before. This drops its sender, which ends it.
    fn remove(&mut self, user: &[u8], number: u64) {
        let Some(streams) = self.users.get_mut(user) else { return };
        streams.retain(|(other, _)| *other != number);
        if streams.is_empty() {
            self.users.remove(user);
        }
    }
}

impl Drop for UserStream {
    fn drop(&mut self) {
        self.streams.table().remove(&self.user, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn are_taken(places: &mut [UserStream]) -> Vec<bool> {
        places.iter_mut().map(|place| taken(Some(place)).now_or_never().is_some()).collect()
    }

    #[test]
    fn a_user_with_many_pages_leaves_streams_for_others() {
        let streams = UserStreams::default();
        let open = |user: &str, count: usize| -> Vec<_> {
            (0..count).map(|_| streams.open(user.as_bytes())).collect()
        };
        let mut of_bert = open("bert", MAX_PER_USER - 1);
        let mut of_anna = open("anna", MAX_PER_USER + 2);
        let ended = are_taken(&mut of_anna);
        assert_eq!(ended.iter().filter(|taken| **taken).count(), 2);
        assert!(ended[0] && ended[1], "the oldest ones");
        assert!(are_taken(&mut of_bert).iter().all(|taken| !taken));

        let rest = MAX_IN_TOTAL - MAX_PER_USER - of_bert.len();
        let mut of_others: Vec<_> = (0..rest).map(|i| streams.open(i.to_string().as_bytes())).collect();
        assert!(taken(Some(&mut of_anna[2])).now_or_never().is_none());
        let new = streams.open(b"new");
        assert!(taken(Some(&mut of_anna[2])).now_or_never().is_some(), "anna has the most streams");
        assert!(are_taken(&mut of_others).iter().chain(&are_taken(&mut of_bert)).all(|taken| !taken));
        drop((of_anna, of_bert, of_others, new));
        assert!(streams.table().users.is_empty());
    }
}
