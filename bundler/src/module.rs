//! One module: what it imports and exports, and the rest of it.

use crate::{
    Fault,
    tokens::{Gap, Kind, Token, join, tokens},
};

/// A name that a module imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub name: String,
    /// What it is called in this module.
    pub local: String,
}

/// An `import … from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub from: String,
    pub names: Vec<Name>,
    pub line: usize,
}

/// An `import(…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LateImport {
    pub from: String,
    pub line: usize,
    /// Whether the module itself, not a function in it, waits for the import.
    pub delays_module: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    pub imports: Vec<Import>,
    pub late_imports: Vec<LateImport>,
    pub exports: Vec<String>,
    /// The shortened text, without imports and without the word `export`.
    pub body: String,
}

const IMPORT_FORM: &str =
    "only `import { name } from \"./file.js\";` and `import(\"./file.js\")` are supported";
const EXPORT_FORM: &str =
    "only `export function`, `export async function`, `export class` and `export const name =` are supported";

struct Reader<'a> {
    file: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    module: Module,
    body: Vec<Token<'a>>,
}

impl Module {
    /// Reads a module.
    pub fn read(file: &str, text: &str) -> Result<Self, Fault> {
        let tokens = tokens(file, text)?;
        let mut reader = Reader { file, tokens, at: 0, depth: 0, module: Self::default(), body: Vec::new() };
        while reader.at < reader.tokens.len() {
            reader.read()?;
        }
        reader.module.body = join(&reader.body);
        Ok(reader.module)
    }
}

impl<'a> Reader<'a> {
    /// Returns the text of the token that is this far ahead, or an empty text at the end.
    fn ahead(&self, distance: usize) -> &'a str {
        self.tokens.get(self.at + distance).map_or("", |token| token.text)
    }

    fn fault(&self, message: &str) -> Fault {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        let line = token.map_or(1, |token| token.line);
        Fault { file: self.file.to_owned(), line, message: message.to_owned() }
    }

    /// Reads a token into the body, or an import, or the word `export`.
    fn read(&mut self) -> Result<(), Fault> {
        let token = self.tokens[self.at];
        let is_word = token.kind == Kind::Word && self.body.last().is_none_or(|before| before.text != ".");
        match token.text {
            "import" if is_word && self.ahead(1) == "(" => self.late_import()?,
            "import" if is_word && self.ahead(1) != "." && self.ahead(1) != ":" => return self.import(),
            "export" if is_word && self.ahead(1) != ":" => return self.export(),
            "var" if is_word && self.ahead(1) != ":" => {
                return Err(self.fault("`var` would be visible in other modules; use `const` or `let`"));
            }
            _ => {}
        }
        match (token.kind, token.text) {
            (Kind::Sign, "{" | "(" | "[") => self.depth += 1,
            (Kind::Sign, "}" | ")" | "]") => self.depth -= 1,
            (Kind::Template, text) => {
                self.depth += usize::from(text.ends_with("${"));
                self.depth -= usize::from(text.starts_with('}'));
            }
            _ => {}
        }
        self.body.push(token);
        self.at += 1;
        Ok(())
    }

    fn import(&mut self) -> Result<(), Fault> {
        let unknown = self.fault(IMPORT_FORM);
        let (start, mut names) = (self.at, Vec::new());
        if self.depth > 0 || self.ahead(1) != "{" {
            return Err(unknown);
        }
        self.at += 2;
        while self.ahead(0) != "}" {
            let is_renamed = self.ahead(1) == "as";
            let (name, local) = (self.ahead(0), self.ahead(if is_renamed { 2 } else { 0 }));
            if !is_name(name) || !is_name(local) {
                return Err(unknown);
            }
            names.push(Name { name: name.to_owned(), local: local.to_owned() });
            self.at += if is_renamed { 3 } else { 1 };
            match self.ahead(0) {
                "," => self.at += 1,
                "}" => {}
                _ => return Err(unknown),
            }
        }
        let from = path(self.ahead(2)).ok_or_else(|| unknown.clone())?;
        if self.ahead(1) != "from" || self.ahead(3) != ";" {
            return Err(unknown);
        }
        self.at += 4;
        self.module.imports.push(Import { from, names, line: self.tokens[start].line });
        Ok(())
    }

    /// Notes an `import(…)`, which stays in the body.
    fn late_import(&mut self) -> Result<(), Fault> {
        let from = path(self.ahead(2)).filter(|_| self.ahead(3) == ")");
        let from = from.ok_or_else(|| self.fault(IMPORT_FORM))?;
        let is_awaited = self.body.last().is_some_and(|before| before.text == "await");
        let line = self.tokens[self.at].line;
        self.module.late_imports.push(LateImport {
            from,
            line,
            delays_module: is_awaited && self.depth == 0,
        });
        Ok(())
    }

    /// Notes the name that is exported, and leaves out the word `export`.
    fn export(&mut self) -> Result<(), Fault> {
        let name = match (self.ahead(1), self.ahead(2), self.ahead(3)) {
            ("function" | "class", name, _) | ("async", "function", name) | ("const", name, "=") => name,
            _ => "",
        };
        if self.depth > 0 || !is_name(name) {
            return Err(self.fault(EXPORT_FORM));
        }
        self.module.exports.push(name.to_owned());
        let gap = self.tokens[self.at].gap;
        self.at += 1;
        self.tokens[self.at].gap = gap.max(Gap::Space);
        Ok(())
    }
}

