//! The event streams of Home Assistant's users. Each open page has one. All users come through the same proxy, so one with
//! many open pages must not take the streams of others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix_web::{HttpRequest, http::header::HeaderName};

use super::{problem::Problem, state::ApiState};

/// The id of the user, which Home Assistant's ingress sets.
const REMOTE_USER_ID: HeaderName = HeaderName::from_static("x-remote-user-id");

/// Maximum number of streams of one user.
const MAX_PER_USER: usize = 8;
/// Maximum number of streams of all users. Others remain for clients that do not use the ingress.
const MAX_IN_TOTAL: usize = 24;
/// Home Assistant's ids are shorter. Longer ones are shortened.
const MAX_ID_BYTES: usize = 64;
/// Seconds until a client should try again.
const RETRY_AFTER: u32 = 10;

/// The number of open streams of each user. Cheap to clone; clones share the numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct UserStreams(Arc<Mutex<HashMap<Vec<u8>, usize>>>);

/// The place of one open stream. Dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct UserStream {
    streams: UserStreams,
    user: Vec<u8>,
}

/// Returns a place for the stream of the user who sends this request; `None` on an ordinary listener.
pub(super) fn place(state: &ApiState, request: &HttpRequest) -> Result<Option<UserStream>, Problem> {
    if state.trusted_peers.is_none() {
        return Ok(None);
    }
    let id = request.headers().get(REMOTE_USER_ID).map_or(&b""[..], |id| id.as_bytes());
    let place = state.user_streams.open(&id[..id.len().min(MAX_ID_BYTES)]);
    place.map(Some).map_err(|message| Problem::unavailable(message, RETRY_AFTER))
}

impl UserStreams {
    fn open(&self, user: &[u8]) -> Result<UserStream, &'static str> {
        let mut users = self.users();
        if users.get(user).is_some_and(|open| *open >= MAX_PER_USER) {
            return Err("you have opened this page too often; close it in another window or tab");
        }
        if users.values().sum::<usize>() >= MAX_IN_TOTAL {
            return Err("too many streams are open");
        }
        *users.entry(user.to_owned()).or_default() += 1;
        Ok(UserStream { streams: self.clone(), user: user.to_owned() })
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Vec<u8>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserStream {
    fn drop(&mut self) {
        let mut users = self.streams.users();
        if let Some(open) = users.get_mut(&self.user) {
            *open -= 1;
            if *open == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_many_pages_leaves_streams_for_others() {
        let streams = UserStreams::default();
        let open = |user: &str, count: usize| -> Vec<_> {
            (0..count).map(|_| streams.open(user.as_bytes()).unwrap()).collect()
        };
        let mut of_anna = open("anna", MAX_PER_USER);
        assert!(streams.open(b"anna").unwrap_err().contains("close it in another window"));
        let _of_others = (open("bert", MAX_PER_USER), open("", MAX_PER_USER));
        assert_eq!(streams.open(b"carl").unwrap_err(), "too many streams are open");
        of_anna.pop();
        let place = streams.open(b"anna").unwrap();
        drop((of_anna, place));
        assert!(!streams.users().contains_key(&b"anna"[..]));
    }
}
