//! The command line: commands, options and exit codes.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use liveobject_actors::domain::token::{Scope, TokenName};

use crate::config::Options;

const SHORTEST_DEMO: Duration = Duration::from_secs(5);
const LONGEST_DEMO: Duration = Duration::from_hours(1);

/// Stores camera detection events durably and publishes them over MQTT
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "liveobject",
    version = env!("LIVEOBJECT_VERSION"),
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Environment variables LIVEOBJECT__SECTION__KEY=... override the configuration file; with the suffix\n\
                  _FILE, a variable names a file with the value.\n\
                  Exit codes: 0 success, 1 failure, 2 usage or configuration error, 70 an actor crashed,\n\
                  78 the service cannot start until an administrator acts."
)]
pub struct Cli {
    /// Configuration file [default: the first that exists of `$CONFIGURATION_DIRECTORY/config.toml`,
    /// `config.toml` and `/etc/liveobject/config.toml`]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory for all data [default: `data_dir` of the configuration, `$STATE_DIRECTORY`, or `data`]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Returns the options that determine the configuration.
    pub fn config_options(&self) -> Options {
        let bind = match &self.command {
            Command::Serve { bind } => bind.clone(),
            _ => Vec::new(),
        };
        Options { file: self.config.clone(), data_dir: self.data_dir.clone(), bind }
    }
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the service until SIGTERM or Ctrl-C
    Serve {
        /// Address and port to listen on instead of the configured ones; can be repeated
        #[arg(long, value_name = "ADDRESS")]
        bind: Vec<String>,
    },
    /// Try it out: simulated cameras and a built-in broker; nothing to install, nothing left behind
    ///
    /// The demo can be reached only from this machine. It ignores the configuration, also the address in it.
    Demo {
        /// Stop after this time, 5s to 1h, for example 30s or 2m [default: run until Ctrl-C]
        #[arg(long = "for", value_name = "TIME", value_parser = demo_time)]
        duration: Option<Duration>,
        /// Print all MQTT messages, also those about the state of the cameras and for Home Assistant
        #[arg(long)]
        all: bool,
    },
    /// Show whether the running service accepts events; for health checks of containers
    Health {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Find a broker, test the login and save the settings; without a terminal, only list the brokers
    Setup {
        /// Print the brokers as JSON and change nothing
        #[arg(long)]
        json: bool,
    },
    /// Test the broker connection with the saved settings
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send events of the log again, through the running service: to the history topics, not to live ones
    Replay(ReplayArguments),
    /// Write a backup of the events, settings, keys, tokens and pictures to one file, also while the service runs
    Backup {
        /// The new file; - for standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Leave out the key of the stored secrets, the admin token, and the key of picture links
        #[arg(long)]
        without_secrets: bool,
    },
    /// Restore a backup; stop the service first
    Restore {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Replace existing data; it is kept with the suffix .before-restore
        #[arg(long)]
        replace: bool,
        /// Switch MQTT off in the restored settings, for a copy while the original runs
        #[arg(long)]
        disconnected: bool,
    },
    /// Move the events, cameras, settings and tokens to another database; stop the service first
    ///
    /// Nothing is deleted from the old database, but no service starts with it again. A password of the new database
    /// must not be in the URL: it comes from `LIVEOBJECT_MOVE_PASSWORD` or `LIVEOBJECT_DATABASE_PASSWORD`, or from a
    /// file (`LIVEOBJECT_MOVE_PASSWORD_FILE`).
    Move {
        /// The new database, which must be empty: <postgres://USER@HOST/DATABASE> or <sqlite://PATH>
        #[arg(long, value_name = "URL", required_unless_present = "back", conflicts_with = "back")]
        to: Option<String>,
        /// Use the configured database again although it was moved; it lacks everything since then
        #[arg(long)]
        back: bool,
    },
    /// Commands for the Supervisor of Home Assistant
    #[command(subcommand, hide = true)]
    App(AppCommand),
    /// Print links that open the web page and sign in once, with a QR code on a terminal
    SignIn,
    /// Show the admin token, or manage tokens for other clients
    Token {
        /// What to do; without it, the admin token is shown.
        #[command(subcommand)]
        command: Option<TokenCommand>,
    },
    /// Check the configuration
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of all commands to this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Manage the encryption key of the stored secrets
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
}

/// The options of `replay`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ReplayArguments {
    /// Begin with the events that happened this long ago, for example 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub since: Duration,
    /// Leave out the events that happened later than this long ago
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub until: Option<Duration>,
    /// Only events of this camera [default: all cameras]
    #[arg(long, value_name = "ID")]
    pub camera: Option<String>,
    /// Topic for all messages [default: the history topic of each camera]
    #[arg(long)]
    pub topic: Option<String>,
    /// Maximum number of messages in a second, 1 to 1000 [default: 50]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_per_second: Option<u16>,
}

