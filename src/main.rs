//! The entry point: parses the command line, runs the command, and maps its outcome to an exit code.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use liveobject::{
    addresses,
    app::{self, App, AppError, Signals},
    backup, check,
    cli::{AppCommand, Cli, Command, ConfigCommand, Exit, KeyCommand},
    commands::{self, Archive},
    config::{self, Config, ConfigError, Options},
    health, home_assistant, lasting, manual,
    moving::{self, InvalidTarget},
    output, owner,
    reload::Reload,
    replay,
    service_manager::ServiceManager,
    setup, sign_in,
    telemetry::{self, journal},
    terminal,
};
use liveobject_actors::{System, domain::causes::with_causes};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = cli.config_options();
    match cli.command {
        Command::Demo { duration, all } => System::new().block_on(demo(duration, all)),
        Command::Completions { shell } => finish(manual::completions(shell)),
        Command::Man { out } => finish(manual::man(out.as_deref())),
        Command::Serve { .. } => {
            // The process can stop being root only before it has other threads.
            let app_dir = Config::app_dir(&options, config::environment());
            if let Some(Err(error)) = app_dir.map(|app_dir| home_assistant::become_user(&app_dir)) {
                return fail(&error.into(), Exit::Failed);
            }
            System::new().block_on(Box::pin(async {
                let exit = exit_of(serve(options).await);
                // A thread may hang, for example while it reads a file on a drive that does not respond.
                app::exit_soon(exit);
                exit.into()
            }))
        }
        command => {
            let config = match Config::load(&options, config::environment()) {
                Ok(config) => config,
                Err(error) => return fail(&error.into(), Exit::Usage),
            };
            // `health` needs only the address of the service, and must be quick.
            if let Command::Health { json } = command {
                return finish(health::health(&config, json));
            }
            // An archive belongs to the user who runs the command.
            let archive = match Archive::open(&command, &config) {
                Ok(archive) => archive,
                Err(error) => return fail(&error, Exit::Failed),
            };
            // A command must leave no files that the service cannot use, and must not do for the owner of the data what
            // only root may do. No other thread runs yet, except for the one that names the archive.
            if let Err(error) = owner::act_as_owner(&config.data_dir) {
                return fail(&error.into(), Exit::Failed);
            }
            finish(System::new().block_on(Box::pin(run(command, config, archive))))
        }
    }
}

fn finish(outcome: anyhow::Result<Exit>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) if output::is_closed_pipe(&error) => Exit::Ok.into(),
        Err(error) if error.is::<InvalidTarget>() => fail(&error, Exit::Usage),
        Err(error) => fail(&error, Exit::Failed),
    }
}

/// Returns the exit code of `serve`, after printing the error.
fn exit_of(outcome: anyhow::Result<Exit>) -> Exit {
    let error = match outcome {
        Ok(exit) => return exit,
        Err(error) if output::is_closed_pipe(&error) => return Exit::Ok,
        Err(error) => error,
    };
    let exit = match error.is::<ConfigError>() {
        true => Exit::Usage,
        false if lasting::is_lasting(&error) => Exit::Lasting,
        false => Exit::Failed,
    };
    print(&error);
    exit
}

/// Runs the service until it is stopped. A signal during the start must not end the process as if it had crashed, and
/// SIGHUP not at all, so the handlers come first.
async fn serve(options: Options) -> anyhow::Result<Exit> {
    let mut signals = Signals::new().map_err(AppError::Signals)?;
    let config = tokio::select! {
        loaded = load(&options) => loaded?,
        _ = signals.stop() => return Ok(Exit::Ok),
    };
    telemetry::init(&config.log)?;
    home_assistant::bring_back(&config)?;
    let served = Box::pin(start_and_run(options, &config, signals)).await;
    // However the service ended.
    let put_away = home_assistant::put_away(&config).await;
    if let (Err(_), Err(error)) = (&served, &put_away) {
        tracing::error!(error = %with_causes(error), "the data could not be put away");
    }
    let exit = served?;
    put_away?;
    Ok(exit)
}

async fn start_and_run(options: Options, config: &Config, mut signals: Signals) -> anyhow::Result<Exit> {
    let (app, manager) = tokio::select! {
        started = Box::pin(start(config)) => started?,
        signal = signals.stop() => {
            tracing::info!(signal, "stopped during the start");
            return Ok(Exit::Ok);
        }
    };
    greet(&app);
    let reload = Reload::new(options, config.clone());
    Ok(Box::pin(app.run_until_stopped(signals, &manager, reload)).await?)
}

