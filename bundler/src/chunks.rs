//! Which modules are in which file, and the text of the files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{
    Fault, File,
    module::{Import, Module},
};

/// The object with the exports of all modules. No module may use this name.
const MODULES: &str = "$modules";

/// Joins modules into files.
///
/// The first file has the name of the entry, and contains the entry and what it imports. Each module that is imported
/// with `import("./file.js")` begins another file of its name, with what it imports and the first file does not
/// contain.
///
/// # Errors
///
/// Returns a fault if a module contains a form that is not supported, if a file or name that it imports does not exist,
/// if modules import each other in a circle, if two late files need the same module, or if no file contains a module.
pub fn scripts(entry: &str, sources: &[File]) -> Result<Vec<File>, Fault> {
    let mut modules = BTreeMap::new();
    for File { name, text } in sources {
        if let Some(at) = text.find(MODULES) {
            let line = text[..at].matches('\n').count() + 1;
            return Err(Fault { file: name.clone(), line, message: format!("`{MODULES}` is reserved") });
        }
        modules.insert(name.as_str(), Module::read(name, text)?);
    }
    let graph = Graph { modules };
    graph.check()?;
    let first = graph.order(entry)?;
    let mut files = vec![graph.file(entry, &first, None)];
    let mut placed: BTreeMap<&str, &str> = first.iter().map(|name| (*name, entry)).collect();
    let mut begun = BTreeSet::from([entry]);
    let mut waiting = graph.late_imports(&first);
    while let Some((importer, line, late)) = waiting.pop() {
        if !begun.insert(late) {
            continue;
        }
        if let Some(other) = placed.get(late) {
            let message =
                format!("{late} is already in the file {other}; import it with `import {{ name }} from`");
            return Err(Fault { file: importer.to_owned(), line, message });
        }
        let order = graph.order(late)?;
        let (shared, own): (Vec<&str>, Vec<&str>) = order.into_iter().partition(|name| first.contains(name));
        for name in &own {
            if let Some(other) = placed.insert(name, late) {
                let message = format!("{other} and {late} both need {name}; import it in {entry}, too");
                return Err(Fault { file: importer.to_owned(), line, message });
            }
        }
        graph.check_delays(late, &shared)?;
        files.push(graph.file(late, &own, (!shared.is_empty()).then_some(entry)));
        waiting.extend(graph.late_imports(&own));
    }
    match graph.modules.keys().find(|name| !placed.contains_key(*name)) {
        None => Ok(files),
        Some(name) => {
            let message = "no other module imports this one".to_owned();
            Err(Fault { file: (*name).to_owned(), line: 1, message })
        }
    }
}

struct Graph<'a> {
    modules: BTreeMap<&'a str, Module>,
}

impl<'a> Graph<'a> {
    fn fault(file: &str, line: usize, message: String) -> Fault {
        Fault { file: file.to_owned(), line, message }
    }

    /// Checks that everything that is imported exists.
    fn check(&self) -> Result<(), Fault> {
        for (name, module) in &self.modules {
            for Import { from, names, line } in &module.imports {
                let exporting =
                    self.modules.get(from.as_str()).ok_or_else(|| Self::fault(name, *line, missing(from)))?;
                if let Some(unknown) = names.iter().find(|one| !exporting.exports.contains(&one.name)) {
                    return Err(Self::fault(name, *line, format!("{from} does not export {}", unknown.name)));
                }
            }
            for late in &module.late_imports {
                if !self.modules.contains_key(late.from.as_str()) {
                    return Err(Self::fault(name, late.line, missing(&late.from)));
                }
            }
        }
        Ok(())
    }

    /// Checks that no module of the first file waits for a file that itself waits for the first file.
    fn check_delays(&self, late: &str, shared: &[&str]) -> Result<(), Fault> {
        let Some(needed) = shared.first() else { return Ok(()) };
        for (name, module) in &self.modules {
            let waiting = module.late_imports.iter().find(|one| one.from == late && one.delays_module);
            if let Some(one) = waiting {
                let message = format!("{late} cannot be awaited here, because it imports {needed}");
                return Err(Self::fault(name, one.line, message));
            }
        }
        Ok(())
    }

