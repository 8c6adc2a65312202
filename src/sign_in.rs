//! The command `sign-in`, and what `serve` prints on a terminal: links that open the page and sign in once.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::bail;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde::Deserialize;

use crate::{
    cli::Exit,
    commands,
    config::Config,
    output,
    running::{self, OTHER_ADDRESS, StatusError},
    terminal::escape_line,
};

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Response {
    links: Vec<String>,
    local_only: bool,
}

/// Requests a one-time code from the running service, and prints links that contain it.
pub fn run(config: &Config) -> anyhow::Result<Exit> {
    commands::require_token(config)?;
    let response = match running::call(config, "POST", "/api/v1/sign-in-links", None, TIMEOUT) {
        Err(error @ (StatusError::Connection(..) | StatusError::NotRunning)) => {
            bail!("{error}. The links are created by the running service: is it running? {OTHER_ADDRESS}")
        }
        other => other?,
    };
    let Response { links, local_only } = response.ok()?;
    let links: Vec<_> = links.iter().map(|link| escape_line(link)).collect();
    output::bytes(text(&links, local_only, io::stdout().is_terminal()).as_bytes())?;
    Ok(Exit::Ok)
}

/// Returns the text about links that contain a one-time code, with a QR code of the first one for a terminal.
pub fn text(links: &[String], is_local_only: bool, is_terminal: bool) -> String {
    let mut text = String::from(match links {
        [_] => "Open this link in a browser. It works once, within 10 minutes:\n",
        _ => "Open one of these links in a browser. They work once, within 10 minutes:\n",
    });
    for link in links {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {link}");
    }
    if is_local_only {
        text.push_str(
            "The service listens only on this machine. To open the page from another one, start it with\n\
             --bind 0.0.0.0:8080, or set bind = \"0.0.0.0:8080\" in [http] of the configuration.\n",
        );
    } else if is_terminal && let Some(code) = links.first().and_then(|link| qr_code(link)) {
        text.push_str(&code);
        text.push('\n');
    }
    text
}

/// Draws a QR code for a terminal with light text on a dark background. If the colors of the terminal are the other way
/// round, the code is inverted, and phones can still read it.
fn qr_code(link: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_a_qr_code_unless_only_this_machine_can_use_it() {
        let links = ["http://192.168.1.5:8080/#code=00".to_owned(), "http://box:8080/#code=00".to_owned()];
        let shown = text(&links, false, true);
        assert!(
            shown.contains(&format!("  {}\n  {}\n", links[0], links[1])) && shown.contains('█'),
            "{shown}"
        );
        assert!(!text(&links, false, false).contains('█'));
        let local = text(&links[..1], true, true);
        assert!(!local.contains('█') && local.contains("--bind 0.0.0.0:8080"), "{local}");
    }
}
