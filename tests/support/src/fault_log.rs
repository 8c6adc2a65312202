//! The faults that were injected, and when: one line each, in the file that `SOAK_LOG` names or on standard
//! output.

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
    count: Mutex<usize>,
}

impl FaultLog {
    pub fn start() -> Self {
        let file =
            std::env::var_os("SOAK_LOG").map(|path| File::create(path).expect("SOAK_LOG can be written"));
        Self { start: Instant::now(), file: file.map(Mutex::new), count: Mutex::default() }
    }

    pub fn record(&self, fault: &str) {
        let line = format!("{:8.1} s  {fault}\n", self.start.elapsed().as_secs_f64());
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        match &self.file {
            Some(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(line.as_bytes()).expect("SOAK_LOG can be written");
            }
            None => print!("{line}"),
        }
    }

    pub fn count(&self) -> usize {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
