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
}
