//! The command line: what can be asked of the program, and how it tells the outcome.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use liveobject_actors::domain::token::{Scope, TokenName};

const SHORTEST_DEMO: Duration = Duration::from_secs(5);
const LONGEST_DEMO: Duration = Duration::from_hours(1);

/// Keeps camera detection events safe and publishes them over MQTT.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "liveobject",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Environment variables LIVEOBJECT__SECTION__KEY=... go before the configuration file.\n\
                  Exit codes: 0 well, 1 failed, 2 usage or invalid configuration, 70 an actor crashed."
)]
pub struct Cli {
    /// The configuration file [default: config.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the service until SIGTERM or Ctrl-C
    Serve,
    /// Show it all on a terminal, with a broker and cameras of its own; needs nothing installed, leaves nothing behind
    Demo {
        /// End by itself after this time, 5s to 1h (30s, 2m, 1h) [default: run until Ctrl-C]
        #[arg(long = "for", value_name = "TIME", value_parser = demo_time)]
        duration: Option<Duration>,
    },
    /// Try to connect with the stored MQTT settings, stage by stage
    Check,
    /// Print the administrator's token, which the API asks for; or make, list and revoke tokens for others
    Token {
        /// What to do with the tokens of others.
        #[command(subcommand)]
        command: Option<TokenCommand>,
    },
    /// Care for the key that secrets are encrypted with
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
}

/// What can be done with the tokens of others. A service that runs takes part: a new token holds at once, a revoked one
/// is refused within a second.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once: only a hash of it is kept
    Create {
        /// What it is called: letters, digits, `.`, `_`, `-`
        #[arg(value_parser = token_name)]
        name: TokenName,
        /// What it permits: events:write (hand in events, pictures, camera status), read (look), admin (everything);
        /// several separated by commas
        #[arg(long = "scope", required = true, value_name = "SCOPE", value_delimiter = ',', value_parser = Scope::parse)]
        scopes: Vec<Scope>,
    },
    /// List the tokens: name, scopes, when made, when last used
    List,
    /// Let a token hold no more
    Revoke {
        /// What it is called
        #[arg(value_parser = token_name)]
        name: TokenName,
    },
}

fn token_name(text: &str) -> Result<TokenName, String> {
    TokenName::parse(text)
}

/// What can be done with the key.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// Make a new key and encrypt all secrets with it; the service must not run meanwhile
    Rotate {
        /// Encrypt with the key in this file, where the present one comes from the environment or from systemd
        #[arg(long, value_name = "FILE")]
        new_identity: Option<PathBuf>,
    },
}

/// How the program ended; part of its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well, or the program was told to stop.
    Ok = 0,
    /// What was asked for failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// An actor crashed; the service manager should start the program anew.
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

/// A whole number with a unit; seconds without one.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a whole number with ms, s, m or h, such as 30s".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" | "" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let milliseconds = milliseconds.and_then(|unit: u64| unit.checked_mul(number)).ok_or_else(wrong)?;
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
    fn every_command_is_understood() {
        let name = || TokenName::parse("door").unwrap();
        let token = |command| Command::Token { command: Some(command) };
        for (arguments, command) in [
            ("serve", Command::Serve),
            ("demo", Command::Demo { duration: None }),
            ("demo --for 30s", Command::Demo { duration: Some(Duration::from_secs(30)) }),
            ("check", Command::Check),
            ("token", Command::Token { command: None }),
            (
                "token create door --scope read --scope events:write",
                token(TokenCommand::Create { name: name(), scopes: vec![Scope::Read, Scope::EventsWrite] }),
            ),
            (
                "token create --scope=read,admin door",
                token(TokenCommand::Create { name: name(), scopes: vec![Scope::Read, Scope::Admin] }),
            ),
            ("token list", token(TokenCommand::List)),
            ("token revoke door", token(TokenCommand::Revoke { name: name() })),
            ("key rotate", Command::Key(KeyCommand::Rotate { new_identity: None })),
            (
                "key rotate --new-identity new.age",
                Command::Key(KeyCommand::Rotate { new_identity: Some("new.age".into()) }),
            ),
        ] {
            assert_eq!(parse(arguments).unwrap(), Cli { config: None, command }, "{arguments}");
        }
    }

    #[test]
    fn the_file_can_be_named_before_or_after_the_command() {
        for arguments in ["--config a.toml serve", "serve --config a.toml", "key rotate --config a.toml"] {
            assert_eq!(parse(arguments).unwrap().config, Some(PathBuf::from("a.toml")), "{arguments}");
        }
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for arguments in [
            "",
            "key",
            "--config a.toml",
            "fly",
            "serve --fast",
            "serve now",
            "demo --for 4s",
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
    fn times_have_a_unit_and_bounds() {
        for (text, milliseconds) in
            [("30s", 30_000), ("2m", 120_000), ("500ms", 500), ("90", 90_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1 s", "3d", "99999999999999999999s", "9999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(demo_time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(demo_time("1h"), Ok(Duration::from_hours(1)));
        assert_eq!(demo_time("500ms").unwrap_err(), "must be from 5s to 1h");
        assert_eq!(demo_time("61m").unwrap_err(), "must be from 5s to 1h");
    }
}
