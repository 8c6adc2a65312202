//! The API token: made at the first start, kept in a file that only its owner can read, compared in constant time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use liveobject_actors::domain::hex;
use rand::{
    TryRng,
    rngs::{SysError, SysRng},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use subtle::ConstantTimeEq;

/// The token's name in the data directory.
const FILE: &str = "api-token";
/// 256 bits: nobody guesses them.
const RANDOM_BYTES: usize = 32;
/// A token that somebody chose must have at least so many characters.
const MIN_CHARACTERS: usize = 32;
/// More than fits a header with ease.
const MAX_CHARACTERS: usize = 512;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read.
    #[error("the API token {0} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// The file could not be written.
    #[error("the API token {0} cannot be written")]
    Write(PathBuf, #[source] io::Error),
    /// The system has no random numbers.
    #[error("the system gave no random numbers for the API token")]
    Random(#[source] SysError),
    /// Others can read the file; its permissions.
    #[error("the API token {0} can be read by others (mode {1:03o}): chmod 600 {0}")]
    Open(PathBuf, u32),
    /// What the file holds is no token; why not.
    #[error("the API token {0} {1}; remove the file to have a new one made at the next start")]
    Malformed(PathBuf, String),
}

/// What every call of the API must show. Does not print, and is wiped on drop.
#[derive(Debug, Clone)]
pub struct ApiToken(SecretString);

impl ApiToken {
    /// Reads the token in `data_dir`; makes it, and the directory (mode 0700), when there is none. One that is there is
    /// never replaced, not even by two processes that start at once.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join(FILE);
        match load(&path) {
            Err(TokenError::Read(_, e)) if e.kind() == ErrorKind::NotFound => {
                let token = random()?;
                store(data_dir, &path, &token).map_err(|e| TokenError::Write(path.clone(), e))?;
                // What counts is what lies there now: another process may have been first.
                load(&path)
            }
            loaded => loaded,
        }
    }

    /// Whether `text` is the token. Takes the same time wherever they differ; their lengths are no secret.
    pub fn matches(&self, text: &str) -> bool {
        self.0.expose_secret().as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The token in plain text, for the one command that prints it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

fn load(path: &Path) -> Result<ApiToken, TokenError> {
    let read = |e| TokenError::Read(path.to_owned(), e);
    let malformed = |why: &str| TokenError::Malformed(path.to_owned(), why.to_owned());
    let file = File::open(path).map_err(read)?;
    let mode = file.metadata().map_err(read)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Open(path.to_owned(), mode));
    }
    let mut text = Zeroizing::new(String::with_capacity(2 * MAX_CHARACTERS));
    match file.take(2 * MAX_CHARACTERS as u64).read_to_string(&mut text) {
        Err(e) if e.kind() == ErrorKind::InvalidData => return Err(malformed("is not a text")),
        other => other.map_err(read)?,
    };
    let token = text.trim();
    if token.is_empty() {
        return Err(malformed("is empty"));
    }
    if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&token.len()) {
        let bounds = format!("{MIN_CHARACTERS} to {MAX_CHARACTERS}");
        return Err(malformed(&format!("has {} characters, must have {bounds}", token.len())));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed("has spaces or characters that cannot stand in a header"));
    }
    Ok(ApiToken(SecretString::from(token)))
}

/// New random bytes, as hex digits.
fn random() -> Result<Zeroizing<String>, TokenError> {
    let mut bytes = Zeroizing::new([0_u8; RANDOM_BYTES]);
    SysRng.try_fill_bytes(bytes.as_mut_slice()).map_err(TokenError::Random)?;
    let mut text = Zeroizing::new(String::with_capacity(2 * RANDOM_BYTES + 1));
    hex::push(&mut text, bytes.as_slice());
    Ok(text)
}

/// Writes the token so that the file is there whole or not at all, even after a power cut.
fn store(data_dir: &Path, path: &Path, token: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let temporary = data_dir.join(format!("{FILE}.{:016x}.tmp", rand::random::<u64>()));
    let stored = write_synced(&temporary, token).and_then(|()| put_in_place(&temporary, path));
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => stored.and(Err(e)),
        _ => stored,
    }?;
    File::open(data_dir)?.sync_all()
}

fn write_synced(path: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

/// Gives the file its name, unless the name is taken already.
fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        // A file system without hard links.
        Err(_) => fs::rename(temporary, path),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

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
    fn the_token_is_made_once_and_for_the_owner_alone() {
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
    fn two_installations_have_two_tokens() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = ApiToken::load_or_create(one.path()).unwrap();
        let two = ApiToken::load_or_create(two.path()).unwrap();
        assert!(!one.matches(two.expose()));
    }

    #[test]
    fn whoever_starts_at_once_agrees_on_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let start = || ApiToken::load_or_create(dir.path()).unwrap();
        let tokens = thread::scope(|scope| {
            let starting: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starting.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(tokens.iter().all(|token| token.matches(start().expose())));
    }

    #[test]
    fn a_token_that_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        store(dir.path(), &path, &"a".repeat(64)).unwrap();
        store(dir.path(), &path, &"b".repeat(64)).unwrap();
        assert!(ApiToken::load_or_create(dir.path()).unwrap().matches(&"a".repeat(64)));
    }

    #[test]
    fn only_the_token_itself_matches() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &format!("{}\n", "k".repeat(32)), 0o600);
        let token = ApiToken::load_or_create(dir.path()).unwrap();
        assert!(token.matches(&"k".repeat(32)));
        for wrong in
            ["", "k", &"k".repeat(31), &"k".repeat(33), &"K".repeat(32), &format!("{}\n", "k".repeat(32))]
        {
            assert!(!token.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_advice() {
        for mode in [0o644, 0o640, 0o604, 0o660] {
            let message = refusal(&"k".repeat(64), mode);
            let expected = format!(
                "the API token data/api-token can be read by others (mode {mode:o}): chmod 600 data/api-token"
            );
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_damaged_file_is_refused_and_kept() {
        for (text, reason) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("short", "has 5 characters, must have 32 to 512"),
            (&"k".repeat(513), "has 513 characters, must have 32 to 512"),
            (&format!("{} {}", "k".repeat(20), "k".repeat(20)), "has spaces or characters that cannot stand"),
        ] {
            assert!(refusal(text, 0o600).contains(reason), "{text:?}");
        }
    }

    #[test]
    fn the_token_does_not_print() {
        let dir = tempfile::tempdir().unwrap();
        let token = ApiToken::load_or_create(dir.path()).unwrap();
        assert!(!format!("{token:?}").contains(token.expose()));
        let message = refusal(&format!("{} {}", "secret".repeat(6), "k".repeat(20)), 0o600);
        assert!(!message.contains("secretsecret"), "{message}");
    }
}
