//! Machine names as people write them: counts around a name, and spellings that mean the same.
//!
//! `2x l4`, `L4:2` and `nvidia-l4 x2` are two of one machine; `A100_SXM_80GB` and `a100-sxm-80gb` are one name.
//! Nothing here knows which machines exist.

/// The largest count taken for one: past it a number is a slip, not a cluster.
const LARGEST_COUNT: u64 = 65_536;

/// A name with its separators and case taken away: how names are compared.
pub(super) fn key(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' ' | '\t'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// [`key`] without the words that only say who makes the thing: `NVIDIA Tesla T4` and `t4` are one.
pub(super) fn bare_key(name: &str) -> String {
    let words = name.split(['-', '_', ' ', '\t']).filter(|word| {
        !matches!(
            word.to_lowercase().as_str(),
            "nvidia"
                | "geforce"
                | "tesla"
                | "amd"
                | "instinct"
                | "radeon"
                | "apple"
                | "google"
                | "intel"
                | "aws"
        )
    });
    words.map(key).collect()
}

/// Splits a count off a name: `2x NAME`, `2 x NAME`, `2xNAME`, `NAME x2`, `NAME-x2`, `NAME:2`. `None` when the
/// text has none, or one that is zero or absurd.
pub(super) fn split_count(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let (count, name) = leading_count(text).or_else(|| trailing_count(text))?;
    let name = name.trim();
    (!name.is_empty() && (1..=LARGEST_COUNT).contains(&count)).then_some((count, name))
}

fn leading_count(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let count = text.get(..end)?.parse().ok()?;
    let name = text.get(end..)?.trim_start().strip_prefix(['x', 'X', '×', '*'])?;
    Some((count, name))
}

fn trailing_count(text: &str) -> Option<(u64, &str)> {
    let head = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let count = text.get(head.len()..)?.parse().ok()?;
    let head = head.trim_end();
    if let Some(name) = head.strip_suffix([':', '×', '*']) {
        return Some((count, name));
    }
    // An `x` counts only as a word of its own: names end in letters and digits.
    let name = head.strip_suffix(['x', 'X'])?;
    name.ends_with([' ', '-', '_'])
        .then(|| (count, name.trim_end_matches([' ', '-', '_'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_stand_before_or_after_the_name() {
        for text in [
            "2x l4", "2 x l4", "2xl4", "2X l4", "2 × l4", "l4 x2", "l4 x 2", "l4-x2", "l4:2", " l4 : 2 ",
        ] {
            assert_eq!(split_count(text), Some((2, "l4")), "{text}");
        }
    }

    #[test]
    fn digits_of_a_name_are_no_count() {
        for text in [
            "l4",
            "rtx-4090",
            "2",
            "x2",
            "gl4x2",
            "0x l4",
            "l4:0",
            "99999999999999999999x l4",
            "70000x l4",
            "2x",
        ] {
            assert_eq!(split_count(text), None, "{text}");
        }
    }

    #[test]
    fn separators_case_and_makers_do_not_matter() {
        assert_eq!(key("A100_SXM-80 GB"), "a100sxm80gb");
        assert_eq!(bare_key("NVIDIA GeForce RTX 4090"), "rtx4090");
        assert_eq!(bare_key("nvidia-tesla-t4"), "t4");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = split_count(&text);
            let _ = bare_key(&text);
        }
    }
}
