//! The faults that were injected, and when: one line each, in the file that `FAILOVER_LOG` names or on standard output.

use std::{
    fs::File,
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

#[derive(Debug)]
pub struct FaultLog {
    start: Instant,
    file: Option<Mutex<File>>,
}

impl FaultLog {
    pub fn start(start: Instant) -> Self {
        let file = std::env::var_os("FAILOVER_LOG")
            .map(|path| File::create(path).expect("FAILOVER_LOG can be written"));
        Self { start, file: file.map(Mutex::new) }
    }

    pub fn record(&self, text: &str) {
        let line = format!("{:8.1} s  {text}\n", self.start.elapsed().as_secs_f64());
        match &self.file {
            Some(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(line.as_bytes()).expect("FAILOVER_LOG can be written");
            }
            None => print!("{line}"),
        }
    }
}
