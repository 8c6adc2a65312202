//! The options that the user of the app of Home Assistant has chosen.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;
use serde_json::{Map, Value};

use super::{
    fault::{Fault, Origin},
    file::whole,
    keys::{self, Key},
    source::Source,
};

/// The file in the data directory that the Supervisor writes.
const FILE: &str = "options.json";
const MAX_BYTES: u64 = 64 * 1024;

/// The options, and the keys that they set.
const OPTIONS: [(&str, Key); 5] = [
    ("log_level", keys::LOG_FILTER),
    ("retention_days", keys::RETENTION_DAYS),
    ("public_url", keys::PUBLIC_URL),
    ("time_zone", keys::TIME_ZONE),
    ("mqtt_source", keys::SOURCE),
];

/// Adds the options to `source`. The file and the environment override them. Unknown options are ignored: the
/// Supervisor has checked them against the schema of the app, which may be newer.
pub(super) fn read(data_dir: &Path, source: &mut Source, faults: &mut Vec<Fault>) {
    let path = data_dir.join(FILE);
    let options = match load(&path) {
        Ok(options) => options,
        Err(error) => {
            faults.push(Fault::new(whole(&path), "", format!("cannot be read: {error}")));
            return;
        }
    };
    for (name, key) in OPTIONS {
        if let Some(value) = options.get(name).filter(|value| !value.is_null() && *value != "") {
            let origin = Origin::Variable(format!("{}: {name}", path.display()));
            source.insert_unless_set(key, value.clone(), origin);
        }
    }
}

fn load(path: &Path) -> io::Result<Map<String, Value>> {
    // The file is read as root. A link could lead to a file that the service must not read.
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        opened => opened?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(|_| io::Error::other("it is not a JSON object"))
}
