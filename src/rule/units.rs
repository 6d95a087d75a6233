//! Numbers as people read them: bytes in GiB, tokens with separators.

use crate::memory::{GIB, MIB};

/// Above this a byte count is a saturated sum: a config file asked for the impossible.
const ABSURD: f64 = 9_223_372_036_854_775_808.0;

/// `16.0 GiB`, with so many decimals.
pub(crate) fn gib(bytes: f64, decimals: usize) -> String {
    scaled(bytes, GIB, "GiB", decimals)
}

/// `512 MiB`, with so many decimals.
pub(crate) fn mib(bytes: f64, decimals: usize) -> String {
    scaled(bytes, MIB, "MiB", decimals)
}

/// GiB from one GiB on, MiB below.
pub(crate) fn size(bytes: f64) -> String {
    size_with(bytes, 1)
}

/// The same with so many decimals of a GiB.
pub(crate) fn size_with(bytes: f64, decimals: usize) -> String {
    if bytes >= GIB as f64 {
        gib(bytes, decimals)
    } else {
        mib(bytes, 0)
    }
}

fn scaled(bytes: f64, unit: u64, name: &str, decimals: usize) -> String {
    if bytes >= ABSURD {
        return "more than 8 EiB".to_owned();
    }
    let number = format!("{:.decimals$}", bytes / unit as f64);
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}{dot}{fraction} {name}", separated(whole))
}

/// `131,072 tokens`.
pub(crate) fn tokens(count: u64) -> String {
    let noun = if count == 1 { "token" } else { "tokens" };
    format!("{} {noun}", thousands(count))
}

/// `131,072`.
pub(crate) fn thousands(count: u64) -> String {
    separated(&count.to_string())
}

fn separated(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digit.is_ascii_digit() && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `90%`, `92.5%`.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{}%", plain(ratio * 100.0))
}

/// At most two decimals, none that say nothing: `8.03`, `0.9`, `12`.
pub(crate) fn plain(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(gib(16.0 * GIB as f64, 1), "16.0 GiB");
        assert_eq!(gib(1.5e15, 1), "1,396,983.9 GiB");
        assert_eq!(size(0.5 * GIB as f64), "512 MiB");
        assert_eq!(size(GIB as f64), "1.0 GiB");
        assert_eq!(gib(u64::MAX as f64, 1), "more than 8 EiB");
        assert_eq!(tokens(131_072), "131,072 tokens");
        assert_eq!(tokens(1), "1 token");
        assert_eq!(thousands(999), "999");
        assert_eq!(percent(0.925), "92.5%");
        assert_eq!(
            (plain(8.03), plain(12.0), plain(0.9)),
            ("8.03".into(), "12".into(), "0.9".into())
        );
    }
}
