//! Tells cargo that the rules, catalogs and schemas are part of the program, files added later included.

fn main() {
    for folder in ["rules", "catalog", "schemas"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
