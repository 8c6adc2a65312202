//! A real PostgreSQL server, without its package's service. It refuses to run as root, so it then runs as the user
//! `postgres`, whom the package creates.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::pki::Identity;

/// The port is only a part of the name of the socket, unless the server also listens on loopback.
const PORT: u16 = 5432;
const START: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

/// Runs a copy of the template in a new directory, and removes it when this process has ended, however it ends: its
/// signal is SIGTERM. After SIGUSR1, it stops the server without a checkpoint (`pg_ctl -m immediate`) and starts it
/// again. Instead of the template, there may be the address of a server that it then follows. Arguments: the directory
/// with the programs, the template, then options of the server.
const RUN: &str = r#"
set -u
programs=$1 template=$2
shift 2
dir=$(mktemp -d /tmp/liveobject-postgres.XXXXXX) || exit 1
server= again=
trap 'kill -QUIT $server 2>/dev/null; kill -CONT $server 2>/dev/null; wait; rm -rf "$dir"; exit 0' TERM INT HUP
trap 'again=yes; kill -QUIT $server 2>/dev/null' USR1
case $template in
host=*) "$programs/pg_basebackup" -D "$dir/data" -R -c fast --no-sync -d "$template" >"$dir/log" 2>&1 || exit 1 ;;
*) cp -a "$template" "$dir/data" || exit 1 ;;
esac
start() {
    "$programs/postgres" -D "$dir/data" -k "$dir" "$@" >>"$dir/log" 2>&1 &
    server=$!
}
start "$@"
echo "$dir"
while :; do
    while kill -0 $server 2>/dev/null; do wait $server; done
    [ -n "$again" ] || break
    again=
    start "$@"
done
rm -rf "$dir"
"#;

/// Creates the template. Arguments: the directory with the programs, the template.
const CREATE: &str = r#"
set -eu
new=$(mktemp -d /tmp/liveobject-postgres-new.XXXXXX)
"$1/initdb" -D "$new/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$new/log" 2>&1 || {
    cat "$new/log" >&2
    exit 1
}
# Another process may have been faster.
mv -T "$new/data" "$2" 2>/dev/null || true
rm -rf "$new"
"#;

/// How a server differs from the default.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Settings, such as `("fsync", "on")`.
    pub settings: Vec<(String, String)>,
    /// Whether it listens on this loopback port, too.
    pub port: Option<u16>,
    /// The lines of `pg_hba.conf`, instead of permitting everything.
    pub access: Option<String>,
    /// The address of the server that it follows as a standby, see [`Postgres::start_standby`].
    pub standby_of: Option<String>,
}

/// If this variable is `postgres`, tests use a PostgreSQL server.
const ENGINE: &str = "LIVEOBJECT_TEST_DATABASE";

/// Returns the URL of the database that belongs to a data directory if the tests use a PostgreSQL server, because
/// `LIVEOBJECT_TEST_DATABASE` is `postgres`; `None` if they use files.
pub fn served_database(data_dir: &Path) -> Option<String> {
    static DATABASES: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    if std::env::var(ENGINE).is_ok_and(|engine| engine == "postgres") {
        let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let server = Postgres::shared();
            server.url(&server.create_database())
        };
        return Some(databases.entry(data_dir.to_owned()).or_insert_with(new).clone());
    }
    None
}

/// A running server. It ends with this value, or with the process.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    programs: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// The process that runs [`RUN`].
    script: u32,
    /// Ends the thread that waits for the server.
    _stop: mpsc::Sender<()>,
}

