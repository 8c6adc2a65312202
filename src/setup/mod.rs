//! The command `setup`: finds brokers, lets the user choose one and enter the login, tests it and saves the settings.
//!
//! Without a terminal, it only prints what it finds.

mod prompt;
mod stored;

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use liveobject_actors::{
    Invalid, MqttSettings,
    connection::probe,
    domain::{probe_report::TestReport, settings::SettingsUpdate},
};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    prompt::{ask, ask_hidden},
    stored::Saved,
};
use crate::{
    check,
    cli::Exit,
    commands,
    config::Config,
    finder::{self, BrokerAddress, Candidate, Found},
    output::{self, OutputError, line},
    terminal::escape_line,
    wiped,
};

/// Runs the dialog on a terminal until it is over or a signal arrives. Otherwise, or for JSON, prints the brokers that
/// were found.
pub async fn run(config: &Config, as_json: bool) -> anyhow::Result<Exit> {
    if !as_json && io::stdin().is_terminal() && io::stdout().is_terminal() {
        let ended = ended_by_signal()?;
        // A signal does not end the process at once: the terminal must show again what is typed.
        return tokio::select! {
            done = Box::pin(dialog(config)) => done,
            signal = ended => Err(anyhow::anyhow!("ended by {signal}")),
        };
    }
    let found = finder::find(&config.mqtt_candidates).await;
    if as_json {
        output::json(&found)?;
    } else {
        print(&found)?;
    }
    Ok(Exit::Ok)
}

/// Returns what waits for a signal that ends programs, and returns its name. From this call on, these signals no longer
/// end the process.
fn ended_by_signal() -> io::Result<impl Future<Output = &'static str>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => "SIGHUP",
            _ = interrupt.recv() => "SIGINT",
            _ = quit.recv() => "SIGQUIT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

async fn dialog(config: &Config) -> anyhow::Result<Exit> {
    commands::require_database(config)?;
    let settings = stored::read(config).await?;
    let is_managed = settings.get("managed") == Some(&Value::Bool(true));
    anyhow::ensure!(
        !config.mqtt_managed && !is_managed,
        "the MQTT settings are managed by the configuration ([mqtt] managed = true); change them there"
    );
    let is_provided =
        settings.get("provided").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
    anyhow::ensure!(
        !is_provided,
        "Home Assistant provides the broker; to enter another one, set mqtt_source to \"settings\" in the options of \
         the app, and restart the app"
    );
    if let Some(host) = settings.get("broker_host").and_then(Value::as_str).filter(|host| !host.is_empty()) {
        line(format_args!(
            "The current broker is {}. What you enter now replaces its address, login and TLS settings.",
            escape_line(host)
        ))?;
    }
    let login = match choose(config).await? {
        Some(address) => tested_login(&settings, address).await?,
        None => None,
    };
    let Some(login) = login else {
        line(format_args!("Nothing was changed."))?;
        return Ok(Exit::Failed);
    };
    match stored::save(config, &login, &settings).await? {
        Saved::ByService => {
            line(format_args!("Saved. The service connects now."))?;
            check::print_service(config).await?;
        }
        Saved::InDatabase => line(format_args!(
            "Saved. Start the service to connect, with `systemctl start liveobject` or `liveobject serve`."
        ))?,
    }
    line(format_args!(
        "Next: `liveobject sign-in` prints a link to the web page, and docs/sources.md shows how to send events."
    ))?;
    Ok(Exit::Ok)
}

/// Prints a numbered list of the brokers.
fn print(Found { candidates, left_out }: &Found) -> Result<(), OutputError> {
    if candidates.is_empty() {
        line(format_args!(
            "No broker was found. Is it running, and in the same network as this machine? In Home Assistant, install \
             the app \"Mosquitto broker\"."
        ))?;
    }
    for (i, candidate) in candidates.iter().enumerate() {
        let address = candidate.address();
        let tls = if address.use_tls { " (TLS)" } else { "" };
        let message = escape_line(&candidate.message);
        line(format_args!("{:>3}  {}{tls}: {message}", i + 1, escape_line(&address.to_string())))?;
        if let Some(names) = other_names(candidate) {
            line(format_args!("     Also known as {}", escape_line(&names)))?;
        }
    }
    if *left_out > 0 {
        line(format_args!("Not tested, because there were too many: {left_out}"))?;
    }
    Ok(())
}

