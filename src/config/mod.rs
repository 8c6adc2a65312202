//! The configuration of the process: valid values, from a TOML file, the environment and the command line.
//!
//! A missing key has its default. The command line overrides the environment, which overrides the file. Unknown
//! keys and invalid values are reported all at once, each with its location. The configuration is read once, at
//! startup, and again at SIGHUP. The *settings*, which can change at run time, belong to `ConfigActor`.
//!
//! - `values` defines the values and their defaults.
//! - `keys` defines the keys, and `source` collects their values from `file` and the environment.
//! - `app_options` reads the options of the Home Assistant app, which the file and the environment override.
//! - `location` determines which file is read, and `variables` reads values that are in files of their own.
//! - `read` validates them, and `load` combines these steps.
//! - `patience` waits for files of certificates and secrets that are being replaced.

mod app_options;
mod fault;
mod file;
mod fingerprint;
mod given;
mod keys;
mod load;
mod location;
mod patience;
mod read;
mod source;
mod values;
mod variables;

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

pub use self::{
    fault::ConfigError,
    fingerprint::Fingerprint,
    given::API_TOKEN_VARIABLE,
    load::environment,
    location::{Options, absolute},
    patience::load_when_complete,
    values::{
        Cameras, Config, DEFAULT_PORT, Database, HomeAssistant, Http, InitialSettings, MqttSource, Outbox,
        Secrets, host_name,
    },
};
