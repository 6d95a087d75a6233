//! Tells cargo that the rules and catalogs are part of the program, files added later included.

fn main() {
    for folder in ["rules", "catalog"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
