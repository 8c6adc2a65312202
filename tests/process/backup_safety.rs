//! What backups and restores must not do: act as root for another user, replace what is not theirs, mix two states, or
//! leave a service that does not start.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use liveobject_test_support::{Service, wait_until};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::helpers::{
    PASSWORD, TIMEOUT, accept, assert_exits, connected_with_login, entries, ids, names, replaced, run,
    service, stop, text, write_archive,
};

/// The user `nobody`.
const NOBODY: u32 = 65_534;
const UNFINISHED_RESTORE: &str = "unfinished-restore";

/// Returns a directory that all users can enter.
fn directory() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the mode can be changed");
    dir
}

/// Gives a directory and what is in it to another user. Returns whether that is permitted.
fn give_away(path: &Path) -> bool {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let is_given = entries.map(|entry| entry.path()).all(|entry| give_away(&entry));
    is_given && std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).is_ok()
}

/// Creates a stopped service with three events, and a backup of it.
async fn with_backup(dir: &TempDir) -> (Service, PathBuf) {
    let mut service = service().data_dir(dir.path().join("data")).start().await;
    let _ledger = accept(&service, ids("a", 3)).await;
    let archive = dir.path().join("a.tar");
    let _output = run(&service, &["backup", text(&archive)], 0).await;
    stop(&mut service).await;
    (service, archive)
}

#[tokio::test]
async fn root_moves_reads_and_writes_nothing_that_the_owner_of_the_data_may_not() {
    let dir = directory();
    let (mut service, archive) = with_backup(&dir).await;
    let data = service.data_dir().to_owned();
    let victim = dir.path().join("victim");
    fs::write(&victim, "a secret of root").expect("the file can be written");
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).expect("the mode can be changed");
    let is_unharmed = || {
        let found = fs::symlink_metadata(&victim).expect("the file exists");
        assert!(found.is_file() && found.uid() == 0);
        assert_eq!(fs::read_to_string(&victim).expect("a file"), "a secret of root");
    };
    let evil = data.join("evil");
    fs::write(&evil, "evil").expect("the file can be written");
    let record = data.join("restore.json");
    let moves = json!([{ "place": victim, "staged": evil }]);
    fs::write(&record, moves.to_string()).expect("the file can be written");
    if !give_away(&data) {
        println!("skipped: only root can give files away");
        return;
    }
    let new = dir.path().join("new.tar");
    for command in [
        &["backup", text(&new)][..],
        &["restore", text(&archive), "--replace"],
        &["token"],
        &["config", "check"],
    ] {
        let refused = run(&service, command, 1).await;
        assert!(refused.contains("does not belong to the service"), "{refused}");
        is_unharmed();
    }
    let _log = assert_exits(&mut service, 78, &["does not belong to the service"]).await;
    is_unharmed();
    fs::remove_file(&record).expect("the file can be removed");

    for (name, command) in [
        ("liveobject.db.unfinished-backup", &["backup", text(&new)][..]),
        ("api-token", &["backup", text(&new)]),
        ("liveobject.lock", &["restore", text(&archive), "--replace"]),
    ] {
        let link = data.join(name);
        let _removed = fs::remove_file(&link);
        symlink(&victim, &link).expect("a link can be created");
        let _refused = run(&service, command, 1).await;
        is_unharmed();
        fs::remove_file(&link).expect("the link can be removed");
    }
    // The archive belongs to root, everything else to the owner of the data.
    let _output = run(&service, &["backup", text(&new)], 0).await;
    let found = fs::metadata(&new).expect("the archive exists");
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600));
    let _output = run(&service, &["restore", text(&archive), "--replace"], 0).await;
    for name in names(&data) {
        assert_eq!(fs::metadata(data.join(&name)).expect("a file").uid(), NOBODY, "{name}");
    }
    assert_eq!(names(dir.path()), ["a.tar", "data", "new.tar", "victim"]);
}

#[tokio::test]
async fn files_with_the_names_of_copies_are_left_alone() {
    let dir = directory();
    let (mut service, archive) = with_backup(&dir).await;
    let data = service.data_dir().to_owned();
    let own = ["liveobject.db.backup", "liveobject.db.restored", "identity.age.restored"];
    for name in own {
        fs::write(data.join(name), name).expect("the file can be written");
    }
    let other = dir.path().join("other.tar");
    fs::write(dir.path().join("other.tar.unfinished"), "mine").expect("the file can be written");
    let _output = run(&service, &["backup", text(&other)], 0).await;
    let _output = run(&service, &["restore", text(&archive), "--replace"], 0).await;
    service.start().await;
    for name in own {
        assert_eq!(fs::read_to_string(data.join(name)).expect("the file is left alone"), name);
    }
    assert_eq!(fs::read(dir.path().join("other.tar.unfinished")).expect("a file"), b"mine");
}