async fn load(options: &Options) -> anyhow::Result<Config> {
    let given = options.clone();
    let load = move || Config::load(&given, config::environment());
    // The log is not set up yet.
    let waits = |error: &ConfigError| {
        say(&format!("waiting for files that seem to be incomplete: {error}"), journal::WARNING);
    };
    Ok(config::load_when_complete(load, waits).await??)
}

async fn start(config: &Config) -> anyhow::Result<(App, ServiceManager)> {
    backup::complete(config)?;
    let manager = ServiceManager::from_environment();
    let app = tokio::select! {
        app = Box::pin(prepare_and_start(config)) => app?,
        never = manager.starting() => match never {},
    };
    Ok((app, manager))
}

async fn prepare_and_start(config: &Config) -> anyhow::Result<App> {
    home_assistant::restore_archive(config).await?;
    let restored = config.clone();
    // A stop does not wait for this: the next start continues.
    tokio::task::spawn_blocking(move || backup::carry_out(&restored)).await??;
    commands::log_locations(config);
    let app = App::start(config).await?;
    home_assistant::remember_data(config);
    Ok(app)
}

async fn run(command: Command, config: Config, archive: Archive) -> anyhow::Result<Exit> {
    telemetry::init(&config.log)?;
    backup::complete(&config)?;
    match command {
        Command::Serve { .. }
        | Command::Demo { .. }
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Health { .. } => unreachable!("main handles these commands"),
        Command::Config(ConfigCommand::Check) => commands::check_config(&config),
        Command::Setup { json } => Box::pin(setup::run(&config, json)).await,
        Command::Check { json } => check::check(&config, json).await,
        Command::Replay(arguments) => replay::run(&config, &arguments).await,
        Command::Backup { file, without_secrets } => {
            commands::back_up(&config, &file, archive, !without_secrets).await
        }
        Command::Restore { file, replace, disconnected } => {
            commands::restore(&config, &file, archive, replace, disconnected).await
        }
        Command::Move { to: Some(url), .. } => Box::pin(moving::move_to(&config, &url)).await,
        Command::Move { to: None, .. } => Box::pin(moving::move_back(&config)).await,
        Command::App(AppCommand::BeforeBackup) => home_assistant::before_backup(&config).await,
        Command::App(AppCommand::AfterBackup) => home_assistant::after_backup(&config),
        Command::SignIn => sign_in::run(&config),
        Command::Token { command: None } => commands::token(&config),
        Command::Token { command: Some(command) } => commands::tokens(&config, command).await,
        Command::Key(KeyCommand::Rotate { new_identity }) => {
            commands::rotate_key(&config, new_identity.as_deref()).await
        }
    }
}

/// Prints links that sign in if the output is a terminal. Redirected output may end up in a log, where the code in the
/// links must not appear. The output of a container ends up in a log even if it is a terminal.
fn greet(app: &App) {
    if io::stderr().is_terminal() && io::stdout().is_terminal() && !addresses::is_in_container() {
        let Some((links, is_local_only)) = app.sign_in_links() else { return };
        let _closed = write!(io::stderr(), "{}", sign_in::text(&links, is_local_only, true));
    }
}

#[cfg(feature = "demo")]
async fn demo(duration: Option<Duration>, shows_all: bool) -> ExitCode {
    Box::pin(liveobject::demo::run(duration, shows_all))
        .await
        .map_or_else(|error| fail(&error, Exit::Failed), ExitCode::from)
}

#[cfg(not(feature = "demo"))]
async fn demo(_: Option<Duration>, _: bool) -> ExitCode {
    fail(&anyhow::anyhow!("this build does not contain the demo (cargo feature `demo`)"), Exit::Usage)
}

fn fail(error: &anyhow::Error, exit: Exit) -> ExitCode {
    print(error);
    exit.into()
}

fn print(error: &anyhow::Error) {
    say(&format!("{error:#}"), journal::ERROR);
}

/// Prints a message. It does not go to the log, which may be what failed.
fn say(message: &str, priority: u8) {
    let mut text = format!("liveobject: {}\n", terminal::escape(message));
    if journal::is_connected() {
        text = journal::with_priority(priority, &text);
    }
    // If nobody reads the message, the exit code remains.
    let _closed = io::stderr().write_all(text.as_bytes());
}
