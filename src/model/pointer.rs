//! git-LFS pointer files: a clone without its large files still tells how large they are.
//!
//! In: the first bytes of a file. Out: the size of the file it stands for. Source: the git-lfs specification,
//! `docs/spec.md`: UTF-8, under 1024 bytes, the `version` line first.

/// The longest pointer in bytes.
pub const MAX_POINTER_BYTES: u64 = 1024;

const FIRST_LINE: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// True when these bytes begin like a pointer file.
pub fn is_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(FIRST_LINE)
}

/// Bytes of the file that a pointer stands for; `None` when its `size` line is absent or not a number.
pub fn size(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("size "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_tells_the_size_of_what_it_stands_for() {
        let text = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n";
        assert!(is_pointer(text));
        assert_eq!(size(text), Some(4_976_698_672));
    }

    #[test]
    fn a_pointer_without_a_usable_size_tells_nothing() {
        for line in ["", "size -1", "size many", "sizes 12"] {
            let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:00\n{line}\n");
            assert!(is_pointer(text.as_bytes()));
            assert_eq!(size(text.as_bytes()), None, "{line}");
        }
        assert!(!is_pointer(b"version 2"));
    }
}