    /// Returns a module and those that it imports, each after those that it imports itself.
    fn order(&self, name: &str) -> Result<Vec<&'a str>, Fault> {
        let mut order = Vec::new();
        self.add(name, &mut Vec::new(), &mut order)?;
        Ok(order)
    }

    fn add(&self, name: &str, path: &mut Vec<&'a str>, order: &mut Vec<&'a str>) -> Result<(), Fault> {
        let missing = || Self::fault(name, 1, missing(name));
        let (name, module) = self.modules.get_key_value(name).ok_or_else(missing)?;
        if order.contains(name) {
            return Ok(());
        }
        path.push(name);
        for import in &module.imports {
            if path.contains(&import.from.as_str()) {
                let message = format!("{} and {name} import each other", import.from);
                return Err(Self::fault(name, import.line, message));
            }
            self.add(&import.from, path, order)?;
        }
        path.pop();
        order.push(name);
        Ok(())
    }

    /// Returns the late imports of these modules: the importing module, the line and the imported module.
    fn late_imports<'g>(&'g self, names: &[&'a str]) -> Vec<(&'a str, usize, &'g str)> {
        let of = |name: &&'a str| {
            let name = *name;
            self.modules[name].late_imports.iter().map(move |late| (name, late.line, late.from.as_str()))
        };
        names.iter().flat_map(of).collect()
    }

    /// Returns the file that begins with a module. `from` is the file whose modules it uses, if there is one.
    fn file(&self, name: &str, modules: &[&str], from: Option<&str>) -> File {
        let mut text = match from {
            Some(from) => format!("import{{{MODULES}}}from\"./{from}\";\n"),
            None => format!("export const {MODULES}={{}};\n"),
        };
        for module in modules {
            text.push_str(&self.block(module));
        }
        let exports = &self.modules[name].exports;
        if !exports.is_empty() {
            // Under other names, so that they do not hide global names from the modules in this file.
            let taken: Vec<_> = exports.iter().map(|one| format!("{one}:{MODULES}_{one}")).collect();
            let given: Vec<_> = exports.iter().map(|one| format!("{MODULES}_{one} as {one}")).collect();
            let _ = writeln!(text, "const{{{}}}={MODULES}[\"{name}\"];", taken.join(","));
            let _ = writeln!(text, "export{{{}}};", given.join(","));
        }
        File { name: name.to_owned(), text }
    }

    /// Returns a module as a block.
    fn block(&self, name: &str) -> String {
        let Module { imports, exports, body, .. } = &self.modules[name];
        let mut text = "{".to_owned();
        for Import { from, names, .. } in imports {
            let names: Vec<_> = names.iter().map(|one| renamed(&one.name, &one.local)).collect();
            let _ = write!(text, "const{{{}}}={MODULES}[\"{from}\"];", names.join(","));
        }
        text.push_str(body);
        if !exports.is_empty() {
            let _ = write!(text, "\n{MODULES}[\"{name}\"]={{{}}}", exports.join(","));
        }
        text.push_str("}\n");
        text
    }
}

fn missing(name: &str) -> String {
    format!("there is no file {name}")
}

