//! The running process: starts the service and the HTTP server, and stops both on a signal.

mod active;
mod base;
mod standby;

use std::{
    fs,
    io::{self, ErrorKind, IsTerminal as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use actix_web::dev::ServerHandle;
use liveobject_actors::{Node, Service, StartError, domain::causes::with_causes};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{
    active::{Active, ActiveEnd},
    base::{Base, Standby},
    standby::StandbyEnd,
};
use crate::{
    addresses::sign_in_command,
    backup::{self, RestoreOptions, Restores},
    cli::Exit,
    config::Config,
    http::tls::TlsError,
    mounts,
    reload::Reload,
    service_manager::ServiceManager,
    sessions::SessionsError,
    token::{self, AdminToken, TokenError},
};

/// How long the HTTP server may take to stop after a crash. The process exits within five seconds, even if
/// the server is still busy.
const CRASH_STOP_LIMIT: Duration = Duration::from_secs(2);

/// How long after a crash, a failure or an orderly stop the process ends, even if a thread hangs, for example while it
/// reads or syncs a file on a disk that does not respond.
const EXIT_LIMIT: Duration = Duration::from_secs(4);

/// Why the service could not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The disk for the data is not mounted.
    #[error(
        "nothing is mounted at {}, which /etc/fstab names, so {} is not there. Nothing was created. Start the service \
         after the disk is mounted, with RequiresMountsFor= in its unit",
        point.display(), place.display()
    )]
    NotMounted {
        /// The mount point.
        point: PathBuf,
        /// What is not there.
        place: PathBuf,
    },
    /// The API token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no key for the page's sessions.
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    /// The actors did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificate was valid when the configuration was read, and no longer is.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is in use.
    #[error(
        "cannot listen on {address} ([http] {key}): the port is already in use. Stop the other program, or \
         choose another port in [http] {key}"
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
        /// The key of the configuration.
        key: &'static str,
    },
    /// The server cannot listen on the address, for another reason.
    #[error("cannot listen on {address} ([http] {key})")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The key of the configuration.
        key: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The HTTP server ended unexpectedly.
    #[error("the HTTP server failed")]
    Server(#[source] io::Error),
    /// The signal handlers cannot be installed.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

/// The process: the service with its API or, while another node owns the event log, the server of a standby.
#[expect(missing_debug_implementations, reason = "the server does not implement Debug")]
pub struct App {
    base: Base,
    node: Option<Node>,
    phase: Phase,
    /// Called after a crash; ensures that the process ends.
    on_crash: fn(),
}

/// What the process does.
enum Phase {
    Active(Box<Active>),
    Standby(Box<Standby>),
}

impl App {
    /// Starts the actors and the HTTP server, within an actix system. When this returns, events are accepted, unless
    /// another node owns the event log.
    pub async fn start(config: &Config) -> Result<Self, AppError> {
        let is_first_start =
            config.secrets.api_token.is_none() && !config.data_dir.join(token::FILE).exists();
        let mut base = Base::prepare(config).await?;
        let (node, phase) = if base.is_node {
            let mut node = Node::join(base.options.clone()).await?;
            match Box::pin(Phase::of_node(&mut base, &mut node)).await {
                Ok(phase) => (Some(node), phase),
                Err(error) => {
                    node.leave().await;
                    return Err(error);
                }
            }
        } else {
            let service = Service::start(base.options.clone()).await?;
            // The server takes the listeners.
            base.announce();
            let api = base.serve(&service, None)?;
            (None, Phase::Active(Box::new(Active { service, api, term: None })))
        };
        if base.is_node {
            base.announce();
        }
        // The app of Home Assistant has its page in the sidebar.
        if is_first_start && config.home_assistant.app_dir.is_none() {
            let command = sign_in_command();
            tracing::info!("nobody has signed in to the page yet; for a link, run: {command}");
        }
        Ok(Self { base, node, phase, on_crash: || exit_soon(Exit::Crashed) })
    }

    /// Returns the URL of the API as clients see it, without a trailing `/`.
    pub fn public_url(&self) -> &str {
        &self.base.options.public_url
    }

    /// Returns the admin token.
    pub fn token(&self) -> &AdminToken {
        &self.base.token
    }

    /// Returns the service; `None` while another node owns the event log.
    pub fn service(&self) -> Option<&Service> {
        match &self.phase {
            Phase::Active(active) => Some(&active.service),
            Phase::Standby(_) => None,
        }
    }

    /// Returns links that open the page and sign in, once and within ten minutes, and whether they work only on this
    /// machine; none while another node owns the event log. Print them to a terminal, never to a log.
    pub fn sign_in_links(&self) -> Option<(Vec<String>, bool)> {
        match &self.phase {
            Phase::Active(active) => Some(active.api.state.new_sign_in_links()),
            Phase::Standby(_) => None,
        }
    }

    /// Runs until a signal arrives or something fails, and then shuts down in order. A second signal ends the
    /// process immediately. Reports to the service manager.
    pub async fn run_until_stopped(
        self,
        mut signals: Signals,
        manager: &ServiceManager,
        mut reload: Reload,
    ) -> Result<Exit, AppError> {
        let (certificates, token) = (self.base.certificates.clone(), self.base.token.clone());
        let stop = async move {
            loop {
                match signals.next().await {
                    Received::Stop(signal) => {
                        tracing::info!(signal, "stopping");
                        return signals;
                    }
                    Received::Reload => {
                        manager.reloading();
                        tokio::select! {
                            () = reload.reload(certificates.as_ref(), &token) => manager.ready(),
                            signal = signals.stop() => {
                                tracing::info!(signal, "stopping");
                                return signals;
                            }
                        }
                    }
                }
            }
        };
        Box::pin(self.run(stop, manager)).await
    }

    /// Runs until `stop` completes or something fails, and then shuts down in order. A signal during the
    /// shutdown, from the [`Signals`] that `stop` returned, ends the process immediately.
    pub async fn run_until(self, stop: impl Future<Output = Signals>) -> Result<Exit, AppError> {
        self.run(stop, &ServiceManager::default()).await
    }

    async fn run(
        self,
        stop: impl Future<Output = Signals>,
        manager: &ServiceManager,
    ) -> Result<Exit, AppError> {
        let Self { mut base, mut node, phase, on_crash } = self;
        manager.ready();
        let stop = std::pin::pin!(stop);
        let ended = Box::pin(run_phases(&mut base, &mut node, phase, stop, manager, on_crash)).await;
        if let Some(node) = node
            && !matches!(ended, Ok(Exit::Crashed))
        {
            node.leave().await;
        }
        ended
    }
}

async fn run_phases(
    base: &mut Base,
    node: &mut Option<Node>,
    mut phase: Phase,
    mut stop: Pin<&mut impl Future<Output = Signals>>,
    manager: &ServiceManager,
    on_crash: fn(),
) -> Result<Exit, AppError> {
    loop {
        phase = match (phase, node.as_mut()) {
            (Phase::Active(active), mut node) => {
                let run = active.run(base, node.as_deref_mut(), stop.as_mut(), manager, on_crash);
                match (Box::pin(run).await?, node) {
                    (ActiveEnd::Exit(exit), _) => return Ok(exit),
                    (ActiveEnd::Lost(Some(_)), _) | (ActiveEnd::Lost(None), None) => return Ok(Exit::Ok),
                    (ActiveEnd::Lost(None), Some(node)) => {
                        Phase::Standby(Box::new(base.serve_standby(node).await?))
                    }
                }
            }
            (Phase::Standby(_), None) => unreachable!("only a node can be a standby"),
            (Phase::Standby(standby), Some(node)) => {
                let run = standby::run(base, node, *standby, stop.as_mut(), manager, on_crash);
                match Box::pin(run).await? {
                    StandbyEnd::Exit(exit) => return Ok(exit),
                    StandbyEnd::Active(active) => Phase::Active(active),
                }
            }
        };
    }
}

impl Phase {
    /// Starts the service, if this node becomes active soon, or the server of a standby.
    async fn of_node(base: &mut Base, node: &mut Node) -> Result<Self, AppError> {
        match Box::pin(node.start_unless_standby()).await? {
            Some((service, term)) => {
                let api = base.serve(&service, Some(node.view()))?;
                Ok(Self::Active(Box::new(Active { service, api, term: Some(term) })))
            }
            None => Ok(Self::Standby(Box::new(base.serve_standby(node).await?))),
        }
    }
}

/// Fails if anything would be created where a disk will be mounted later. Call it before data is created.
pub fn require_mounted(config: &Config) -> Result<(), AppError> {
    // An invalid URL of the database is reported when it is opened.
    let Ok(created) = backup::Locations::created(config) else { return Ok(()) };
    find_unmounted(created, mounts::missing).map_or(Ok(()), Err)
}

fn find_unmounted(created: Vec<PathBuf>, missing: impl Fn(&Path) -> Option<PathBuf>) -> Option<AppError> {
    // A mount point is a directory that exists, and is empty.
    let is_there = |place: &Path| match fs::read_dir(place) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => place.exists(),
    };
    let absent = created.into_iter().filter(|place| !is_there(place));
    absent.into_iter().find_map(|place| missing(&place).map(|point| AppError::NotMounted { point, place }))
}

