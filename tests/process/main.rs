//! Tests of the real process: signals, `kill -9`, full disks, locked and damaged files, exit codes, memory.
//!
//! Every test that uses random numbers prints its seed, and `PROCESS_SEED` sets it. `CHAOS_SECONDS` and
//! `SOAK_SECONDS` set the duration of the chaos and soak tests.

#![expect(clippy::print_stdout, reason = "seeds, results and figures belong in the output of the tests")]

mod another_machine;
mod app_directory;
mod backlog;
mod backup;
mod backup_safety;
mod chaos;
mod configuration;
mod damage;
mod disk;
mod files;
mod health;
mod helpers;
mod home_assistant;
mod identity;
mod ingress;
mod journal;
mod kills;
mod locations;
mod lock;
mod metrics;
mod monitoring;
mod moving;
mod nodes;
mod outbox;
mod postgres;
mod program;
mod proxy;
mod reload;
mod replaced_files;
mod replay;
mod restore_api;
mod restored;
mod rotation;
mod service_manager;
mod setup;
mod shared;
mod shutdown;
mod sign_in;
mod soak;
mod sources;
mod start;
mod tls;
mod tokens;
mod unit;
mod version;
