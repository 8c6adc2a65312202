//! The sessions of the web page: their signature key, and those that were ended before they expired.
//!
//! Both are in a private file in the data directory, so that a restart neither signs anybody out nor revives a
//! session. With a database on a server, both are there, so that the same is true if another node takes over. The key
//! is independent of all tokens: nobody can test guesses of a token with a cookie.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use liveobject_actors::{
    SharedSessions,
    domain::{causes::with_causes, clock::LogTime, hex},
    messages::tokens::EndSessions,
    private_file::{self, Access, ReadError},
};
use rand::{
    TryRng,
    rngs::{SysError, SysRng},
};
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox, zeroize::Zeroizing};
use sha2::Sha256;

/// The file's name in the data directory.
pub const FILE: &str = "sessions";
/// Maximum number of sessions that were ended and have not expired. When there are more, a new key ends all.
const MAX_ENDED: usize = 5000;
/// Enough for [`MAX_ENDED`] lines.
const MAX_BYTES: u64 = 512 * 1024;
const UNFINISHED: &str = "new";

/// Why there is no signature key.
#[derive(Debug, thiserror::Error)]
#[error("the operating system returned no random numbers for the sessions")]
pub struct SessionsError(#[source] SysError);

/// The signature key, and the sessions that were ended. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

struct Shared {
    /// The file; `None` if the database has the key and the sessions that were ended.
    path: Option<PathBuf>,
    state: Mutex<State>,
    /// Serializes the writes of the file.
    writing: Mutex<()>,
    instance: String,
}

struct State {
    key: SecretBox<[u8; 32]>,
    /// The ids of ended sessions, and when they expire, as log time in seconds.
    ended: HashMap<String, i64>,
    /// What the database does not contain yet.
    unstored: Option<EndSessions>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(…)")
    }
}