fn other_names(candidate: &Candidate) -> Option<String> {
    let address = candidate.address().to_string();
    let names: Vec<&str> =
        candidate.names.iter().map(String::as_str).filter(|name| *name != address).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// What the user entered to choose a broker.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Broker(BrokerAddress),
    SearchAgain,
    Quit,
}

fn read_choice(text: &str, found: &Found) -> Result<Choice, String> {
    match text.trim() {
        "" => Ok(Choice::SearchAgain),
        "q" => Ok(Choice::Quit),
        text => match text.parse::<usize>() {
            Ok(number) => {
                let candidate = number.checked_sub(1).and_then(|i| found.candidates.get(i));
                let candidate =
                    candidate.ok_or_else(|| format!("There is no broker with the number {number}."));
                candidate.map(|candidate| Choice::Broker(candidate.address()))
            }
            Err(_) => BrokerAddress::parse(text)
                .map(Choice::Broker)
                .map_err(|fault| format!("This is not an address of a broker: {fault}.")),
        },
    }
}

/// Returns the broker that the user chooses.
async fn choose(config: &Config) -> anyhow::Result<Option<BrokerAddress>> {
    loop {
        line(format_args!("Searching for brokers …"))?;
        let found = finder::find(&config.mqtt_candidates).await;
        print(&found)?;
        loop {
            let question = "Number or address of the broker (Enter searches again, q quits): ";
            let Some(text) = ask(question).await? else { return Ok(None) };
            match read_choice(&text, &found) {
                Ok(Choice::Broker(address)) => return Ok(Some(address)),
                Ok(Choice::SearchAgain) => break,
                Ok(Choice::Quit) => return Ok(None),
                Err(fault) => line(format_args!("{}", escape_line(&fault)))?,
            }
        }
    }
}

/// The chosen broker, and what the user entered for it.
#[derive(Debug)]
struct Login {
    address: BrokerAddress,
    username: Option<String>,
    password: Option<SecretString>,
}

impl Login {
    /// Returns the stored settings with the new broker, without the password. The certificates for the previous broker
    /// are removed.
    fn settings(&self, stored: &Map<String, Value>) -> Map<String, Value> {
        let Self { address, username, .. } = self;
        let mut settings: Map<String, Value> = stored
            .iter()
            .filter(|(name, _)| MqttSettings::FIELDS.contains(&name.as_str()) && *name != "password")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let entered = json!({
            "enabled": true,
            "broker_host": address.host,
            "broker_port": address.port,
            "username": username,
            "transport": "tcp",
            "use_tls": address.use_tls,
            "ca_certificate": null,
            "client_certificate": null,
            "client_key": null,
            "tls_server_name": null,
            "tls_insecure": false,
        });
        if let Value::Object(entered) = entered {
            settings.extend(entered);
        }
        settings
    }

    /// Returns the settings as the API expects them, in memory that is wiped.
    fn request(&self, stored: &Map<String, Value>) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        #[derive(Serialize)]
        struct Request<'a> {
            #[serde(flatten)]
            settings: &'a Map<String, Value>,
            password: Option<&'a str>,
        }
        let password = self.password.as_ref().map(SecretString::expose_secret);
        wiped::to_json(&Request { settings: &self.settings(stored), password })
    }

    /// Returns the settings with the password.
    fn update(&self, stored: &Map<String, Value>) -> Result<SettingsUpdate, Invalid> {
        MqttSettings::read(self.settings(stored).into(), "")?.with_password(self.password.clone())
    }

    /// Tests the connection with these settings.
    async fn test(&self, stored: &Map<String, Value>) -> anyhow::Result<TestReport> {
        let SettingsUpdate { mut settings, password, .. } = self.update(stored)?;
        settings.password = password.apply(None);
        Ok(probe::run(Arc::new(settings), None).await)
    }
}

