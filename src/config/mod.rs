//! The configuration of the process: valid values, from a TOML file and the environment.
//!
//! A missing key takes its default, and an environment variable overrides the file. Unknown keys and invalid
//! values are refused, all at once, each with its place. The configuration is read once, at the start. What can
//! change at run time are the *settings*, which belong to `ConfigActor`.
//!
//! - `values` defines the values and their defaults.
//! - `keys` names the keys, `source` collects their values from `file` and environment.
//! - `read` validates them, `load` brings it all together.

mod fault;
mod file;
mod identity;
mod keys;
mod load;
mod read;
mod source;
mod values;

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

pub use self::{
    fault::ConfigError,
    load::{DEFAULT_FILE, environment},
    values::{Cameras, Config, DEFAULT_PORT, Database, Http, InitialSettings, Outbox, Secrets},
};
