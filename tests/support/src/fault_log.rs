//! The faults that a test injects, and when: one line each, in the file that a variable names or on standard output.

use std::{
    fs::File,
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub struct FaultLog {
    start: Instant,
    file: Option<Mutex<File>>,
    count: Mutex<usize>,
}

impl FaultLog {
    /// Begins a log in the file that this variable names. Its times count from `start`.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    #[must_use]
    pub fn start(variable: &str, start: Instant) -> Self {
        let file = std::env::var_os(variable)
            .map(|path| File::create(path).unwrap_or_else(|error| panic!("{variable}: {error}")));
        Self { start, file: file.map(Mutex::new), count: Mutex::default() }
    }

    /// Adds a line.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    pub fn record(&self, text: &str) {
        let line = format!("{:8.1} s  {text}\n", self.start.elapsed().as_secs_f64());
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        match &self.file {
            Some(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(line.as_bytes()).expect("the log can be written");
            }
            #[expect(clippy::print_stdout, reason = "the log of a test belongs in its output")]
            None => print!("{line}"),
        }
    }

    /// Returns the number of lines.
    pub fn count(&self) -> usize {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
