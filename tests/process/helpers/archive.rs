//! Archives that no backup has written.

use std::{fs::File, io::Read as _, path::Path};

use liveobject_actors::domain::hex;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, Header};

use super::text;

/// The entries of an archive, in order.
pub type Entries = Vec<(String, Vec<u8>)>;

/// Returns the entries of an archive except for its checksum.
pub fn entries(archive: &Path) -> Entries {
    let mut archive = Archive::new(File::open(archive).expect("the archive"));
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let name = text(&entry.path().expect("a name")).to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a file");
        (name, content)
    });
    entries.filter(|(name, _)| name != "checksum").collect()
}

/// Writes an archive with a valid checksum.
pub fn write_archive(path: &Path, entries: &Entries) {
    let mut tar = Builder::new(File::create(path).expect("the file can be created"));
    let mut sum = Sha256::new();
    let mut add = |name: &str, content: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, content).expect("the file can be added");
    };
    for (name, content) in entries {
        sum.update(format!("{name}\n{}\n", content.len()));
        sum.update(content);
        add(name, content);
    }
    let mut digits = String::new();
    hex::push(&mut digits, &sum.finalize());
    add("checksum", digits.as_bytes());
    tar.finish().expect("the archive can be written");
}

/// Returns the entries with another content for one of them.
pub fn replaced(entries: &Entries, name: &str, content: &[u8]) -> Entries {
    let mut entries = entries.clone();
    let found = entries.iter_mut().find(|(known, _)| known == name).expect("the entry exists");
    found.1 = content.to_vec();
    entries
}
