//! What befell whom, and when: a line each, on the standard output and in `SIEGE_LOG`.

use std::{
    fs::File,
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

#[derive(Debug)]
pub struct Diary {
    start: Instant,
    file: Option<Mutex<File>>,
    count: Mutex<usize>,
}

impl Diary {
    pub fn begin() -> Self {
        let file =
            std::env::var_os("SIEGE_LOG").map(|path| File::create(path).expect("SIEGE_LOG can be written"));
        Self { start: Instant::now(), file: file.map(Mutex::new), count: Mutex::default() }
    }

    pub fn write(&self, what: &str) {
        let line = format!("{:8.1} s  {what}\n", self.start.elapsed().as_secs_f64());
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        match &self.file {
            Some(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(line.as_bytes()).expect("SIEGE_LOG can be written");
            }
            None => print!("{line}"),
        }
    }

    pub fn count(&self) -> usize {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
