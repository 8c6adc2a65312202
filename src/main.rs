//! Parse, run, map the outcome to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use liveobject::{
    app::App,
    cli::{Cli, Command, Exit, KeyCommand},
    commands,
    config::{self, Config},
    telemetry,
};

#[actix::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(cli.config.as_deref(), config::environment()) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), Exit::Usage),
    };
    match run(cli.command, config).await {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error, Exit::Failed),
    }
}

async fn run(command: Command, config: Config) -> anyhow::Result<Exit> {
    telemetry::init(&config.log)?;
    match command {
        Command::Serve => Ok(App::start(&config).await?.run_until_stopped().await?),
        Command::Demo { duration: _ } => anyhow::bail!("demo"),
        Command::Check => commands::check(&config).await,
        Command::Token => commands::token(&config),
        Command::Key(KeyCommand::Rotate) => commands::rotate_key(&config).await,
    }
}

/// Not through the log, which may be what failed: the person at the terminal asked.
#[expect(clippy::print_stderr, reason = "the last word of a program that could not do what was asked")]
fn fail(error: &anyhow::Error, exit: Exit) -> ExitCode {
    eprintln!("liveobject: {error:#}");
    exit.into()
}
