//! Tests of several nodes that share one PostgreSQL server and one broker: one of them owns the event log, and another
//! takes over if it fails.
//!
//! The test with random faults prints its seed, and `PROCESS_SEED` sets it. `FAILOVER_SECONDS` sets its duration,
//! `FAILOVER_NODES` the number of nodes, `FAILOVER_FAULTS` the kinds of faults (see `faults.rs`, separated by commas),
//! `FAILOVER_LOG` the file to which the faults are logged, and `FAILOVER_PROGRAM` another program than the one that was
//! just built.

#![expect(clippy::print_stdout, reason = "seeds, results and figures belong in the output of the tests")]

mod broker_log;
mod checker;
mod cluster;
#[path = "../process/helpers/dice.rs"]
mod dice;
mod failover;
mod faults;
mod load;
mod records;
mod report;
