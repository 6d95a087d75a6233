//! Numbers as reports print them: bytes in GiB or MiB with one decimal, counts with thousands separators.

use crate::memory::{GIB, KIB, MIB};

/// Bytes for people: `15.0 GiB`, `512.0 MiB`, `12.0 KiB`, `7 B`. One unit is 1024 of the next smaller one.
pub fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        GIB.. => (GIB, "GiB"),
        MIB.. => (MIB, "MiB"),
        KIB.. => (KIB, "KiB"),
        _ => return format!("{bytes} B"),
    };
    // In tenths and in integers, so that amounts beyond 2^53 print exactly.
    let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
    let whole = u64::try_from(tenths / 10).unwrap_or(u64::MAX);
    format!("{}.{} {name}", count(whole), tenths % 10)
}

/// A count with thousands separators: `131,072`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A parameter count for people: `8.03 B`, `494.0 M`, `1,234`.
pub fn parameters(parameters: u64) -> String {
    match parameters {
        1_000_000_000.. => format!("{:.2} B", parameters as f64 / 1e9),
        1_000_000.. => format!("{:.1} M", parameters as f64 / 1e6),
        _ => count(parameters),
    }
}

/// `1 model`, `3 models`: a count and its noun, which takes an s.
pub fn plural(number: usize, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", count(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_unit_that_reads_best_and_survive_saturation() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(12 * KIB), "12.0 KiB");
        assert_eq!(bytes(512 * MIB + MIB / 4), "512.3 MiB");
        assert_eq!(bytes(GIB), "1.0 GiB");
        assert_eq!(bytes(1536 * GIB), "1,536.0 GiB");
        assert_eq!(bytes(u64::MAX), "17,179,869,184.0 GiB");
    }

    #[test]
    fn counts_are_grouped_in_threes() {
        assert_eq!(count(7), "7");
        assert_eq!(count(131_072), "131,072");
        assert_eq!(count(1_000_000), "1,000,000");
    }

    #[test]
    fn nouns_agree_with_their_count() {
        assert_eq!(plural(1, "model"), "1 model");
        assert_eq!(plural(0, "model"), "0 models");
    }
}
