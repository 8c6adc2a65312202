//! Checks the layers of this crate, from bottom to top: `domain`, `messages`, `store`, the actors. A module
//! imports only its own layer and the layers below it, and an actor never imports another actor.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules that every actor may import.
const SHARED: [&str; 12] = [
    "domain",
    "messages",
    "store",
    "metrics",
    "reading",
    "data_dir",
    "disk",
    "private_file",
    "lifecycle",
    "ticks",
    "testing",
    "System",
];

/// Modules above the actors. They may import everything.
const WIRING: [&str; 4] = ["lib", "service", "testing", "layers_tests"];

/// Returns what a file in the top-level module `module` may import from this crate, and which strings it must
/// not contain.
fn rules(module: &str) -> (Vec<&str>, &'static [&'static str]) {
    match module {
        "domain" => (vec!["domain"], &["actix", "sea_orm", "tokio::"]),
        "messages" => (vec!["domain", "messages"], &[]),
        "store" => (vec!["domain", "store", "testing"], &["actix"]),
        actor => ([&SHARED[..], &[actor]].concat(), &[]),
    }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let sources = paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    sources.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Returns the offset and the name of every module after `crate::`, including those of a group in braces.
fn imports(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (start, prefix) in code.match_indices("crate::") {
        let path = start + prefix.len();
        let (mut depth, mut expects_name) = (0, true);
        for (i, c) in code[path..].char_indices() {
            if expects_name && c.is_alphabetic() {
                found.push((path + i, identifier(&code[path + i..])));
            }
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 {
                break;
            }
            expects_name = depth == 1 && (matches!(c, '{' | ',') || (expects_name && c.is_whitespace()));
        }
    }
    found
}

#[test]
fn every_module_imports_only_its_own_layer_and_those_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut violations = Vec::new();
    for path in sources(&root) {
        let file = path.strip_prefix(&root).unwrap();
        let module = identifier(file.to_str().unwrap());
        if WIRING.contains(&module) {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap()).collect();
        let code = code.join("\n");
        let (allowed, forbidden) = rules(module);
        let imported = imports(&code).into_iter().filter(|(_, name)| !allowed.contains(name));
        let contained = forbidden.iter().flat_map(|text| code.match_indices(text));
        for (offset, name) in imported.chain(contained) {
            let line = code[..offset].lines().count();
            violations.push(format!("actors/src/{}:{line}: {module} must not use {name}", file.display()));
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_documentation_shows_the_same_diagram_as_the_crate() {
    let diagram = |text: &str| {
        let (_, diagram) = text.split_once("```text\n classifier actors").expect("a diagram");
        diagram.split_once("```").expect("the end of the diagram").0.to_owned()
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crate_docs = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let crate_docs: Vec<&str> = crate_docs
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let page = fs::read_to_string(root.join("../docs/architecture.md")).unwrap();
    assert_eq!(diagram(&crate_docs.join("\n")), diagram(&page));
}
