//! The id of this node, in a file of its data directory. Created at the first start with a database on a server.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use uuid::Uuid;

use crate::{
    domain::lease::NodeId,
    private_file::{self, Access, ReadError},
};

/// The file in the data directory.
pub const FILE: &str = "node-id";

/// More than an id has, to notice a file that is too long.
const MAX_BYTES: u64 = 64;

/// Reads the id, or creates it. The caller must hold the lock of the directory.
pub fn load_or_create(data_dir: &Path) -> io::Result<NodeId> {
    let path = data_dir.join(FILE);
    let invalid = || io::Error::new(ErrorKind::InvalidData, "it does not contain the id of a node");
    match private_file::read(&path, Access::OwnerOnly, MAX_BYTES) {
        Ok(Some(content)) => {
            let text = std::str::from_utf8(&content).map_err(|_| invalid())?;
            Uuid::parse_str(text.trim()).map(NodeId).map_err(|_| invalid())
        }
        Ok(None) => {
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            private_file::create(&path, format!("{id}\n").as_bytes())?;
            Ok(NodeId(id))
        }
        Err(ReadError::Io(error)) => Err(error),
        Err(ReadError::TooOpen(too_open)) => Err(io::Error::other(too_open.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_id_is_created_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let id = load_or_create(dir.path()).unwrap();
        assert_eq!(load_or_create(dir.path()).unwrap(), id);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(load_or_create(other.path()).unwrap(), id);
    }

    #[test]
    fn a_file_that_contains_no_id_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "first\n").unwrap();
        assert_eq!(load_or_create(dir.path()).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), b"first\n");
    }
}
