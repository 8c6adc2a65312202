//! Joins the ES modules of the web page into a few files, and removes comments and white space from scripts and styles.
//!
//! The page consists of many small modules. A browser would request each of them, and wait for each. This crate joins
//! them when the program is compiled, so the page needs no other build step:
//!
//! - [`scripts`] joins modules. Each module becomes a block, so names in different modules do not clash.
//! - [`script`] and [`style`] shorten a script and a style sheet.
//!
//! It knows only the forms that the page uses. Any other form is a [`Fault`] with its file and line.

mod chunks;
mod module;
mod style;
mod tokens;

use std::fmt;

pub use self::{chunks::scripts, style::style, tokens::script};

/// A file: its name and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub text: String,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, message } = self;
        write!(formatter, "{file}:{line}: {message}")
    }
}

impl std::error::Error for Fault {}
