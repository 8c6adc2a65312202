//! The real process, from outside: signals, `kill -9`, full disks, locked and damaged files, exit codes, memory.
//!
//! Every test that draws lots prints its seed; `PROCESS_SEED` sets it. `CHAOS_SECONDS` sets the length of the chaos
//! test.

#![expect(
    clippy::print_stdout,
    reason = "seeds, ledgers and figures are for those who read the test's output"
)]

mod backlog;
mod chaos;
mod configuration;
mod damage;
mod disk;
mod files;
mod helpers;
mod identity;
mod kills;
mod lock;
mod metrics;
mod outbox;
mod rotation;
mod shutdown;
mod soak;
mod start;
mod tls;
mod tokens;