/// The commands for tokens. They also take effect in a running service: it accepts a new token immediately,
/// and refuses a revoked one within a second.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it (once; only its hash is stored)
    Create {
        /// Token name: letters, digits, '.', '_', '-'
        #[arg(value_parser = token_name)]
        name: TokenName,
        /// What the token allows: events:write (send events, pictures and camera status), read (view
        /// everything), admin (full access); separate several with commas
        #[arg(
            long = "scope",
            required = true,
            value_name = "SCOPE",
            value_delimiter = ',',
            value_parser = Scope::parse
        )]
        scopes: Vec<Scope>,
    },
    /// Replace the admin token and print the new one; the old one and its sessions end within seconds
    Rotate,
    /// List all tokens with their scopes, creation time and last use
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token
    Revoke {
        /// Token name
        #[arg(value_parser = token_name)]
        name: TokenName,
    },
}

fn token_name(text: &str) -> Result<TokenName, String> {
    TokenName::parse(text)
}

/// The commands that the Supervisor of Home Assistant runs in the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum AppCommand {
    /// Write a consistent archive of the data for the backup that the Supervisor makes next
    BeforeBackup,
    /// Remove that archive
    AfterBackup,
}

/// The commands for the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Read and check the configuration, and print which file and which data directory it uses; creates nothing
    Check,
}

/// The commands for the encryption key.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// Create a new key and re-encrypt all secrets with it; stop the service first
    Rotate {
        /// File with the new key; needed if the current key comes from the environment or from systemd
        #[arg(long, value_name = "FILE")]
        new_identity: Option<PathBuf>,
    },
}

/// The program's exit codes. They are part of its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command succeeded, or the service was stopped.
    Ok = 0,
    /// The command failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The service cannot start until an administrator acts; the service manager should not start it again. This is
    /// `EX_CONFIG` in sysexits.h.
    Lasting = 78,
    /// An actor crashed; the service manager should restart the program.
    Crashed = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn demo_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if (SHORTEST_DEMO..=LONGEST_DEMO).contains(&time) {
        Ok(time)
    } else {
        Err("must be from 5s to 1h".to_owned())
    }
}

