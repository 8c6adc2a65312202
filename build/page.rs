//! Joins the files of the web page, compresses them, and writes a list of them, which `src/http/page.rs` includes.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use liveobject_bundler::{Fault, File, script, scripts, style};

const PAGE: &str = "src/http/page";
const INDEX: &str = "index.html";
/// The module that browsers load first.
const ENTRY: &str = "start.js";
/// The files that are inserted into the HTML, because the first paint or the first requests would wait for them.
const INLINE: [&str; 3] = ["theme.js", "early.js", "first.css"];
/// The declarations for the type check of the modules.
const NOT_SERVED: &str = "types.d.ts";

/// A file of the page as it is served.
struct Served {
    name: String,
    bytes: Vec<u8>,
    /// Whether its address contains the version, so that browsers can keep it.
    is_versioned: bool,
}

/// Writes the files and the list.
pub fn write() -> Result<(), Box<dyn Error>> {
    let source = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(PAGE);
    println!("cargo::rerun-if-changed={}", source.display());
    let target = PathBuf::from(env::var("OUT_DIR")?).join("page");
    fs::create_dir_all(&target)?;
    let mut sources = read(&source)?;
    let mut list =
        "/// The files as they were written, for debugging.\n#[cfg(any(debug_assertions, test))]\n\
                    static SOURCES: &[Source] = &[\n"
            .to_owned();
    for (name, _) in &sources {
        let (kind, bytes) = (media_type(name)?, include(&source.join(name))?);
        let _ = writeln!(list, "Source {{ name: {name:?}, media_type: {kind:?}, bytes: {bytes} }},");
    }
    let mut served = versioned(&mut sources)?;
    let version = tag(&served.iter().map(|file| (&file.name, &file.bytes)).collect::<Vec<_>>());
    let html = index(&mut sources, &served, &version)?;
    let rest = sources.into_iter().chain([(INDEX.to_owned(), html)]);
    served.extend(rest.map(|(name, bytes)| Served { name, bytes, is_versioned: false }));

    let _ = write!(
        list,
        "];\n/// Changes whenever a script or a style changes.\nconst VERSION: &str = {version:?};\n\
         /// The files that are served.\nstatic FILES: &[File] = &[\n"
    );
    for file in &served {
        let _ = writeln!(list, "{},", write_file(file, &target)?);
    }
    list.push_str("];\n");
    Ok(fs::write(target.join("files.rs"), list)?)
}

type Files = Vec<(String, Vec<u8>)>;

fn read(directory: &Path) -> Result<Files, Box<dyn Error>> {
    let mut files = Files::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("the name of a file is not text")?;
        if name != NOT_SERVED {
            files.push((name.to_owned(), fs::read(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

/// Takes some files out of the list.
fn take(files: &mut Files, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<File>, Box<dyn Error>> {
    let taken = files.extract_if(.., |(name, _)| is_wanted(name));
    taken.map(|(name, bytes)| Ok(File { name, text: String::from_utf8(bytes)? })).collect()
}

/// Takes the modules and styles that are not inserted into the HTML, and joins and shortens them.
fn versioned(files: &mut Files) -> Result<Vec<Served>, Box<dyn Error>> {
    let is_separate = |name: &str| !INLINE.contains(&name);
    let modules = take(files, |name| has_extension(name, "js") && is_separate(name))?;
    let styles = take(files, |name| has_extension(name, "css") && is_separate(name))?;
    let mut served = scripts(ENTRY, &modules).map_err(in_page)?;
    for File { name, text } in styles {
        served.push(File { text: style(&name, &text).map_err(in_page)?, name });
    }
    let served = served.into_iter();
    Ok(served
        .map(|File { name, text }| Served { name, bytes: text.into_bytes(), is_versioned: true })
        .collect())
}

/// Takes the HTML and what is inserted into it, and returns the HTML with that and with the versioned addresses.
fn index(files: &mut Files, served: &[Served], version: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut html = take(files, |name| name == INDEX)?.pop().ok_or("the page has no index.html")?.text;
    for File { name, text } in take(files, |name| INLINE.contains(&name))? {
        let (link, element) = if has_extension(&name, "js") {
            let text = script(&name, &text).map_err(in_page)?;
            (format!("<script src=\"page/{name}\"></script>"), format!("<script>{text}</script>"))
        } else {
            let text = style(&name, &text).map_err(in_page)?;
            (format!("<link rel=\"stylesheet\" href=\"page/{name}\">"), format!("<style>{text}</style>"))
        };
        // In a script, `<!--` could let the HTML parser overlook its end.
        if element.matches("</").count() > 1 || element.contains("<!--") || html.matches(&link).count() != 1 {
            return Err(format!("{PAGE}/{INDEX}: {name} cannot be inserted for one {link}").into());
        }
        html = html.replace(&link, &element);
    }
    for Served { name, .. } in served {
        html = html.replace(&format!("\"page/{name}\""), &format!("\"page/{version}/{name}\""));
    }
    Ok(html.into_bytes())
}

/// Writes a file and its compressed version, and returns its entry in the list. PNG files are compressed already.
fn write_file(
    Served { name, bytes, is_versioned }: &Served,
    target: &Path,
) -> Result<String, Box<dyn Error>> {
    let path = target.join(name);
    fs::write(&path, bytes)?;
    let mut compressed = "None".to_owned();
    if !has_extension(name, "png") {
        let path = target.join(format!("{name}.gz"));
        fs::write(&path, gzip(bytes)?)?;
        compressed = format!("Some({})", include(&path)?);
    }
    Ok(format!(
        "File {{ name: {name:?}, media_type: {:?}, tag: {:?}, is_versioned: {is_versioned}, \
         plain: {}, compressed: {compressed} }}",
        media_type(name)?,
        tag(bytes),
        include(&path)?
    ))
}

fn include(path: &Path) -> Result<String, Box<dyn Error>> {
    let path = path.to_str().ok_or("the path of this directory is not text")?;
    Ok(format!("include_bytes!({path:?})"))
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|own| own == extension)
}

fn media_type(name: &str) -> Result<&'static str, String> {
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("png") => Ok("image/png"),
        Some("webmanifest") => Ok("application/manifest+json"),
        _ => Err(format!("{PAGE}/{name}: the page has no files of this type")),
    }
}

fn in_page(fault: Fault) -> Fault {
    Fault { file: format!("{PAGE}/{}", fault.file), ..fault }
}

/// Returns a text that identifies a version of something. It need not withstand deliberate collisions.
fn tag(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}