impl Postgres {
    /// Returns the server that all tests of this process share. It does not sync.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&PostgresOptions::default()))
    }

    /// Starts a server.
    ///
    /// # Panics
    ///
    /// Panics if PostgreSQL is not installed, or if the server does not start within a minute.
    pub fn start(options: &PostgresOptions) -> Self {
        let programs = programs();
        let standby_of = options.standby_of.as_ref().map(PathBuf::from);
        let template = standby_of.unwrap_or_else(|| template(&programs));
        let mut settings = vec![("fsync", "off"), ("shared_buffers", "16MB"), ("max_connections", "40")];
        settings.push(("listen_addresses", if options.port.is_some() { "127.0.0.1" } else { "" }));
        let given = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> =
            settings.into_iter().chain(given).map(|(name, value)| format!("--{name}={value}")).collect();
        let port = options.port.unwrap_or(PORT);
        let (stop, stopped) = mpsc::channel();
        let (started, dir) = mpsc::channel();
        let program = programs.clone();
        // The server gets its signal when the thread that started it ends, so it has a thread of its own.
        thread::spawn(move || {
            let mut script = as_postgres();
            script.args(["--pdeathsig", "TERM", "sh", "-c", RUN, "sh"]).arg(&program).arg(&template);
            script.arg(format!("--port={port}")).args(&settings);
            let mut child = spawn(&mut script);
            let pid = child.id();
            let mut line = String::new();
            let out = child.stdout.take().expect("it is a pipe");
            let _incomplete = BufReader::new(out).read_line(&mut line);
            let _gone = started.send((PathBuf::from(line.trim()), pid));
            let _stopped = stopped.recv();
            end(&mut child);
        });
        let (dir, script) = dir.recv_timeout(START).expect("the server's directory is reported");
        assert!(dir.is_absolute(), "the server did not start");
        let server = Self { dir, programs, port, databases: AtomicU32::new(0), script, _stop: stop };
        server.wait_until_ready();
        if let Some(access) = &options.access {
            let file = server.dir.join("data/pg_hba.conf");
            fs::write(file, format!("local all,replication postgres trust\n{access}\n"))
                .expect("pg_hba.conf can be written");
            server.execute("postgres", "SELECT pg_reload_conf()");
        }
        server
    }

    /// Serves TLS from now on, with this certificate and key, to clients that ask for it.
    ///
    /// # Panics
    ///
    /// Panics if the server does not accept the certificate.
    pub fn serve_tls(&self, identity: &Identity) {
        for (file, text) in [("server.crt", &identity.certificate), ("server.key", &identity.key)] {
            // The server's user must own the key. Its working directory is that of the data.
            let lines = text.trim().lines().map(|line| format!("'{line}'")).collect::<Vec<_>>().join(", ");
            let program = format!("umask 077; cat > {file}");
            self.execute("postgres", &format!("COPY (SELECT unnest(ARRAY[{lines}])) TO PROGRAM '{program}'"));
        }
        self.execute("postgres", "ALTER SYSTEM SET ssl = on");
        self.execute("postgres", "SELECT pg_reload_conf()");
        let serves = || self.execute("postgres", "SHOW ssl") == "on";
        let mut attempts = START.as_millis() / POLL.as_millis();
        while !serves() {
            attempts -= 1;
            assert!(attempts > 0, "the server does not serve TLS");
            thread::sleep(POLL);
        }
    }

    /// Starts a standby of this server, with these options. Commits do not wait for it.
    ///
    /// # Panics
    ///
    /// Panics if it does not follow within a minute.
    #[must_use]
    pub fn start_standby(&self, options: &PostgresOptions) -> Self {
        let address = format!("host={} port={} user=postgres", self.dir.display(), self.port);
        let standby = Self::start(&PostgresOptions { standby_of: Some(address), ..options.clone() });
        let follows = || {
            let states = "SELECT state FROM pg_stat_replication WHERE state = 'streaming'";
            !self.execute("postgres", states).is_empty()
        };
        let mut attempts = START.as_millis() / POLL.as_millis();
        while !follows() {
            attempts -= 1;
            assert!(attempts > 0, "the standby does not follow");
            thread::sleep(POLL);
        }
        standby
    }

    /// From now on, a commit waits until it is on a standby, too.
    pub fn wait_for_standby(&self) {
        self.set_synchronous_standbys("*");
    }

    /// Makes a standby a server of its own.
    ///
    /// # Panics
    ///
    /// Panics if it is not one after 30 s.
    pub fn promote(&self) {
        let promoted = self.execute("postgres", "SELECT pg_promote(true, 30)");
        assert_eq!(promoted, "t", "the standby was not promoted");
        self.set_synchronous_standbys("");
    }

    fn set_synchronous_standbys(&self, names: &str) {
        self.execute("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"));
        self.execute("postgres", "SELECT pg_reload_conf()");
    }

    fn wait_until_ready(&self) {
        let is_ready = || {
            let mut ready = Command::new(self.programs.join("pg_isready"));
            let ready = ready.args(["-q", "-h"]).arg(&self.dir).args(["-p", &self.port.to_string()]).status();
            ready.is_ok_and(|status| status.success())
        };
        // Each attempt takes longer than the pause.
        let mut attempts = START.as_millis() / POLL.as_millis();
        while !is_ready() {
            let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            attempts -= 1;
            assert!(attempts > 0 && self.dir.exists(), "the server did not start: {}", log());
            thread::sleep(POLL);
        }
    }

    /// Stops the server at once, without a checkpoint, like a crash, and starts it again.
    ///
    /// # Panics
    ///
    /// Panics if it is not ready within a minute.
    pub fn crash(&self) {
        let before = self.server_pid();
        signal(self.script, Signal::USR1);
        let restarted = || self.server_pid().is_some_and(|pid| Some(pid) != before);
        let mut attempts = START.as_millis() / POLL.as_millis();
        while !restarted() {
            attempts -= 1;
            assert!(attempts > 0, "the server was not started again");
            thread::sleep(POLL);
        }
        self.wait_until_ready();
    }

    /// Ends the server at once, before this value is dropped.
    ///
    /// # Panics
    ///
    /// Panics if it does not end within a minute.
    pub fn end(&self) {
        signal(self.script, Signal::TERM);
        let mut attempts = START.as_millis() / POLL.as_millis();
        while self.dir.exists() {
            attempts -= 1;
            assert!(attempts > 0, "the server did not end");
            thread::sleep(POLL);
        }
    }

    /// Suspends all processes of the server (SIGSTOP) until [`Postgres::thaw`]: connections stay open, and nothing
    /// responds.
    pub fn freeze(&self) {
        self.processes().for_each(|pid| signal(pid, Signal::STOP));
    }

    /// Resumes all processes of the server.
    pub fn thaw(&self) {
        self.processes().for_each(|pid| signal(pid, Signal::CONT));
    }

    /// Returns the pid of the server, unless it is being started.
    fn server_pid(&self) -> Option<u32> {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }

    /// Returns the server's process, then those that it has started.
    pub fn processes(&self) -> impl Iterator<Item = u32> + use<> {
        let server = self.server_pid();
        server.into_iter().chain(server.into_iter().flat_map(|server| {
            let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
            let children = children.unwrap_or_default();
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        }))
    }

    /// Returns the directory of the server's socket, with `data` and `log` in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates an empty database, and returns its name. Its texts are not sorted by their bytes.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(
            "postgres",
            &format!(
                "CREATE DATABASE {name} ENCODING UTF8 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0 \
                 STRATEGY file_copy"
            ),
        );
        name
    }

    /// Returns the URL of a database, for the superuser.
    pub fn url(&self, database: &str) -> String {
        let dir = self.dir.to_str().expect("the path is ASCII").replace('/', "%2F");
        format!("postgres://postgres@{dir}:{}/{database}", self.port)
    }

    /// Returns the URL of a database over TCP, for the superuser. The server must listen on a port.
    pub fn url_over_tcp(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Executes SQL in a database, as the superuser. Returns the output without headings.
    ///
    /// # Panics
    ///
    /// Panics if a statement fails.
    pub fn execute(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            sql,
        ]);
        psql.arg("-h").arg(&self.dir).args(["-p", &self.port.to_string()]);
        let output = psql.output().expect("psql can be started");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// Ends the script, which ends the server.
