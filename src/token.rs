//! The API's admin token: created on first start in a private file unless the environment contains one, and
//! compared in constant time. With a database on a server, its hash is stored there, so that the other nodes accept it.

use std::{
    convert::Infallible,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use futures_util::future::join;
use liveobject_actors::{
    ServiceOptions,
    domain::{causes::with_causes, hex, token::TokenHash},
    private_file::{self, Access, ReadError, TooOpen},
    ticks,
};
use rand::{
    TryRng,
    rngs::{SysError, SysRng},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use subtle::ConstantTimeEq;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

/// The file's name in the data directory.
pub const FILE: &str = "api-token";
/// 256 bits cannot be guessed.
const RANDOM_BYTES: usize = 32;
/// Minimum length of a token that an administrator wrote into the file.
const MIN_CHARACTERS: usize = 32;
/// How often a running service checks whether the file has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the hash is stored for the other nodes again. They refuse that of a node that has not run for a week.
const PUBLISH_AGAIN: Duration = Duration::from_hours(1);
/// The pause before that is tried again.
const PUBLISH_RETRY: Duration = Duration::from_secs(5);
/// How long the start waits for a file that is not complete.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts to read it.
const RETRY: Duration = Duration::from_millis(200);
/// The suffix of the file that replaces the token's file.
const UNFINISHED: &str = "new";
/// Maximum length. A token of this length easily fits into an HTTP header.
const MAX_CHARACTERS: usize = 512;

/// Why there is no usable token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read.
    #[error("the API token file {0} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// The file could not be written.
    #[error("the API token file {0} cannot be written")]
    Write(PathBuf, #[source] io::Error),
    /// The operating system returned no random numbers.
    #[error("the operating system returned no random numbers for the API token")]
    Random(#[source] SysError),
    /// Other users can access the file. Contains the reason and how to fix it.
    #[error("the API token file {0} {1}")]
    Open(PathBuf, TooOpen),
    /// The file contains no valid token. Contains what is wrong with it.
    #[error("the API token file {0} {1}; remove it, and a new token is created on the next start")]
    Malformed(PathBuf, String),
}

/// The admin token. Its `Debug` output is redacted, and its memory is wiped on drop.
#[derive(Debug, Clone)]
pub struct ApiToken(SecretString);

impl ApiToken {
    /// Reads the token in `data_dir`. Returns `None` if there is none.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, TokenError> {
        load(&data_dir.join(FILE))
    }

    /// Reads the token in `data_dir`. If there is none, creates it, and the directory if that is missing. An
    /// existing token is never replaced, not even when two processes start at the same time.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, TokenError> {
        if let Some(token) = Self::load(data_dir)? {
            return Ok(token);
        }
        let path = data_dir.join(FILE);
        match private_file::create_concurrently(&path, random()?.as_bytes()) {
            Ok(()) => {}
            // Another process was faster, so its token is used.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(TokenError::Write(path, error)),
        }
        load(&path)?.ok_or_else(|| TokenError::Read(path, ErrorKind::NotFound.into()))
    }

    /// Replaces the token in `data_dir` with a new one and returns it. A running service starts using it within
    /// seconds.
    pub fn rotate(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join(FILE);
        let content = random()?;
        let unfinished = private_file::with_suffix(&path, UNFINISHED);
        let replaced = private_file::write_new(&unfinished, content.as_bytes())
            .and_then(|()| private_file::rename(&unfinished, &path));
        replaced.map_err(|error| TokenError::Write(path.clone(), error))?;
        load(&path)?.ok_or_else(|| TokenError::Read(path, ErrorKind::NotFound.into()))
    }

    /// Returns whether `text` is the token. The time this takes does not depend on where the two differ;
    /// their lengths are not secret.
    pub fn matches(&self, text: &str) -> bool {
        self.0.expose_secret().as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// Returns the token in plain text, for the terminal.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The admin token of a running service. [`AdminToken::watch`] keeps it in step with its file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AdminToken(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The file, unless the token was given in the environment.
    path: Option<PathBuf>,
    /// The token, and its hash, which every request needs.
    current: RwLock<(ApiToken, TokenHash)>,
    /// The database that this node shares with others, if it does.
    shared: OnceLock<ServiceOptions>,
}

impl AdminToken {
    /// Like [`ApiToken::load_or_create`].
    pub fn load_or_create(data_dir: &Path) -> Result<Self, TokenError> {
        Ok(Self::new(Some(data_dir.join(FILE)), ApiToken::load_or_create(data_dir)?))
    }

    /// Like [`load_or_create`](Self::load_or_create), but tries again for five seconds while the file contains no valid
    /// token, because another program may be replacing it.
    pub async fn load_when_complete(data_dir: &Path) -> Result<Self, TokenError> {
        let (deadline, mut has_warned) = (Instant::now() + PATIENCE, false);
        loop {
            match Self::load_or_create(data_dir) {
                Err(error @ TokenError::Malformed(..)) if Instant::now() < deadline => {
                    if !std::mem::replace(&mut has_warned, true) {
                        tracing::warn!(error = %with_causes(&error), "waiting for files that seem to be incomplete");
                    }
                }
                loaded => return loaded,
            }
            sleep(RETRY).await;
        }
    }

    /// Uses a token from the environment or from systemd, which changes only with [`replace`](Self::replace).
    pub fn given(token: ApiToken) -> Self {
        Self::new(None, token)
    }

    fn new(path: Option<PathBuf>, token: ApiToken) -> Self {
        Self(Arc::new(Shared { path, current: RwLock::new(with_hash(token)), shared: OnceLock::new() }))
    }

    /// Makes [`watch`](Self::watch) store the hash of the token in this database, for the other nodes that use it.
    pub fn share(&self, options: ServiceOptions) {
        // It is called once.
        let _only_once = self.0.shared.set(options);
    }

    /// Replaces a token that was given in the environment or by systemd. Returns whether the new one differs.
    pub fn replace(&self, given: ApiToken) -> bool {
        let is_new = self.0.path.is_none() && !self.matches(given.expose());
        if is_new {
            *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = with_hash(given);
        }
        is_new
    }

    /// Returns the token that is valid now.
    pub fn current(&self) -> ApiToken {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Returns the hash of the token that is valid now.
    pub fn hash(&self) -> TokenHash {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Returns whether `text` is the token that is valid now.
    pub fn matches(&self, text: &str) -> bool {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).0.matches(text)
    }

    /// Watches the file forever. Within about a second of a change, the new token is valid and the old one is
    /// not. While the file cannot be used, the last token stays valid, and one warning is logged.
    pub async fn watch(self) -> Infallible {
        join(self.clone().watch_file(), self.publish()).await.0
    }

    /// Stores the hash of the token for the other nodes, if there can be any. If that fails, [`watch`](Self::watch)
    /// tries again.
    pub async fn publish_now(&self) {
        if let Some(options) = self.0.shared.get()
            && let Err(error) = options.publish_admin_token(&self.hash()).await
        {
            tracing::debug!(error = %with_causes(&error), "other nodes do not know the admin token of this one yet");
        }
    }

    /// Stores the hash of the token for the other nodes, whenever it has changed and from time to time, forever.
    async fn publish(self) -> Infallible {
        let Some(options) = self.0.shared.get() else { return std::future::pending().await };
        let mut has_failed = false;
        loop {
            let hash = self.hash();
            if let Err(error) = options.publish_admin_token(&hash).await {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(
                        error = %with_causes(&error),
                        "other nodes do not know the admin token of this one yet"
                    );
                }
                sleep(PUBLISH_RETRY).await;
                continue;
            }
            has_failed = false;
            let published = Instant::now();
            while self.hash() == hash && published.elapsed() < PUBLISH_AGAIN {
                sleep(ticks::until_next(CHECK_INTERVAL)).await;
            }
        }
    }

    async fn watch_file(self) -> Infallible {
        let (mut last_failure, mut watched) = (None, Watched::default());
        loop {
            sleep(ticks::until_next(CHECK_INTERVAL)).await;
            if !watched.has_changed(self.0.path.as_deref()) && last_failure.is_none() {
                continue;
            }
            let token = self.clone();
            let failure = match spawn_blocking(move || token.reload()).await {
                Ok(Ok(is_new)) => {
                    if is_new {
                        tracing::info!("using the new admin token; sessions of the old one have ended");
                    }
                    None
                }
                Ok(Err(error)) => Some(with_causes(&error).to_string()),
                Err(error) => Some(with_causes(&error).to_string()),
            };
            if let Some(reason) = failure.as_ref().filter(|_| failure != last_failure) {
                tracing::warn!(
                    reason,
                    "the file of the admin token cannot be used; the last token stays valid"
                );
            }
            last_failure = failure;
        }
    }

    /// Reads the file, and uses its token from now on. Returns whether it is a different one.
    fn reload(&self) -> Result<bool, TokenError> {
        let Some(path) = &self.0.path else { return Ok(false) };
        let read = load(path)?.ok_or_else(|| TokenError::Read(path.clone(), ErrorKind::NotFound.into()))?;
        if self.matches(read.expose()) {
            return Ok(false);
        }
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = with_hash(read);
        Ok(true)
    }
}

/// Notices changes of a file without reading it, which would take another thread.
#[derive(Debug, Default)]
struct Watched {
    stamp: Option<[i64; 6]>,
    /// Number of times that the same stamp was seen.
    seen: u32,
}

impl Watched {
    /// A file system may store times with a resolution of two seconds: a file that was changed is read a few times.
    const READS: u32 = 3;

    /// Returns whether the file may have changed since the previous call. Without a file, nothing changes.
    fn has_changed(&mut self, path: Option<&Path>) -> bool {
        let Some(path) = path else { return false };
        let stamp = fs::metadata(path).ok().map(|file| {
            let id = [file.dev(), file.ino(), file.size()].map(u64::cast_signed);
            [
                id[0],
                id[1],
                id[2],
                file.mtime(),
                file.ctime(),
                file.mtime_nsec() ^ file.ctime_nsec().rotate_left(32),
            ]
        });
        self.seen = if stamp == self.stamp { self.seen.saturating_add(1) } else { 0 };
        self.stamp = stamp;
        stamp.is_none() || self.seen < Self::READS
    }
}

fn with_hash(token: ApiToken) -> (ApiToken, TokenHash) {
    let hash = TokenHash::of(token.expose());
    (token, hash)
}

fn load(path: &Path) -> Result<Option<ApiToken>, TokenError> {
    let content = match private_file::read(path, Access::OwnerOnly, 2 * MAX_CHARACTERS as u64) {
        Ok(Some(content)) => content,
        Ok(None) => return Ok(None),
        Err(ReadError::TooOpen(too_open)) => return Err(TokenError::Open(path.to_owned(), too_open)),
        Err(ReadError::Io(error)) => return Err(TokenError::Read(path.to_owned(), error)),
    };
    parse(&content).map(Some).map_err(|problem| TokenError::Malformed(path.to_owned(), problem))
}

/// Parses a token. White space around it is ignored. The error never repeats the text.
pub fn parse(content: &[u8]) -> Result<ApiToken, String> {
    let token = str::from_utf8(content).map_err(|_| "is not UTF-8 text")?.trim();
    if token.is_empty() {
        return Err("is empty".to_owned());
    }
    if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&token.len()) {
        let length = token.len();
        return Err(format!("has {length} characters, must have {MIN_CHARACTERS} to {MAX_CHARACTERS}"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("contains spaces or characters that are not allowed in an HTTP header".to_owned());
    }
    Ok(ApiToken(SecretString::from(token)))
}

/// Returns the file's content for a new token: random bytes as hexadecimal digits, and a line feed.
fn random() -> Result<Zeroizing<String>, TokenError> {
    let mut bytes = Zeroizing::new([0_u8; RANDOM_BYTES]);
    SysRng.try_fill_bytes(bytes.as_mut_slice()).map_err(TokenError::Random)?;
    let mut text = Zeroizing::new(String::with_capacity(2 * RANDOM_BYTES + 1));
    hex::push(&mut text, bytes.as_slice());
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, thread};

    use super::*;

    fn write(dir: &Path, text: &str, mode: u32) {
        let path = dir.join(FILE);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(text: &str, mode: u32) -> String {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), text, mode);
        let message = ApiToken::load_or_create(dir.path()).unwrap_err().to_string();
        message.replace(&dir.path().display().to_string(), "data")
    }

    #[test]
    fn the_token_is_created_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let first = ApiToken::load_or_create(&data).unwrap();
        let second = ApiToken::load_or_create(&data).unwrap();
        assert_eq!(first.expose(), second.expose());
        assert_eq!(first.expose().len(), 64);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.join(FILE)), 0o600);
        assert_eq!(mode(&data), 0o700);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn two_installations_have_different_tokens() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = ApiToken::load_or_create(one.path()).unwrap();
        let two = ApiToken::load_or_create(two.path()).unwrap();
        assert!(!one.matches(two.expose()));
    }

    #[test]
    fn processes_that_start_at_the_same_time_agree_on_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let start = || ApiToken::load_or_create(dir.path()).unwrap();
        let tokens = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(tokens.iter().all(|token| token.matches(start().expose())));
    }

    #[test]
    fn a_file_that_does_not_change_is_read_only_a_few_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut watched = Watched::default();
        let mut reads = || (0..10).filter(|_| watched.has_changed(Some(&path))).count();
        assert_eq!(reads(), 10, "it may be missing for another reason");
        write(dir.path(), "first", 0o600);
        assert_eq!((reads(), reads()), (3, 0));
        let replacement = dir.path().join("other");
        fs::write(&replacement, "other").unwrap();
        fs::rename(replacement, &path).unwrap();
        assert_eq!((reads(), reads()), (3, 0), "it is another file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(reads() > 0, "others can read it");
        assert!(!watched.has_changed(None));
    }

    #[test]
    fn a_rotated_token_replaces_the_old_one_also_in_a_running_service() {
        let dir = tempfile::tempdir().unwrap();
        let running = AdminToken::load_or_create(dir.path()).unwrap();
        let old = running.current();
        assert!(!running.reload().unwrap());
        let new = ApiToken::rotate(dir.path()).unwrap();
        assert!(!new.matches(old.expose()) && running.matches(old.expose()));
        assert!(running.reload().unwrap());
        assert!(running.matches(new.expose()) && !running.matches(old.expose()));
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
        for damage in ["short", ""] {
            fs::write(&path, damage).unwrap();
            assert!(running.reload().is_err() && running.matches(new.expose()));
        }
        fs::remove_file(&path).unwrap();
        assert!(running.reload().is_err() && running.matches(new.expose()));
    }

    #[test]
    fn an_existing_token_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        private_file::create_concurrently(&path, "a".repeat(64).as_bytes()).unwrap();
        private_file::create_concurrently(&path, "b".repeat(64).as_bytes()).unwrap_err();
        assert!(ApiToken::load_or_create(dir.path()).unwrap().matches(&"a".repeat(64)));
    }

    #[test]
    fn only_the_token_itself_matches() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &format!("{}\n", "k".repeat(32)), 0o600);
        let token = ApiToken::load_or_create(dir.path()).unwrap();
        assert!(token.matches(&"k".repeat(32)));
        for invalid in
            ["", "k", &"k".repeat(31), &"k".repeat(33), &"K".repeat(32), &format!("{}\n", "k".repeat(32))]
        {
            assert!(!token.matches(invalid), "{invalid:?}");
        }
    }

    #[test]
    fn a_file_that_other_users_can_access_is_made_private() {
        for mode in [0o644, 0o640, 0o604, 0o660] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &"k".repeat(64), mode);
            assert!(ApiToken::load_or_create(dir.path()).unwrap().matches(&"k".repeat(64)));
            let now = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777;
            assert_eq!(now, 0o600);
        }
    }

    #[test]
    fn a_damaged_file_is_refused_and_kept() {
        for (text, reason) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("short", "has 5 characters, must have 32 to 512"),
            (&"k".repeat(513), "has 513 characters, must have 32 to 512"),
            (
                &format!("{} {}", "k".repeat(20), "k".repeat(20)),
                "contains spaces or characters that are not allowed",
            ),
        ] {
            assert!(refusal(text, 0o600).contains(reason), "{text:?}");
        }
    }

    #[test]
    fn the_token_is_redacted_in_debug_output_and_errors() {
        let dir = tempfile::tempdir().unwrap();
        let token = ApiToken::load_or_create(dir.path()).unwrap();
        assert!(!format!("{token:?}").contains(token.expose()));
        let message = refusal(&format!("{} {}", "secret".repeat(6), "k".repeat(20)), 0o600);
        assert!(!message.contains("secretsecret"), "{message}");
    }
}
