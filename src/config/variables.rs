//! The environment variables of the configuration. Each contains its value, or names a file that does.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use super::{
    fault::{Fault, Origin},
    file, given, keys,
};

/// The suffix of a variable that names a file with the value. Container platforms provide secrets as files.
pub(super) const FILE_SUFFIX: &str = "_FILE";

/// A variable with its value.
pub(super) struct Variable {
    /// The variable that is set: `NAME` for both `NAME` and `NAME_FILE`.
    pub(super) name: String,
    pub(super) text: String,
    /// The name in the environment: `name`, or `name` with [`FILE_SUFFIX`].
    pub(super) origin: String,
}

impl Variable {
    /// Returns whether the value is in a file.
    pub(super) fn is_in_file(&self) -> bool {
        self.origin != self.name
    }
}

/// Replaces each `NAME_FILE` with `NAME` and the content of the file, without one trailing line ending. Adds a fault
/// if the file is empty, cannot be read, is larger than 1 MiB, or if both variables are set. The name of a key that
/// itself ends in `_FILE` is left unchanged.
pub(super) fn resolve(env: impl Iterator<Item = (String, String)>, faults: &mut Vec<Fault>) -> Vec<Variable> {
    let known: Vec<String> =
        keys::all().into_iter().map(keys::Key::variable).chain(given::SECRETS.map(str::to_owned)).collect();
    let is_known = |name: &str| known.iter().any(|known| known == name);
    let env: Vec<(String, String)> = env.collect();
    let mut variables = Vec::with_capacity(env.len());
    for (name, text) in &env {
        let origin = name.clone();
        let target = name.strip_suffix(FILE_SUFFIX).filter(|target| is_known(target) && !is_known(name));
        let Some(target) = target else {
            variables.push(Variable { name: name.clone(), text: text.clone(), origin });
            continue;
        };
        if env.iter().any(|(other, _)| other == target) {
            let message = format!("{target} is set too; set only one of them");
            faults.push(Fault::new(Origin::Variable(origin), "", message));
            continue;
        }
        let message = match read(Path::new(text)) {
            // Another program may have created the file, and not written the value yet.
            Ok(content) if content.is_empty() => format!("{text} is empty"),
            Ok(content) => {
                variables.push(Variable { name: target.to_owned(), text: content, origin });
                continue;
            }
            Err(error) => format!("{text} cannot be read: {error}"),
        };
        faults.push(Fault::new(Origin::Variable(origin), "", message).in_a_file_that_may_change());
    }
    variables
}

fn read(path: &Path) -> io::Result<String> {
    let content = file::read(path).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => io::Error::other("it is not UTF-8 text"),
        _ => error,
    })?;
    let text = content.0.strip_suffix('\n').unwrap_or(&content.0);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