#[tokio::test]
async fn a_backup_replaces_nothing_and_does_not_use_the_names_of_the_service() {
    let dir = directory();
    let (service, archive) = with_backup(&dir).await;
    let link = dir.path().join("link.tar");
    symlink(dir.path().join("missing"), &link).expect("a link can be created");
    for existing in [&archive, &link] {
        let refused = run(&service, &["backup", text(existing)], 1).await;
        assert!(refused.contains("already exists"), "{refused}");
    }
    let before = names(service.data_dir());
    for name in
        ["restore.json", "liveobject.db-wal", "liveobject.db.before-restore", "api-token.new", "sessions"]
    {
        let refused = run(&service, &["backup", text(&service.data_dir().join(name))], 1).await;
        assert!(refused.contains("own files") || refused.contains("already exists"), "{name}: {refused}");
    }
    assert_eq!(names(service.data_dir()), before);
    // Where the data directory is the only volume, the backup may be there.
    let _output = run(&service, &["backup", text(&service.data_dir().join("liveobject-1.tar"))], 0).await;
}

#[tokio::test]
async fn a_backup_contains_the_key_of_its_database_even_if_the_key_is_rotated() {
    let (broker, mut original) = connected_with_login(service()).await;
    stop(&mut original).await;
    let dir = directory();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let backup = original.run_with_output(&["backup", "-"], Some(Stdio::from(writer)));
    let read = async {
        let mut archive = vec![0; 512];
        reader.read_exact(&mut archive).expect("the archive begins");
        (archive, reader)
    };
    let rotate_and_read = async {
        // The rest of the archive does not fit into the pipe.
        let (mut archive, mut reader) = read.await;
        let _output = run(&original, &["key", "rotate"], 0).await;
        let rest = spawn_blocking(move || {
            let read = reader.read_to_end(&mut archive);
            read.map(|_| archive)
        });
        rest.await.expect("no panic").expect("the archive can be read")
    };
    let (finished, archive) = tokio::join!(backup, rotate_and_read);
    assert_eq!(finished.code, 0, "{finished:?}");
    let file = dir.path().join("a.tar");
    fs::write(&file, archive).expect("the file can be written");
    let mut copy = service().data_dir(dir.path().join("data")).build();
    let _output = run(&copy, &["restore", text(&file)], 0).await;
    copy.start().await;
    copy.wait_connected(TIMEOUT).await;
    drop(broker);
}

#[tokio::test]
async fn a_restore_during_a_backup_makes_the_backup_fail() {
    let dir = directory();
    let (mut service, archive) = with_backup(&dir).await;
    // More than fits into a pipe.
    service.start().await;
    let _ledger = accept(&service, ids("b", 200)).await;
    stop(&mut service).await;
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let backup = service.run_with_output(&["backup", "-"], Some(Stdio::from(writer)));
    let restore_and_read = async {
        reader.read_exact(&mut [0; 512]).expect("the archive begins");
        let _output = run(&service, &["restore", text(&archive), "--replace"], 0).await;
        spawn_blocking(move || std::io::copy(&mut reader, &mut std::io::sink())).await.expect("no panic")
    };
    let (finished, read) = tokio::join!(backup, restore_and_read);
    let _bytes = read.expect("the archive can be read");
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains("was replaced during the backup"), "{finished:?}");
}

#[tokio::test]
async fn a_disconnected_copy_is_refused_if_the_configuration_would_connect_it() {
    let (broker, original) = connected_with_login(service()).await;
    let dir = directory();
    let archive = dir.path().join("a.tar");
    let _output = run(&original, &["backup", text(&archive)], 0).await;
    let data = dir.path().join("data");
    let with = |managed: bool, enabled: bool| {
        let config = format!(
            "[mqtt]\nmanaged = {managed}\nenabled = {enabled}\nbroker_host = \"127.0.0.1\"\nbroker_port = {}\n\
             username = \"ann\"\npassword = \"{PASSWORD}\"\n",
            broker.port()
        );
        service().config(&config).data_dir(&data).build()
    };
    let refused = run(&with(true, true), &["restore", text(&archive), "--disconnected"], 1).await;
    assert!(refused.contains("set enabled = false"), "{refused}");
    assert!(!data.join("liveobject.db").exists());
    let output = run(&with(true, true), &["restore", text(&archive)], 0).await;
    assert!(output.contains("client id of the original"), "{output}");
    for managed in [true, false] {
        let arguments = ["restore", text(&archive), "--replace", "--disconnected"];
        let mut copy = with(managed, false);
        let output = run(&copy, &arguments, 0).await;
        assert!(output.contains("MQTT is switched off"), "{output}");
        copy.start().await;
        assert_eq!(copy.status().await["state"], "disabled");
    }
    // Without stored settings, those of the configuration are used as well.
    let never = service().data_dir(dir.path().join("never")).start().await;
    let (empty, into) = (dir.path().join("empty.tar"), dir.path().join("into"));
    let _output = run(&never, &["backup", text(&empty)], 0).await;
    let unused = service().data_dir(&into).build();
    let output = run(&unused, &["restore", text(&empty)], 0).await;
    assert!(output.contains("No broker is configured"), "{output}");
    let arguments = ["restore", text(&empty), "--replace", "--disconnected"];
    let refused = run(&with(false, true), &arguments, 1).await;
    assert!(refused.contains("set enabled = false"), "{refused}");
}