impl Sessions {
    /// Reads the file in `data_dir`, or creates it. If it cannot be used, all sessions end and the log has a
    /// warning: signing in must be possible, in particular when something is wrong.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, SessionsError> {
        let path = data_dir.join(FILE);
        let (state, is_new) = match read(&path) {
            Ok(Some(state)) => (state, false),
            Ok(None) => (State::generate()?, true),
            Err(reason) => {
                tracing::warn!(file = %path.display(), reason, "the sessions cannot be used; everybody is signed out");
                (State::generate()?, true)
            }
        };
        let sessions = Self::new(Some(path), state);
        if is_new {
            sessions.store();
        }
        Ok(sessions)
    }

    /// Uses what the nodes with this database share.
    pub fn shared(SharedSessions { key, ended }: SharedSessions) -> Self {
        let key = SecretBox::new(Box::new(*key.expose()));
        Self::new(None, State { key, ended: ended.into_iter().collect(), unstored: None })
    }

    fn new(path: Option<PathBuf>, state: State) -> Self {
        let instance = instance(&state.key);
        Self(Arc::new(Shared { path, state: Mutex::new(state), writing: Mutex::new(()), instance }))
    }

    /// Returns whether other nodes use the same key.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.path.is_none()
    }

    /// Returns a short name of this installation. It is not secret.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Returns the message authentication code of `text`.
    pub(crate) fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        mac(&self.state().key, text)
    }

    /// Returns whether this session was ended.
    pub(crate) fn is_ended(&self, id: &str) -> bool {
        self.state().ended.contains_key(id)
    }

    /// Ends a session. In effect at once; call [`store`](Self::store) afterwards, or store
    /// [`unstored`](Self::take_unstored) in the database.
    pub(crate) fn end(&self, id: &str, expires: i64, now: LogTime) {
        let mut state = self.state();
        state.ended.retain(|_, expires| *expires > now.seconds());
        if state.ended.len() >= MAX_ENDED {
            match State::generate() {
                Ok(new) => *state = State { unstored: Some(EndSessions::All), ..new },
                Err(error) => tracing::warn!(error = %with_causes(&error), "cannot end all sessions"),
            }
            return;
        }
        state.ended.insert(id.to_owned(), expires);
        if !self.is_shared() {
            return;
        }
        match &mut state.unstored {
            Some(EndSessions::All) => {}
            Some(EndSessions::These(ended)) => ended.push((id.to_owned(), expires)),
            unstored @ None => *unstored = Some(EndSessions::These(vec![(id.to_owned(), expires)])),
        }
    }

    /// Returns what the shared database does not contain yet; `None` if there is nothing, or a file has the sessions.
    pub(crate) fn take_unstored(&self) -> Option<EndSessions> {
        self.state().unstored.take().filter(|_| self.is_shared())
    }

    /// Logs that the database did not store this. It is stored the next time that a session is ended.
    pub(crate) fn not_stored(&self, ended: EndSessions) {
        tracing::warn!(
            "the end of a session was not stored; it is valid again after a restart or on another node"
        );
        let mut state = self.state();
        state.unstored = match (state.unstored.take(), ended) {
            (None, ended) => Some(ended),
            (Some(EndSessions::These(mut new)), EndSessions::These(old)) => {
                new.extend(old);
                new.truncate(MAX_ENDED);
                Some(EndSessions::These(new))
            }
            (Some(_), _) => Some(EndSessions::All),
        };
    }

    /// Writes the file. Logs a failure: an ended session is then valid again after a restart.
    pub(crate) fn store(&self) {
        let Some(path) = &self.0.path else { return };
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.state().to_text();
        if let Err(error) = write(path, text.as_bytes()) {
            tracing::warn!(
                file = %path.display(),
                error = %with_causes(&error),
                "the sessions cannot be stored; a restart signs everybody out, or revives ended sessions"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn generate() -> Result<Self, SessionsError> {
        let mut key = SecretBox::new(Box::new([0; 32]));
        SysRng.try_fill_bytes(key.expose_secret_mut().as_mut_slice()).map_err(SessionsError)?;
        Ok(Self { key, ended: HashMap::new(), unstored: None })
    }

    /// The format of the file: a line with the key, and one for each ended session.
    fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(80 + self.ended.len() * 80));
        text.push_str("key ");
        hex::push(&mut text, self.key.expose_secret());
        text.push('\n');
        for (id, expires) in &self.ended {
            // Writing to a string does not fail.
            let _ = writeln!(text, "ended {expires} {id}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let key = hex::read(lines.next()?.strip_prefix("key ")?)?;
        let ended = lines.map(|line| {
            let (expires, id) = line.strip_prefix("ended ")?.split_once(' ')?;
            Some((id.to_owned(), expires.parse().ok()?))
        });
        let (key, ended) = (SecretBox::new(Box::new(key)), ended.collect::<Option<_>>()?);
        Some(Self { key, ended, unstored: None })
    }
}

fn read(path: &Path) -> Result<Option<State>, String> {
    let content = match private_file::read(path, Access::OwnerOnly, MAX_BYTES) {
        Ok(Some(content)) => content,
        Ok(None) => return Ok(None),
        Err(error @ ReadError::TooOpen { .. }) => return Err(error.to_string()),
        Err(ReadError::Io(error)) => return Err(error.to_string()),
    };
    let state = str::from_utf8(&content).ok().and_then(State::parse);
    state.map(Some).ok_or_else(|| "the file is damaged".to_owned())
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = private_file::with_suffix(path, UNFINISHED);
    private_file::write_new(&unfinished, content)?;
    private_file::rename(&unfinished, path)
}

fn mac(key: &SecretBox<[u8; 32]>, text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret()).expect("HMAC takes any key");
    mac.update(text);
    mac
}

/// Derives the name of the installation from its key, which it does not reveal.
fn instance(key: &SecretBox<[u8; 32]>) -> String {
    let digest = mac(key, b"liveobject instance").finalize().into_bytes();
    let mut name = String::with_capacity(8);
    hex::push(&mut name, &digest[..4]);
    name
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use liveobject_actors::domain::session_key::SessionKey;

    use super::*;

    fn load(dir: &tempfile::TempDir) -> Sessions {
        Sessions::load_or_create(dir.path()).unwrap()
    }

    fn sign(sessions: &Sessions) -> Vec<u8> {
        sessions.mac(b"text").finalize().into_bytes().to_vec()
    }

    #[test]
    fn the_key_and_ended_sessions_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = load(&dir);
        first.end("a", 100, LogTime(0));
        first.store();
        let second = load(&dir);
        assert_eq!((sign(&first), first.instance()), (sign(&second), second.instance()));
        assert!(second.is_ended("a") && !second.is_ended("b"));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn nodes_with_the_same_key_accept_each_others_sessions() {
        let key = SessionKey::generate().unwrap();
        let node = |ended| Sessions::shared(SharedSessions { key: key.clone(), ended });
        let (first, second) = (node(Vec::new()), node(vec![("a".to_owned(), 100)]));
        assert_eq!((sign(&first), first.instance()), (sign(&second), second.instance()));
        assert!(second.is_ended("a") && !first.is_ended("a"));
        first.end("b", 100, LogTime(0));
        let unstored = first.take_unstored().unwrap();
        assert!(matches!(&unstored, EndSessions::These(ended) if *ended == [("b".to_owned(), 100)]));
        assert!(first.take_unstored().is_none());
        first.not_stored(unstored);
        first.end("c", 100, LogTime(0));
        assert!(matches!(first.take_unstored(), Some(EndSessions::These(ended)) if ended.len() == 2));
        for i in 0..=MAX_ENDED {
            first.end(&i.to_string(), 100, LogTime(0));
        }
        assert_ne!(sign(&first), sign(&second), "all sessions are ended");
        assert!(matches!(first.take_unstored(), Some(EndSessions::All)));
    }

    #[test]
    fn an_unusable_file_ends_all_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = sign(&load(&dir));
        let path = dir.path().join(FILE);
        for damage in ["", "key 00\n", "key\nended x\n"] {
            fs::write(&path, damage).unwrap();
            let new = sign(&load(&dir));
            assert_ne!(new, last);
            assert_eq!(sign(&load(&dir)), new);
            last = new;
        }
    }

    #[test]
    fn the_number_of_ended_sessions_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = load(&dir);
        let key = sign(&sessions);
        for i in 0..MAX_ENDED {
            sessions.end(&i.to_string(), 100, LogTime(0));
        }
        assert_eq!(sign(&sessions), key);
        sessions.store();
        assert!(fs::metadata(dir.path().join(FILE)).unwrap().len() < MAX_BYTES);
        sessions.end("more", 100, LogTime(0));
        assert_ne!(sign(&sessions), key, "all sessions are ended");
        sessions.end("a", 100, LogTime(0));
        sessions.end("b", 200, LogTime(100_000_000));
        assert!(!sessions.is_ended("a"), "it has expired");
    }
}
