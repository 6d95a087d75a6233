//! Amounts of memory as people write them: `24GiB`, `24Gi`, `80GB`, `81559MiB`, `512M`, plain bytes.
//!
//! Suffixes mean what they mean to Kubernetes: `Ki`, `Mi`, `Gi`, ... are powers of 1024, `k`, `M`, `G`, ...
//! powers of 1000, and an appended `B` changes nothing. Amounts past 64 bits saturate; nothing panics.

/// Reads an amount of memory in bytes; `None` where the text is none. A fraction of a byte is dropped.
///
/// Source of the suffixes: Kubernetes, apimachinery `resource.Quantity`. A lower-case `g` or `m` is refused as
/// Kubernetes does (`m` is a thousandth there); `K` is taken as `k`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = (text.get(..end)?, text.get(end..)?.trim_start());
    scale(number, unit(suffix)?)
}

/// Bytes that a suffix stands for.
fn unit(suffix: &str) -> Option<u64> {
    let letters = suffix.strip_suffix('B').unwrap_or(suffix);
    let (letter, base) = match letters.strip_suffix('i') {
        Some(letter) => (letter, 1024_u64),
        None => (letters, 1000),
    };
    let power = match letter {
        "" if base == 1000 => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    base.checked_pow(power)
}

/// `number` x `unit` in whole bytes, exactly: the digits after the point count as a fraction of the unit.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = |text: &str| {
        text.bytes().fold(0_u128, |sum, digit| {
            sum.saturating_mul(10)
                .saturating_add(u128::from(digit.wrapping_sub(b'0')))
        })
    };
    // Eighteen digits reach below a byte of every unit.
    let fraction: String = fraction.chars().take(18).collect();
    let tenths = 10_u128.saturating_pow(u32::try_from(fraction.len()).unwrap_or(18));
    let unit = u128::from(unit);
    let bytes = digits(whole)
        .saturating_mul(unit)
        .saturating_add(digits(&fraction).saturating_mul(unit) / tenths);
    Some(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binary_and_decimal_suffixes_differ_as_in_kubernetes() {
        assert_eq!(parse_bytes("24GiB"), Some(24 << 30));
        assert_eq!(parse_bytes("24Gi"), Some(24 << 30));
        assert_eq!(parse_bytes("24GB"), Some(24_000_000_000));
        assert_eq!(parse_bytes("24G"), Some(24_000_000_000));
        assert_eq!(parse_bytes("1.5TiB"), Some(3 << 39));
        assert_eq!(parse_bytes("81559MiB"), Some(81_559 << 20));
        assert_eq!(parse_bytes("512M"), Some(512_000_000));
        assert_eq!(parse_bytes("128k"), Some(128_000));
        assert_eq!(parse_bytes(" 24 GiB "), Some(24 << 30));
        assert_eq!(parse_bytes("17179869184"), Some(16 << 30));
        assert_eq!(parse_bytes("17179869184B"), Some(16 << 30));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for wrong in [
            "", "GiB", ".", "1.2.3G", "-1Gi", "1e3", "24 gb", "100m", "4i", "4iB", "1Zi", "4GiBB", "²Gi",
        ] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn amounts_past_64_bits_saturate() {
        assert_eq!(
            parse_bytes("99999999999999999999999999999999999999999Gi"),
            Some(u64::MAX)
        );
        assert_eq!(parse_bytes("16Ei"), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_bytes(&text);
        }

        #[test]
        fn whole_bytes_come_back(bytes: u64) {
            prop_assert_eq!(parse_bytes(&bytes.to_string()), Some(bytes));
        }

        #[test]
        fn whole_mebibytes_come_back(mib in 0..u64::from(u32::MAX)) {
            prop_assert_eq!(parse_bytes(&format!("{mib}MiB")), Some(mib << 20));
        }
    }
}