/// Returns the name of the file in a text such as `"./api.js"`.
fn path(text: &str) -> Option<String> {
    let path = text.strip_prefix('"')?.strip_suffix('"')?.strip_prefix("./")?;
    (!path.contains(['/', '\\'])).then(|| path.to_owned())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '$'))
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Module {
        Module::read("a.js", text).unwrap()
    }

    #[test]
    fn imports_and_exports_are_noted_and_left_out_of_the_body() {
        let module = read(
            "// a\nimport { b, c as d } from \"./b.js\";\nimport {\n  e,\n} from \"./e.js\";\n\n\
             export const f = 1;\nexport function g() {}\nexport async function h() {}\n\
             /** a */\nexport class I {}\nconst J = 2;\n",
        );
        let name = |name: &str, local: &str| Name { name: name.to_owned(), local: local.to_owned() };
        assert_eq!(
            module.imports,
            [
                Import { from: "b.js".to_owned(), names: vec![name("b", "b"), name("c", "d")], line: 2 },
                Import { from: "e.js".to_owned(), names: vec![name("e", "e")], line: 3 },
            ]
        );
        assert_eq!(module.exports, ["f", "g", "h", "I"]);
        assert_eq!(module.body, "const f=1;function g(){}\nasync function h(){}\nclass I{}\nconst J=2;");
    }

    #[test]
    fn late_imports_stay_in_the_body() {
        let module = read(
            "const a = x ? 1 : await import(\"./b.js\");\nf(() => import(\"./c.js\"));\n\
             async function g() { await import(\"./d.js\"); }",
        );
        let late: Vec<_> = module
            .late_imports
            .iter()
            .map(|late| (late.from.as_str(), late.line, late.delays_module))
            .collect();
        assert_eq!(late, [("b.js", 1, true), ("c.js", 2, false), ("d.js", 3, false)]);
        assert!(module.body.contains("await import(\"./b.js\")"), "{}", module.body);
    }

    #[test]
    fn the_words_import_and_export_may_have_other_meanings() {
        let text = "const a={import:1,export:2,var:3};b(a.import,a.export,a.var,import.meta.url,`import x`);";
        assert_eq!(read(text).body, text);
    }

    #[test]
    fn other_forms_are_faults_with_their_line() {
        for text in [
            "import a from \"./b.js\";",
            "import * as a from \"./b.js\";",
            "import \"./b.js\";",
            "import { default as a, } from './b.js';",
            "import { a } from \"b\";",
            "import { a } from \"./b/c.js\";",
            "import { a } from \"./b.js\" with { type: \"json\" };",
            "import { \"a\" as b } from \"./b.js\";",
            "import { a } from \"./b.js\"\nf();",
            "import(a);",
            "import(`./b.js`);",
            "import(\"./b.js\", {});",
            "export default a;",
            "export { a };",
            "export * from \"./b.js\";",
            "export let a = 1;",
            "export const { a } = b;",
            "export const a = 1, b = 2;export var c = 1;",
            "export function* a() {}",
            "{ export const a = 1; }",
            "var a;",
        ] {
            let fault = Module::read("a.js", &format!("\n{text}")).unwrap_err();
            assert_eq!(fault.line, 2, "{text}: {fault}");
        }
    }
}
