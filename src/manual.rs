//! The commands `completions` and `man`: what packages install alongside the program.

use std::{fs, path::Path};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{
    cli::{Cli, Exit},
    output,
};

const NAME: &str = "liveobject";

/// Returns the command line with the plain version, so that the pages depend on nothing else.
fn command() -> clap::Command {
    Cli::command().version(env!("CARGO_PKG_VERSION"))
}

/// Prints the completion script for a shell.
pub fn completions(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    output::bytes(&script)?;
    Ok(Exit::Ok)
}

/// Prints the main manual page. With a directory, which is created if it is missing, writes the pages of all commands
/// there instead.
pub fn man(out: Option<&Path>) -> anyhow::Result<Exit> {
    if let Some(directory) = out {
        fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(command(), directory))
            .with_context(|| format!("cannot write the manual pages to {}", directory.display()))?;
        return Ok(Exit::Ok);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command()).render(&mut page)?;
    output::bytes(&page)?;
    Ok(Exit::Ok)
}
