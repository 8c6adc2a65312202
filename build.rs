//! Sets the text of `liveobject --version`, and joins the files of the web page.

#[path = "build/page.rs"]
mod page;
#[path = "build/version.rs"]
mod version;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    version::set();
    if let Err(fault) = page::write() {
        println!("cargo::error={fault}");
    }
}