/// Asks for the user name and the password until the test succeeds, or the user saves them anyway or quits.
async fn tested_login(stored: &Map<String, Value>, address: BrokerAddress) -> anyhow::Result<Option<Login>> {
    loop {
        let Some(username) = ask("User name (empty for none): ").await? else { return Ok(None) };
        let username = Some(username.trim().to_owned()).filter(|name| !name.is_empty());
        let password = match username {
            Some(_) => match ask_hidden("Password (not shown): ").await? {
                Some(password) => Some(password),
                None => return Ok(None),
            },
            None => None,
        };
        let login = Login { address: address.clone(), username, password };
        line(format_args!("Testing {}", escape_line(&address.to_string())))?;
        let report = login.test(stored).await?;
        check::print_stages(&report)?;
        line(format_args!("{}", check::conclusion(&report)))?;
        if report.success {
            return Ok(Some(login));
        }
        let question = "Enter the login again (Enter), save it anyway (s), or quit (q)? ";
        match ask(question).await?.as_deref().map(str::trim) {
            Some("s") => return Ok(Some(login)),
            None | Some("q") => return Ok(None),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finder::{CandidateState, Source};

    fn found() -> Found {
        let candidate = Candidate {
            broker_host: "10.0.0.1".to_owned(),
            broker_port: 1884,
            use_tls: false,
            names: vec!["10.0.0.1:1884".to_owned(), "Mosquitto".to_owned()],
            found_by: vec![Source::Announced],
            state: CandidateState::LoginRequired,
            message: "Requires a user name and a password.".to_owned(),
            protocol: None,
            stages: Vec::new(),
        };
        Found { candidates: vec![candidate], left_out: 0 }
    }

    #[test]
    fn a_broker_is_chosen_by_number_or_address() {
        let broker = |text: &str| Ok(Choice::Broker(BrokerAddress::parse(text).unwrap()));
        assert_eq!(read_choice(" 1 ", &found()), broker("10.0.0.1:1884"));
        assert_eq!(read_choice("mqtts://a.lan", &found()), broker("a.lan:8883"));
        assert_eq!(read_choice("", &found()), Ok(Choice::SearchAgain));
        assert_eq!(read_choice("q", &found()), Ok(Choice::Quit));
        for bad in ["0", "2", "a b", "http://a"] {
            assert!(read_choice(bad, &found()).is_err(), "{bad}");
        }
        assert_eq!(other_names(&found().candidates[0]).as_deref(), Some("Mosquitto"));
    }

    #[test]
    fn other_settings_are_kept_and_certificates_of_the_previous_broker_are_not() {
        let stored = json!({
            "topic_prefix": "cams", "has_password": true, "managed": false, "client_certificate": "x",
            "tls_insecure": true, "transport": "websocket", "client_id": "c",
        });
        let login = Login {
            address: BrokerAddress::parse("a.lan").unwrap(),
            username: Some("ann".to_owned()),
            password: Some("secret".into()),
        };
        let stored = stored.as_object().unwrap();
        let request = login.request(stored).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&request).unwrap(),
            json!({
                "enabled": true, "broker_host": "a.lan", "broker_port": 1883, "username": "ann",
                "password": "secret", "transport": "tcp", "use_tls": false, "ca_certificate": null,
                "client_certificate": null, "client_key": null, "tls_server_name": null, "tls_insecure": false,
                "topic_prefix": "cams", "client_id": "c",
            })
        );
        let settings = Value::Object(login.settings(stored)).to_string();
        assert!(!settings.contains("secret") && !format!("{login:?}").contains("secret"));
        let updated = login.update(stored).unwrap().password.apply(None);
        assert_eq!(updated.unwrap().expose_secret(), "secret");
        let without = Login { password: None, ..login };
        assert!(without.update(stored).unwrap().password.apply(Some("old".into())).is_none());
    }
}