/// Returns the receiver of backups. The service must hold the lock of the data directory.
fn restores(config: &Config) -> Option<Restores> {
    let options = RestoreOptions::replacing(config);
    Some(Restores::load(backup::Locations::of(config).ok()?, options, config.http.max_restore_mib))
}

fn listen(addresses: &[SocketAddr], key: &'static str) -> Result<Vec<TcpListener>, AppError> {
    let bind = |&address: &SocketAddr| {
        let failed = |source: io::Error| match source.kind() {
            ErrorKind::AddrInUse => AppError::AddressInUse { address, key },
            _ => AppError::Bind { address, key, source },
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    };
    addresses.iter().map(bind).collect()
}

/// Ends the process without an orderly shutdown: after a crash, no state in memory is trusted, and the next
/// start recovers.
async fn crashed(actor: &'static str, server: &ServerHandle) -> Exit {
    tracing::error!(actor, "an actor crashed; exiting, so that the service manager restarts the service");
    if tokio::time::timeout(CRASH_STOP_LIMIT, server.stop(false)).await.is_err() {
        tracing::warn!("the HTTP server did not stop in time");
    }
    Exit::Crashed
}

/// Ends the process after a few seconds, from a thread of its own: the end of `main` would wait for threads that hang.
pub fn exit_soon(exit: Exit) {
    let code = i32::from(exit as u8);
    let exit = move || {
        std::thread::sleep(EXIT_LIMIT);
        std::process::exit(code);
    };
    if let Err(error) = std::thread::Builder::new().name("exit".to_owned()).spawn(exit) {
        tracing::error!(error = %with_causes(&error), "cannot start a thread; exiting immediately");
        std::process::exit(code);
    }
}

/// A signal, by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The process must stop. Contains the name of the signal.
    Stop(&'static str),
    /// The configuration and the certificates must be read again.
    Reload,
}

/// Receives SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether the process was started on a terminal.
    has_terminal: bool,
    /// Whether a reload was requested while only signals that stop the process were awaited.
    must_reload: bool,
}

