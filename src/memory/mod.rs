//! Pure arithmetic: bytes from counts. No files, no names of models, no strings for people.
//!
//! [`layout`] describes what a model keeps per layer; [`kv`] turns it into logical bytes and holds the core
//! formula of the product; [`recommend`] chooses a quantization; [`overhead`] estimates what
//! engines take beside both; [`solve`] runs the arithmetic backwards.
//! All integers saturate: a config file supplies them, and a saturated estimate never fits.

pub mod kv;
pub mod layout;
pub mod overhead;
pub mod recommend;
pub mod solve;

/// Bytes in a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

/// `value` rounded up to a multiple of `step` (`step` 0 leaves it), saturating at the top of the range.
pub const fn round_up(value: u64, step: u64) -> u64 {
    if step == 0 {
        return value;
    }
    value.div_ceil(step).saturating_mul(step)
}

/// The product of many counts, saturating.
pub fn product(factors: &[u64]) -> u64 {
    if factors.contains(&0) {
        return 0;
    }
    factors
        .iter()
        .fold(1, |product: u64, factor| product.saturating_mul(*factor))
}
