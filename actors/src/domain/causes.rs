//! The text of an error for the log.

use std::{error::Error, fmt, iter::successors};

/// Displays an error together with its causes, from the outermost to the innermost, separated by `: `. A cause that the
/// text already contains is left out, since some libraries repeat it.
///
/// Use it for every error that is logged: an error that is logged as a value loses its causes in JSON.
pub fn with_causes<'a>(error: &'a (dyn Error + 'a)) -> impl fmt::Display {
    WithCauses(error)
}

struct WithCauses<'a>(&'a (dyn Error + 'a));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        for cause in successors(self.0.source(), |&cause| cause.source()) {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the picture cannot be written")]
    struct Picture(#[source] File);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write to /data/pictures: {0}")]
    struct File(#[source] std::io::Error);

    #[test]
    fn each_cause_is_displayed_once() {
        let disk = std::io::Error::other("no space left on the device");
        assert_eq!(with_causes(&disk).to_string(), "no space left on the device");
        assert_eq!(
            with_causes(&Picture(File(disk))).to_string(),
            "the picture cannot be written: cannot write to /data/pictures: no space left on the device"
        );
    }
}