impl Signals {
    /// Installs the handlers. From then on, these signals no longer end the process.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            has_terminal: is_on_terminal(),
            must_reload: false,
        })
    }

    /// Waits for the next signal. A reload that was requested during [`stop`](Self::stop) comes first.
    pub async fn next(&mut self) -> Received {
        if std::mem::take(&mut self.must_reload) { Received::Reload } else { self.receive().await }
    }

    /// Waits for the next signal. SIGHUP has two meanings: the terminal was closed, which ends programs, or
    /// an administrator requests a reload.
    async fn receive(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Received::Stop("SIGINT"),
            // A terminal that was closed is no longer one.
            _ = self.hangup.recv() => {
                if self.has_terminal && !is_on_terminal() { Received::Stop("SIGHUP") } else { Received::Reload }
            }
        }
    }

    /// Waits for the next signal that stops the process, and returns its name. Remembers a request for a reload.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            match self.receive().await {
                Received::Stop(name) => return name,
                Received::Reload => self.must_reload = true,
            }
        }
    }
}

/// Returns whether the input or the output is a terminal.
fn is_on_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path) -> Config {
        let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
        config.http.bind = vec![([127, 0, 0, 1], 0).into()];
        config
    }

    #[test]
    fn nothing_is_created_on_a_disk_that_is_not_mounted_whatever_else_exists() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        for (name, file) in [
            ("the lock", "liveobject.lock"),
            ("the database", "liveobject.db"),
            ("the identity", "identity.age"),
            ("the token", "api-token"),
            ("the key of the links", "thumbnail-key"),
            ("the pictures", "thumbnails"),
        ] {
            let _none_yet = fs::remove_dir_all(&data);
            fs::create_dir_all(data.join("thumbnails/00")).unwrap();
            for other in ["liveobject.lock", "liveobject.db", "identity.age", "api-token", "thumbnail-key"] {
                fs::write(data.join(other), "").unwrap();
            }
            let created = backup::Locations::created(&config(&data)).unwrap();
            let missing = |place: &Path| place.ends_with(file).then(|| place.to_owned());
            assert!(find_unmounted(created.clone(), missing).is_none(), "{name} is there");
            let place = data.join(file);
            if place.is_dir() {
                fs::remove_dir(place.join("00")).unwrap();
            } else {
                fs::remove_file(&place).unwrap();
            }
            assert!(
                matches!(
                    find_unmounted(created.clone(), missing),
                    Some(AppError::NotMounted { point, .. }) if point == place
                ),
                "{name}"
            );
        }
    }

    #[actix_rt::test(system = "liveobject_actors::System")]
    async fn a_crashed_actor_ends_the_process_with_exit_code_70_within_5_s() {
        let dir = tempfile::tempdir().unwrap();
        let mut app = App::start(&config(dir.path())).await.unwrap();
        // Without this, the process of the test would end.
        app.on_crash = || {};
        app.service().unwrap().crash_an_actor().await;
        let ended =
            tokio::time::timeout(Duration::from_secs(5), Box::pin(app.run_until(std::future::pending())))
                .await;
        assert_eq!(ended.unwrap().unwrap(), Exit::Crashed);
    }

    /// Set in the process that [`a_thread_that_hangs_does_not_delay_the_exit_after_a_crash`] starts.
    const CHILD: &str = "LIVEOBJECT_TEST_CRASH_WITH_A_HUNG_THREAD";
    const HUNG_FOR: Duration = Duration::from_mins(1);

    #[test]
    fn a_thread_that_hangs_does_not_delay_the_exit_after_a_crash() {
        if std::env::var_os(CHILD).is_some() {
            return crash_with_a_hung_thread();
        }
        let name = "app::tests::a_thread_that_hangs_does_not_delay_the_exit_after_a_crash";
        let started = tokio::time::Instant::now();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert_eq!(child.code(), Some(70), "{child:?}");
        assert!(started.elapsed() < HUNG_FOR / 2, "{:?}", started.elapsed());
    }

    fn crash_with_a_hung_thread() {
        liveobject_actors::System::new().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let app = App::start(&config(dir.path())).await.unwrap();
            // The end of the runtime waits for this thread, as for one that syncs a file.
            let _hung = tokio::task::spawn_blocking(|| std::thread::sleep(HUNG_FOR));
            app.service().unwrap().crash_an_actor().await;
            Box::pin(app.run_until(std::future::pending())).await.unwrap()
        });
    }

    #[actix_rt::test(system = "liveobject_actors::System")]
    async fn the_service_shuts_down_in_order_when_it_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::start(&config(dir.path())).await.unwrap();
        let ended = Box::pin(app.run_until(async { Signals::new().unwrap() })).await;
        assert_eq!(ended.unwrap(), Exit::Ok);
    }

    #[actix_rt::test(system = "liveobject_actors::System")]
    async fn the_error_about_a_port_in_use_names_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config(dir.path());
        config.http.bind = vec![taken.local_addr().unwrap()];
        let error = App::start(&config).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("already in use. Stop the other program"), "{error}");
    }
}