fn end(child: &mut Child) {
    signal(child.id(), Signal::TERM);
    let _status = child.wait();
}

/// Sends a signal, unless the process has ended.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ended = kill_process(pid, signal);
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("setpriv can be started (Debian package util-linux)")
}

/// Returns a command that runs its arguments as a user who may run the server.
fn as_postgres() -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    // The working directory may not be accessible to that user.
    command.current_dir("/tmp");
    command
}

/// Returns the directory with the server's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let mut found: Vec<_> = debian.filter(|dir| dir.join("initdb").exists()).collect();
    found.sort();
    let found = found.pop().or_else(|| in_path.into_iter().find(|dir| dir.join("initdb").exists()));
    found.expect("PostgreSQL is installed (Debian package postgresql)")
}

/// Returns a directory with an empty cluster, which is created once per user and version.
fn template(programs: &Path) -> PathBuf {
    let version = Command::new(programs.join("postgres")).arg("--version").output();
    let version = version.expect("postgres can be started").stdout;
    let version: String =
        String::from_utf8_lossy(&version).chars().filter(char::is_ascii_alphanumeric).collect();
    let user = rustix::process::geteuid().as_raw();
    let template = PathBuf::from(format!("/tmp/liveobject-template-{user}-{version}"));
    if !template.exists() {
        let mut create = as_postgres();
        create.args([OsStr::new("sh"), OsStr::new("-c"), OsStr::new(CREATE), OsStr::new("sh")]);
        let output = create.arg(programs).arg(&template).output().expect("setpriv can be started");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && template.exists(), "initdb failed: {text}");
    }
    template
}
