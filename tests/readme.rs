//! The README's console blocks: what they show is what the program prints.

use std::path::Path;
use std::process::Command;

#[test]
fn every_console_block_of_the_readme_is_what_the_program_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md"))
        .unwrap()
        .replace("\r\n", "\n");
    let mut blocks = 0;
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("\n```").next().unwrap();
        let (command, expected) = block.split_once('\n').unwrap();
        let arguments: Vec<&str> = command
            .strip_prefix("$ oomlint ")
            .unwrap()
            .split_whitespace()
            .collect();
        let output = Command::new(env!("CARGO_BIN_EXE_oomlint"))
            .args(&arguments)
            .env("NO_COLOR", "1")
            .current_dir(root)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim_end(), expected.trim_end(), "{command}");
        blocks += 1;
    }
    assert!(blocks > 0, "the README shows no output");
}