fn renamed(name: &str, local: &str) -> String {
    if name == local { name.to_owned() } else { format!("{name}:{local}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(sources: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        let file = |(name, text): &(&str, &str)| File { name: (*name).to_owned(), text: (*text).to_owned() };
        let sources: Vec<_> = sources.iter().map(file).collect();
        let files = scripts("a.js", &sources).map_err(|fault| fault.to_string())?;
        Ok(files.into_iter().map(|File { name, text }| (name, text)).collect())
    }

    #[test]
    fn modules_become_blocks_after_those_that_they_import() {
        let files = joined(&[
            ("a.js", "import { b as x } from \"./b.js\";\nimport { c } from \"./c.js\";\nx(c);"),
            ("b.js", "import { c } from \"./c.js\";\nexport const b = () => c;"),
            ("c.js", "export const c = 1;"),
        ]);
        let text = "export const $modules={};\n\
                    {const c=1;\n$modules[\"c.js\"]={c}}\n\
                    {const{c}=$modules[\"c.js\"];const b=()=>c;\n$modules[\"b.js\"]={b}}\n\
                    {const{b:x}=$modules[\"b.js\"];const{c}=$modules[\"c.js\"];x(c);}\n";
        assert_eq!(files.unwrap(), [("a.js".to_owned(), text.to_owned())]);
    }

    #[test]
    fn a_late_import_begins_a_file_with_what_the_first_one_does_not_contain() {
        let files = joined(&[
            ("a.js", "import { c } from \"./c.js\";\nconst late = import(\"./b.js\");c(late);"),
            ("b.js", "import { c } from \"./c.js\";\nimport { d } from \"./d.js\";\nexport const b = c + d;"),
            ("c.js", "export const c = 1;"),
            ("d.js", "export const d = 1;"),
        ])
        .unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.js", "b.js"]);
        let text = "import{$modules}from\"./a.js\";\n\
                    {const d=1;\n$modules[\"d.js\"]={d}}\n\
                    {const{c}=$modules[\"c.js\"];const{d}=$modules[\"d.js\"];const b=c+d;\n$modules[\"b.js\"]={b}}\n\
                    const{b:$modules_b}=$modules[\"b.js\"];\nexport{$modules_b as b};\n";
        assert_eq!(files[1].1, text);
    }

    #[test]
    fn an_export_of_a_late_file_hides_no_global_name_from_its_other_modules() {
        let files = joined(&[
            ("a.js", "import(\"./b.js\");"),
            ("b.js", "import { c } from \"./c.js\";\nexport const status = c;"),
            ("c.js", "export const c = window.status + status;"),
        ])
        .unwrap();
        let text = &files[1].1;
        assert!(text.ends_with("export{$modules_status as status};\n"), "{text}");
        assert!(!text.contains("export const{status"), "{text}");
    }

    #[test]
    fn a_late_file_without_imports_does_not_wait_for_the_first_one() {
        let files = joined(&[
            ("a.js", "const { b } = await import(\"./b.js\");\nb();"),
            ("b.js", "export const b = 1;"),
        ]);
        assert!(!files.unwrap()[1].1.contains("import"));
    }

    #[test]
    fn what_cannot_be_joined_is_a_fault_with_file_and_line() {
        for (sources, expected) in [
            (vec![("a.js", "\nimport { b } from \"./b.js\";")], "a.js:2: there is no file b.js"),
            (vec![("a.js", "\nimport(\"./b.js\");")], "a.js:2: there is no file b.js"),
            (
                vec![("a.js", "import { c } from \"./b.js\";"), ("b.js", "export const b = 1;")],
                "a.js:1: b.js does not export c",
            ),
            (
                vec![
                    ("a.js", "import { b } from \"./b.js\";\nexport const a = 1;"),
                    ("b.js", "import { a } from \"./a.js\";\nexport const b = 1;"),
                ],
                "b.js:1: a.js and b.js import each other",
            ),
            (vec![("a.js", "f();"), ("b.js", "f();")], "b.js:1: no other module imports this one"),
            (vec![("a.js", "f();\nconst $modules = 1;")], "a.js:2: `$modules` is reserved"),
            (
                vec![
                    ("a.js", "import { b } from \"./b.js\";\nimport(\"./b.js\");"),
                    ("b.js", "export const b = 1;"),
                ],
                "a.js:2: b.js is already in the file a.js; import it with `import { name } from`",
            ),
            (
                vec![
                    ("a.js", "import { c } from \"./c.js\";\nawait import(\"./b.js\");"),
                    ("b.js", "import { c } from \"./c.js\";"),
                    ("c.js", "export const c = 1;"),
                ],
                "a.js:2: b.js cannot be awaited here, because it imports c.js",
            ),
        ] {
            assert_eq!(joined(&sources).unwrap_err(), expected);
        }
    }

    #[test]
    fn two_late_files_cannot_share_a_module() {
        let sources = [
            ("a.js", "import(\"./b.js\");\nimport(\"./c.js\");"),
            ("b.js", "import { d } from \"./d.js\";"),
            ("c.js", "import { d } from \"./d.js\";"),
            ("d.js", "export const d = 1;"),
        ];
        let fault = joined(&sources).unwrap_err();
        assert!(fault.contains("both need d.js; import it in a.js, too"), "{fault}");
    }
}
