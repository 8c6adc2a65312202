//! Commands that are run as root act as the owner of the data directory. Otherwise, they would leave files there that
//! the service cannot use.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::process::{Gid, Uid};
use rustix::{
    process::geteuid,
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

/// The process cannot act as the owner.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot act as the owner of {} (user id {uid}): {source}. Run the command as that user.",
    directory.display()
)]
pub struct OwnerError {
    directory: PathBuf,
    uid: u32,
    source: io::Error,
}

/// If the process runs as root and the directory belongs to another user, changes the user and the groups of this
/// thread to those of the owner. Does nothing if the directory does not exist.
///
/// Call it before any other thread is started: on Linux, each thread has its own user, which new threads inherit.
pub fn act_as_owner(directory: &Path) -> Result<(), OwnerError> {
    let Ok(metadata) = fs::metadata(directory) else { return Ok(()) };
    if !geteuid().is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    // Without these files, the ids of the directory are used.
    let text = |file| fs::read_to_string(file).unwrap_or_default();
    let account = account(&text("/etc/passwd"), &text("/etc/group"), metadata.uid(), metadata.gid());
    change_to(&account).map_err(|source| OwnerError {
        directory: directory.to_owned(),
        uid: account.uid,
        source,
    })
}

/// Returns the command that makes a file readable only for its owner, and for the owner of the data directory, as which
/// the service runs.
pub fn make_private(file: &Path, data_dir: &Path) -> String {
    let path = file.display();
    match (fs::metadata(file), fs::metadata(data_dir)) {
        (Ok(file), Ok(data)) if file.uid() != data.uid() && data.uid() != 0 => {
            let groups = fs::read_to_string("/etc/group").unwrap_or_default();
            let group = group_name(&groups, data.gid());
            format!("chgrp {group} {path} && chmod 640 {path}")
        }
        _ => format!("chmod 600 {path}"),
    }
}

/// Returns the name of a group, or its number if it has none.
fn group_name(groups: &str, gid: u32) -> String {
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    });
    named.map_or_else(|| gid.to_string(), str::to_owned)
}

/// A user with its groups.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
    /// The supplementary groups.
    groups: Vec<u32>,
}

/// Changes the user and the groups of this thread. The groups come first, because only root may change them.
fn change_to(account: &Account) -> io::Result<()> {
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    set_thread_gid(Gid::from_raw(account.gid))?;
    Ok(set_thread_uid(Uid::from_raw(account.uid))?)
}

/// Finds the primary and supplementary groups of a user in `passwd` and `group`, in the format of these files. A user
/// that is not listed has the group of its directory.
fn account(passwd: &str, group: &str, uid: u32, directory_gid: u32) -> Account {
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let its_uid: u32 = fields.next()?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        (its_uid == uid).then_some((name, gid))
    });
    let Some((name, gid)) = user else { return Account { uid, gid: directory_gid, groups: Vec::new() } };
    let groups = group.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let gid: u32 = fields.next()?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == name).then_some(gid)
    });
    Account { uid, gid, groups: groups.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_user_are_its_primary_one_and_those_that_list_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# remark\nliveobject:x:990:991::/:/bin/false\n";
        let group =
            "root:x:0:\nssl-cert:x:115:other,liveobject\nliveobject:x:991:\nlive:x:116:liveobject2\nbad\n";
        assert_eq!(account(passwd, group, 990, 5), Account { uid: 990, gid: 991, groups: vec![115] });
        assert_eq!(account(passwd, group, 65532, 5), Account { uid: 65532, gid: 5, groups: Vec::new() });
        assert_eq!(account("", "", 990, 5), Account { uid: 990, gid: 5, groups: Vec::new() });
    }

    #[test]
    fn a_file_of_another_user_stays_readable_for_the_service() {
        assert_eq!(group_name("root:x:0:\nliveobject:x:998:a,b\n", 998), "liveobject");
        assert_eq!(group_name("root:x:0:\n", 998), "998");
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("config.toml"), dir.path().join("data"));
        fs::write(&file, "").unwrap();
        let path = file.display();
        assert_eq!(make_private(&file, &data), format!("chmod 600 {path}"));
        fs::create_dir(&data).unwrap();
        assert_eq!(make_private(&file, &data), format!("chmod 600 {path}"));
        if geteuid().is_root() {
            std::os::unix::fs::chown(&data, Some(12_345), Some(54_321)).unwrap();
            assert_eq!(make_private(&file, &data), format!("chgrp 54321 {path} && chmod 640 {path}"));
        }
    }
}
