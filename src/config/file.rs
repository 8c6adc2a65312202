//! The configuration file: TOML, read so that every key is known with its line.

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
    source::{Key, Source, keys, to_json},
};

/// More than any sensible file; keeps `--config /dev/zero` from filling the memory.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A file's text, wiped on drop, for it may hold a password.
pub(super) struct Text {
    content: Zeroizing<String>,
    name: String,
    /// Whether everybody on this machine can read it.
    pub(super) is_open: bool,
}

impl Text {
    /// Reads the file; `None` when there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Fault> {
        let name = path.display().to_string();
        match read(path) {
            Ok((content, is_open)) => Ok(Some(Self { content, name, is_open })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Fault::new(whole(path), "", format!("cannot be read: {e}"))),
        }
    }

    /// Adds what stands in the file to `source`, and what is no known key to `faults`; or tells why it is not TOML.
    pub(super) fn parse(&self, source: &mut Source, faults: &mut Vec<Fault>) -> Result<(), Vec<Fault>> {
        let (table, errors) = DeTable::parse_recoverable(&self.content);
        if !errors.is_empty() {
            // What could be read in spite of them may stand in a wrong section: nothing is concluded from it. Only
            // the parser's own words are told, not the line itself: it may hold a secret.
            let told = |e: &toml::de::Error| {
                let offset = e.span().map_or(0, |span| span.start);
                Fault::new(self.line(offset), "", e.message())
            };
            return Err(errors.iter().map(told).collect());
        }
        let mut reader = Reader { text: self, keys: keys(), source, faults };
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

/// The file as a whole.
pub(super) fn whole(path: &Path) -> Origin {
    Origin::File { name: path.display().to_string(), line: None }
}

fn read(path: &Path) -> io::Result<(Zeroizing<String>, bool)> {
    let file = File::open(path)?;
    let is_open = file.metadata()?.permissions().mode() & 0o004 != 0;
    let mut text = Zeroizing::new(String::new());
    let bytes = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok((text, is_open))
}

type Name<'a> = Spanned<DeString<'a>>;

/// Sorts what was parsed into known keys and faults.
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
        let dotted = if section.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{section}.{}", name.get_ref())
        };
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
