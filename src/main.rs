//! The entry point: parses the command line, runs the command, and maps its outcome to an exit code.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use liveobject::{
    addresses,
    app::{App, AppError, Signals},
    backup, check,
    cli::{Cli, Command, ConfigCommand, Exit, KeyCommand},
    commands::{self, Archive},
    config::{self, Config, Options},
    health, lasting, manual, output, owner,
    reload::Reload,
    replay,
    service_manager::ServiceManager,
    sign_in,
    telemetry::{self, journal},
    terminal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = cli.config_options();
    match cli.command {
        Command::Demo { duration } => actix::System::new().block_on(demo(duration)),
        Command::Completions { shell } => finish(manual::completions(shell)),
        Command::Man { out } => finish(manual::man(out.as_deref())),
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
            let serves = matches!(command, Command::Serve { .. });
            let acting = if serves { Ok(()) } else { owner::act_as_owner(&config.data_dir) };
            if let Err(error) = acting {
                return fail(&error.into(), Exit::Failed);
            }
            match actix::System::new().block_on(Box::pin(run(command, options, config, archive))) {
                Err(error) if serves && lasting::is_lasting(&error) => fail(&error, Exit::Lasting),
                outcome => finish(outcome),
            }
        }
    }
}

fn finish(outcome: anyhow::Result<Exit>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) if output::is_closed_pipe(&error) => Exit::Ok.into(),
        Err(error) => fail(&error, Exit::Failed),
    }
}

async fn run(command: Command, options: Options, config: Config, archive: Archive) -> anyhow::Result<Exit> {
    telemetry::init(&config.log)?;
    backup::complete(&config)?;
    match command {
        Command::Serve { .. } => {
            let manager = ServiceManager::from_environment();
            // A signal may end the process during this, like everything else: the next start goes on.
            backup::carry_out(&config, || manager.restoring())?;
            // A signal during the start must not end the process as if it had crashed, and SIGHUP not at all.
            let mut signals = Signals::new().map_err(AppError::Signals)?;
            commands::log_locations(&config);
            let app = tokio::select! {
                app = Box::pin(App::start(&config)) => app?,
                signal = signals.stop() => {
                    tracing::info!(signal, "stopped during the start");
                    return Ok(Exit::Ok);
                }
            };
            greet(&app);
            Ok(Box::pin(app.run_until_stopped(signals, &manager, Reload::new(options, config))).await?)
        }
        Command::Demo { .. } | Command::Completions { .. } | Command::Man { .. } | Command::Health { .. } => {
            unreachable!("main handles the commands that need no log")
        }
        Command::Config(ConfigCommand::Check) => commands::check_config(&config),
        Command::Check { json } => check::check(&config, json).await,
        Command::Replay(arguments) => replay::run(&config, &arguments).await,
        Command::Backup { file, without_secrets } => {
            commands::back_up(&config, &file, archive, !without_secrets).await
        }
        Command::Restore { file, replace, disconnected } => {
            commands::restore(&config, &file, archive, replace, disconnected).await
        }
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
        let (links, is_local_only) = app.sign_in_links();
        let _closed = write!(io::stderr(), "{}", sign_in::text(&links, is_local_only, true));
    }
}

#[cfg(feature = "demo")]
async fn demo(duration: Option<Duration>) -> ExitCode {
    Box::pin(liveobject::demo::run(duration))
        .await
        .map_or_else(|error| fail(&error, Exit::Failed), ExitCode::from)
}

#[cfg(not(feature = "demo"))]
async fn demo(_: Option<Duration>) -> ExitCode {
    fail(&anyhow::anyhow!("this build does not contain the demo (cargo feature `demo`)"), Exit::Usage)
}

/// Prints an error. It does not go to the log, which may be what failed.
fn fail(error: &anyhow::Error, exit: Exit) -> ExitCode {
    let mut text = format!("liveobject: {}\n", terminal::escape(&format!("{error:#}")));
    if journal::is_connected() {
        text = journal::with_priority(journal::ERROR, &text);
    }
    // If nobody reads the message, the exit code remains.
    let _closed = io::stderr().write_all(text.as_bytes());
    exit.into()
}
