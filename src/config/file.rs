//! The configuration file: parses TOML and keeps the line of each key.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use secrecy::zeroize::Zeroizing;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    fault::{Fault, Origin},
    keys::{self, Key},
    source::{Source, to_json},
};

/// Far above the size of any real file. Prevents `--config /dev/zero` from filling the memory.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The text of the file. Wiped on drop, because it may contain a password.
pub(super) struct Text {
    content: Zeroizing<String>,
    name: String,
    /// Whether every user of this machine can read the file.
    pub(super) is_world_readable: bool,
}

impl Text {
    /// Reads the file; returns `None` if it does not exist.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Fault> {
        let name = path.display().to_string();
        match read(path) {
            Ok((content, is_world_readable)) => Ok(Some(Self { content, name, is_world_readable })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Fault::new(whole(path), "", cannot_read(&e))),
        }
    }

    /// Adds the file's values to `source`, and a fault for each unknown key to `faults`. Fails if the file is
    /// not TOML.
    pub(super) fn parse(&self, source: &mut Source, faults: &mut Vec<Fault>) -> Result<(), Vec<Fault>> {
        let (table, errors) = DeTable::parse_recoverable(&self.content);
        if !errors.is_empty() {
            // Keys that were parsed despite the errors may be in the wrong section, so they are ignored. A
            // fault has only the parser's message, not the line itself, which may contain a secret.
            let to_fault = |e: &toml::de::Error| {
                let offset = e.span().map_or(0, |span| span.start);
                Fault::new(self.line(offset), "", e.message())
            };
            return Err(errors.iter().map(to_fault).collect());
        }
        let mut reader = Reader { text: self, keys: keys::all(), source, faults };
        for (key, value) in table.get_ref() {
            reader.top(key, value.get_ref());
        }
        Ok(())
    }

    fn line(&self, offset: usize) -> Origin {
        let before = self.content.bytes().take(offset);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        Origin::File { name: self.name.clone(), line: Some(line) }
    }
}

/// Describes why the file cannot be read. The file of a package can be read only by root and the service.
pub(super) fn cannot_read(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => "; run the command with sudo, or as a user who can read the file",
        _ => "",
    };
    format!("cannot be read: {error}{remedy}")
}

/// Returns the origin of faults of the file as a whole.
pub(super) fn whole(path: &Path) -> Origin {
    Origin::File { name: path.display().to_string(), line: None }
}

/// Reads a file of at most [`MAX_FILE_BYTES`]. Also returns whether every user of this machine can read it.
pub(super) fn read(path: &Path) -> io::Result<(Zeroizing<String>, bool)> {
    let file = File::open(path)?;
    let is_world_readable = file.metadata()?.permissions().mode() & 0o004 != 0;
    let mut text = Zeroizing::new(String::new());
    let bytes = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("the file is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok((text, is_world_readable))
}

type Name<'a> = Spanned<DeString<'a>>;

/// Sorts the parsed keys into known ones and faults.
struct Reader<'a> {
    text: &'a Text,
    keys: Vec<Key>,
    source: &'a mut Source,
    faults: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    fn top(&mut self, name: &Name, value: &DeValue) {
        let section = name.get_ref().as_ref();
        match value {
            _ if section.is_empty() || self.keys.iter().all(|key| key.section != section) => {
                self.key("", name, value);
            }
            DeValue::Table(table) => {
                for (name, value) in table {
                    self.key(section, name, value.get_ref());
                }
            }
            _ => self.fault(name, section, format!("must be a section: [{section}]")),
        }
    }

    fn key(&mut self, section: &str, name: &Name, value: &DeValue) {
        let known = self.keys.iter().find(|key| key.section == section && key.name == name.get_ref());
        let dotted = keys::dotted(section, name.get_ref());
        match (known, to_json(value)) {
            (Some(key), Ok(value)) => self.source.insert(*key, value, self.text.line(name.span().start)),
            (Some(_), Err(message)) => self.fault(name, &dotted, message),
            (None, _) if section.is_empty() && value.is_table() => {
                self.fault(name, &dotted, "unknown section");
            }
            (None, _) => self.fault(name, &dotted, "unknown key"),
        }
    }

    fn fault(&mut self, name: &Name, key: &str, message: impl Into<String>) {
        let key = key.escape_debug().to_string();
        self.faults.push(Fault::new(self.text.line(name.span().start), &key, message));
    }
}
