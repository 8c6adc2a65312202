//! Where the configuration file and the data are.

use std::path::{self, Path, PathBuf};

/// The places where the configuration file is searched for if none is given. The first file that exists is read.
pub(super) const DEFAULT_FILES: [&str; 2] = [FILE, "/etc/liveobject/config.toml"];

const FILE: &str = "config.toml";

/// The command-line options that are part of the configuration. They override the environment and the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The configuration file, which must exist.
    pub file: Option<PathBuf>,
    /// The data directory.
    pub data_dir: Option<String>,
    /// The addresses to listen on; empty if they are configured elsewhere.
    pub bind: Vec<String>,
}

/// Returns the files that may be the configuration, in order of precedence. `directories` is the value of
/// systemd's `CONFIGURATION_DIRECTORY`, which may list several.
pub(super) fn candidates(directories: Option<&str>, defaults: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let systemd = split(directories).map(|directory| Path::new(directory).join(FILE));
    systemd.chain(defaults.iter().map(|path| path.as_ref().to_owned())).collect()
}

/// Returns the first directory in systemd's `STATE_DIRECTORY`.
pub(super) fn first(directories: Option<&str>) -> Option<&str> {
    split(directories).next()
}

fn split(directories: Option<&str>) -> impl Iterator<Item = &str> {
    directories.unwrap_or_default().split(':').filter(|directory| !directory.is_empty())
}

/// Returns the absolute path, or the path unchanged if the working directory is not known.
pub fn absolute(path: &Path) -> PathBuf {
    path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_of_systemd_precede_the_working_directory_and_etc() {
        let names = |directories| candidates(directories, &DEFAULT_FILES);
        assert_eq!(names(None), ["config.toml", "/etc/liveobject/config.toml"].map(PathBuf::from));
        assert_eq!(names(Some("")), names(None));
        let systemd = ["/a/config.toml", "/b/config.toml", "config.toml", "/etc/liveobject/config.toml"];
        assert_eq!(names(Some("/a::/b")), systemd.map(PathBuf::from));
        assert_eq!((first(Some("/a:/b")), first(Some("")), first(None)), (Some("/a"), None, None));
    }
}