/// A mount that is removed when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], place: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(arguments).arg(place).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(place.to_owned()));
        }
        println!("skipped: mounting is not permitted");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_mounted_file_or_directory_is_noticed_before_anything_is_replaced() {
    let dir = directory();
    let (mut service, archive) = with_backup(&dir).await;
    let data = service.data_dir().to_owned();
    fs::create_dir_all(data.join("thumbnails")).expect("the directory can be created");
    let key = dir.path().join("key");
    fs::copy(data.join("identity.age"), &key).expect("the file can be copied");
    for (name, arguments) in
        [("thumbnails", &["-t", "tmpfs", "tmpfs"][..]), ("identity.age", &["--bind", text(&key)])]
    {
        service.start().await;
        let _ledger = accept(&service, ids(name.split_once('.').map_or(name, |(name, _)| name), 1)).await;
        stop(&mut service).await;
        let Some(mount) = Mount::new(arguments, &data.join(name)) else { return };
        let refused = run(&service, &["restore", text(&archive), "--replace"], 1).await;
        assert!(refused.contains("is a mount point") && refused.contains(name), "{refused}");
        assert!(!names(&data).iter().any(|name| name.contains("restore")), "{:?}", names(&data));
        service.start().await;
        let event = format!("/api/v1/events/{}-0", name.split_once('.').map_or(name, |(name, _)| name));
        assert_eq!(service.get(&event).await.status, 200);
        stop(&mut service).await;
        drop(mount);
    }
    let _output = run(&service, &["restore", text(&archive), "--replace"], 0).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_used_stops_the_start_with_a_cure() {
    let dir = directory();
    let (mut service, archive) = with_backup(&dir).await;
    let record = service.data_dir().join("restore.json");
    let staged = service.data_dir().join("api-token.unfinished-restore");
    for content in ["", "{}", "x", &archive.display().to_string()] {
        fs::write(&record, content).expect("the file can be written");
        let log =
            assert_exits(&mut service, 78, &["restore.json", "remove it and run the restore again"]).await;
        assert!(log.contains("No file of the backup is waiting"), "{log}");
    }
    // The record of a restore that was killed while it wrote it.
    let half = service.data_dir().join("restore.json.tmp");
    for path in [&staged, &half] {
        fs::write(path, "x").expect("the file can be written");
    }
    let refused = run(&service, &["token"], 1).await;
    assert!(refused.contains("not in their places yet") && refused.contains(text(&staged)), "{refused}");
    fs::remove_file(&record).expect("the file can be removed");
    let _output = run(&service, &["token"], 0).await;
    assert!(!staged.exists() && !half.exists());
}

#[tokio::test]
async fn a_restore_that_is_killed_while_it_reads_the_archive_leaves_nothing() {
    let dir = directory();
    let (mut service, archive) = with_backup(&dir).await;
    let before = names(service.data_dir());
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_liveobject"))
        .args(["restore", text(&pipe), "--replace"])
        .env("LIVEOBJECT__DATA_DIR", service.data_dir())
        .spawn()
        .expect("the command starts");
    let bytes = fs::read(&archive).expect("the archive");
    // The end, which is missing, has less than 64 KiB: the restore waits for it.
    let (half, written) = (bytes.len() - 2048, pipe.clone());
    let writer = spawn_blocking(move || {
        let mut pipe = fs::File::options().write(true).open(written).expect("the pipe can be opened");
        pipe.write_all(&bytes[..half]).expect("the pipe can be written");
        pipe
    });
    let pipe = writer.await.expect("no panic");
    let has_staged = async || names(service.data_dir()).iter().any(|name| name.ends_with(UNFINISHED_RESTORE));
    wait_until("files are written", TIMEOUT, has_staged).await;
    let _ended = (child.kill(), child.wait());
    drop(pipe);
    service.start().await;
    stop(&mut service).await;
    let left: Vec<_> = names(service.data_dir()).into_iter().filter(|name| !before.contains(name)).collect();
    assert!(left.iter().all(|name| !name.contains("restore")), "{left:?}");
    assert_eq!(fs::metadata(service.data_dir().join("liveobject.db")).expect("a file").mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_archive_that_no_backup_wrote_is_refused_with_its_fault() {
    let dir = directory();
    let (mut service, archive) = with_backup(&dir).await;
    let entries = entries(&archive);
    let bad = dir.path().join("bad.tar");
    let manifest = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = serde_json::from_slice(&entries[0].1).expect("JSON");
        change(&mut manifest);
        replaced(&entries, "manifest.json", manifest.to_string().as_bytes())
    };
    let mut twice = entries.clone();
    twice
        .push(("api-token".to_owned(), entries.iter().find(|it| it.0 == "api-token").expect("it").1.clone()));
    let mut picture = entries.clone();
    picture.extend([("thumbnails/0/1".to_owned(), vec![1]), ("thumbnails/0/1".to_owned(), vec![2])]);
    let garbage: &[u8] = &[0xff, 0xfe, 1, 2];
    for (entries, part) in [
        (replaced(&entries, "api-token", b"short"), "api-token has 5 characters"),
        (replaced(&entries, "api-token", garbage), "api-token is not UTF-8"),
        (replaced(&entries, "identity.age", b"hunter2\n"), "identity.age cannot be used"),
        (replaced(&entries, "thumbnail-key", b"x"), "thumbnail-key has 1 bytes"),
        (replaced(&entries, "liveobject.db", b""), "its database cannot be used"),
        (replaced(&entries, "liveobject.db", &[7; 8192]), "its database cannot be used"),
        (manifest(&|it| it["last_seq"] = json!(i64::MAX)), "impossible position"),
        (manifest(&|it| it["last_seq"] = json!(-1)), "impossible position"),
        (
            manifest(&|it| {
                it["format"] = json!(2);
                it["version"] = json!("9\nliveobject: \u{1b}[31mall is well");
            }),
            "\\u{a}liveobject",
        ),
        (twice, "api-token twice"),
        (picture, "thumbnails/0/1 twice"),
    ] {
        write_archive(&bad, &entries);
        let refused = run(&service, &["restore", text(&bad), "--replace"], 1).await;
        assert!(refused.contains(part), "{part}: {refused}");
        assert!(!refused.contains("unfinished") && !refused.contains("hunter2"), "{refused}");
        assert!(!names(service.data_dir()).iter().any(|name| name.contains("restore")));
    }
    write_archive(&bad, &manifest(&|it| it["created_at"] = json!("0001-01-01T00:00:00Z")));
    let _output = run(&service, &["restore", text(&bad), "--replace"], 0).await;
    let packed = dir.path().join("packed.tar");
    fs::write(&packed, [&[0x1f, 0x8b, 8, 0], &[0; 2000][..]].concat()).expect("the file can be written");
    let refused = run(&service, &["restore", text(&packed), "--replace"], 1).await;
    assert!(refused.contains("it is compressed"), "{refused}");
    service.start().await;
    let event = json!({ "event_id": "next", "camera_id": "door", "description": "x" });
    let next = service.submit(&event, TIMEOUT).await;
    assert!(next["seq"].as_i64().is_some_and(|seq| seq > 1_000_000), "{next}");
    stop(&mut service).await;
    // What cannot be restored is not backed up.
    fs::write(service.data_dir().join("identity.age"), "hunter2\n").expect("the file can be written");
    let other = dir.path().join("other.tar");
    let refused = run(&service, &["backup", text(&other)], 1).await;
    assert!(refused.contains("--without-secrets") && !other.exists(), "{refused}");
    let _output = run(&service, &["backup", text(&other), "--without-secrets"], 0).await;
}

#[tokio::test]
async fn a_user_without_access_learns_that_the_data_cannot_be_read() {
    let dir = directory();
    let (service, _archive) = with_backup(&dir).await;
    let binary = dir.path().join("liveobject");
    fs::copy(env!("CARGO_BIN_EXE_liveobject"), &binary).expect("the program can be copied");
    fs::create_dir(dir.path().join("mine")).expect("the directory can be created");
    if chown(dir.path().join("mine"), Some(NOBODY), Some(NOBODY)).is_err() {
        println!("skipped: only root can give files away");
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    command.args(["backup", "mine/a.tar", "--data-dir", text(service.data_dir())]).current_dir(dir.path());
    let Ok(output) = command.output() else {
        println!("skipped: setpriv is missing");
        return;
    };
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("Permission denied") && message.contains("user of the service"), "{message}");
    assert!(!message.contains("is missing"), "{message}");
    assert_eq!(names(&dir.path().join("mine")), Vec::<String>::new());
}