/// Parses a whole number with a unit. Without a unit, the number means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || "must be a whole number with ms, s, m, h or d, such as 30s".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" | "" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let milliseconds = milliseconds.and_then(|unit: u64| unit.checked_mul(number)).ok_or_else(invalid)?;
    Ok(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["liveobject"].into_iter().chain(arguments.split_whitespace()))
    }

    fn exit_code(arguments: &str) -> i32 {
        parse(arguments).unwrap_err().exit_code()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_parsed() {
        let name = || TokenName::parse("door").unwrap();
        let token = |command| Command::Token { command: Some(command) };
        for (arguments, command) in [
            ("serve", Command::Serve { bind: Vec::new() }),
            ("serve --bind a:1 --bind b:2", Command::Serve { bind: vec!["a:1".into(), "b:2".into()] }),
            ("demo", Command::Demo { duration: None, all: false }),
            ("demo --for 30s --all", Command::Demo { duration: Some(Duration::from_secs(30)), all: true }),
            ("health", Command::Health { json: false }),
            ("health --json", Command::Health { json: true }),
            ("check", Command::Check { json: false }),
            ("check --json", Command::Check { json: true }),
            ("setup", Command::Setup { json: false }),
            ("setup --json", Command::Setup { json: true }),
            ("token list --json", token(TokenCommand::List { json: true })),
            (
                "replay --since 2h --camera front_door",
                Command::Replay(ReplayArguments {
                    since: Duration::from_hours(2),
                    until: None,
                    camera: Some("front_door".to_owned()),
                    topic: None,
                    max_per_second: None,
                }),
            ),
            ("backup a.tar", Command::Backup { file: "a.tar".into(), without_secrets: false }),
            ("backup - --without-secrets", Command::Backup { file: "-".into(), without_secrets: true }),
            (
                "restore a.tar --replace --disconnected",
                Command::Restore { file: "a.tar".into(), replace: true, disconnected: true },
            ),
            (
                "move --to postgres://u@h/d",
                Command::Move { to: Some("postgres://u@h/d".to_owned()), back: false },
            ),
            ("move --back", Command::Move { to: None, back: true }),
            ("sign-in", Command::SignIn),
            ("token", Command::Token { command: None }),
            (
                "token create door --scope read --scope events:write",
                token(TokenCommand::Create { name: name(), scopes: vec![Scope::Read, Scope::EventsWrite] }),
            ),
            (
                "token create --scope=read,admin door",
                token(TokenCommand::Create { name: name(), scopes: vec![Scope::Read, Scope::Admin] }),
            ),
            ("token rotate", token(TokenCommand::Rotate)),
            ("token list", token(TokenCommand::List { json: false })),
            ("token revoke door", token(TokenCommand::Revoke { name: name() })),
            ("completions bash", Command::Completions { shell: Shell::Bash }),
            ("man --out pages", Command::Man { out: Some("pages".into()) }),
            ("config check", Command::Config(ConfigCommand::Check)),
            ("key rotate", Command::Key(KeyCommand::Rotate { new_identity: None })),
            (
                "key rotate --new-identity new.age",
                Command::Key(KeyCommand::Rotate { new_identity: Some("new.age".into()) }),
            ),
        ] {
            assert_eq!(
                parse(arguments).unwrap(),
                Cli { config: None, data_dir: None, command },
                "{arguments}"
            );
        }
    }

    #[test]
    fn the_configuration_file_can_be_given_before_or_after_the_command() {
        for arguments in ["--config a.toml serve", "serve --config a.toml", "key rotate --config a.toml"] {
            assert_eq!(parse(arguments).unwrap().config, Some(PathBuf::from("a.toml")), "{arguments}");
        }
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for arguments in [
            "",
            "key",
            "config",
            "completions abacus",
            "--config a.toml",
            "fly",
            "serve --fast",
            "serve now",
            "demo --for 4s",
            "replay",
            "replay --since 2h --max-per-second 1001",
            "backup",
            "restore",
            "move",
            "move --to sqlite://l.db --back",
            "token create door",
            "token create door --scope fly",
            "token create a/b --scope read",
            "token revoke",
        ] {
            assert_eq!(exit_code(arguments), 2, "{arguments}");
        }
    }

    #[test]
    fn help_and_version_exit_with_0() {
        for arguments in ["--help", "--version", "help demo"] {
            assert_eq!(exit_code(arguments), 0, "{arguments}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_bounds() {
        for (text, milliseconds) in
            [("30s", 30_000), ("2m", 120_000), ("500ms", 500), ("90", 90_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1 s", "3w", "99999999999999999999s", "9999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(demo_time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(demo_time("1h"), Ok(Duration::from_hours(1)));
        assert_eq!(demo_time("500ms").unwrap_err(), "must be from 5s to 1h");
        assert_eq!(demo_time("61m").unwrap_err(), "must be from 5s to 1h");
    }
}
