//! Repeatable random numbers.

use std::{fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// A source of random numbers and its seed.
pub struct Dice {
    seed: u64,
    random: StdRng,
}

impl Dice {
    /// Creates a source with the seed `PROCESS_SEED`, or with a random one, and prints the seed.
    pub fn new(test: &str) -> Self {
        let from_env =
            std::env::var("PROCESS_SEED").ok().map(|text| text.parse().expect("PROCESS_SEED is a number"));
        let seed = from_env.unwrap_or_else(|| rand::random_range(0..1_000_000));
        println!("{test}: PROCESS_SEED={seed}");
        Self { seed, random: StdRng::seed_from_u64(seed) }
    }

    /// Returns another source for a concurrent task. Its seed depends only on this seed and `number`.
    pub fn sibling(&self, number: u64) -> Self {
        let seed = self.seed.wrapping_add(number << 24);
        Self { seed, random: StdRng::seed_from_u64(seed) }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.random.random_range(0..end)
    }

    /// Returns one of the items.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.random.random_range(0..from.len())]
    }

    /// Returns a duration of at least `from` and less than `to` milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from..to))
    }

    /// Returns a duration shorter than `end`.
    pub fn shorter_than(&mut self, end: Duration) -> Duration {
        end.mul_f64(self.random.random_range(0.0..1.0))
    }
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dice({})", self.seed)
    }
}
