//! The entry point: parses the command line, runs the command, and maps its outcome to an exit code.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use liveobject::{
    app::App,
    cli::{Cli, Command, ConfigCommand, Exit, KeyCommand},
    commands,
    config::{self, Config},
    output, replay, telemetry, terminal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[actix::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Demo { duration } = cli.command {
        return demo(duration).await;
    }
    let config = match Config::load(&cli.config_options(), config::environment()) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), Exit::Usage),
    };
    match Box::pin(run(cli.command, config)).await {
        Ok(exit) => exit.into(),
        Err(error) if output::is_closed_pipe(&error) => Exit::Ok.into(),
        Err(error) => fail(&error, Exit::Failed),
    }
}

async fn run(command: Command, config: Config) -> anyhow::Result<Exit> {
    telemetry::init(&config.log)?;
    match command {
        Command::Serve { .. } => {
            commands::log_locations(&config);
            let app = App::start(&config).await?;
            greet(&app);
            Ok(Box::pin(app.run_until_stopped()).await?)
        }
        Command::Demo { .. } => unreachable!("main handles the demo, which has no configuration"),
        Command::Config(ConfigCommand::Check) => commands::check_config(&config),
        Command::Check => commands::check(&config).await,
        Command::Replay(arguments) => replay::run(&config, &arguments).await,
        Command::Token { command: None } => commands::token(&config),
        Command::Token { command: Some(command) } => commands::tokens(&config, command).await,
        Command::Key(KeyCommand::Rotate { new_identity }) => {
            commands::rotate_key(&config, new_identity.as_deref()).await
        }
    }
}

/// Prints a link that signs in if the output is a terminal. Redirected output may end up in a log, where the
/// code in the link must not appear.
fn greet(app: &App) {
    if std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
        let link = app.sign_in_link();
        let _closed = writeln!(io::stderr(), "Open {link} in a browser (works once, within 10 minutes).");
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
    // If nobody reads the message, the exit code remains.
    let _closed = writeln!(io::stderr(), "liveobject: {}", terminal::escape(&format!("{error:#}")));
    exit.into()
}
