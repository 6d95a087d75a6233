//! The arithmetic backwards: the largest number that still fits.
//!
//! Engines' reservations never shrink when a context or a batch grows, so a binary search finds the exact
//! boundary for every one of them with the same code that made the forward estimate.

/// The largest `n` in `1..=most` for which `fits(n)` holds; `None` when not even 1 does.
///
/// `fits` must be monotone: once false it stays false. About `log2(most)` calls.
pub fn largest(most: u64, mut fits: impl FnMut(u64) -> bool) -> Option<u64> {
    if most == 0 || !fits(1) {
        return None;
    }
    if fits(most) {
        return Some(most);
    }
    let (mut good, mut bad) = (1, most);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_fits_and_one_more_does_not() {
        for limit in 0..70 {
            for most in [0, 1, 2, 63, 64, 65, u64::MAX] {
                let found = largest(most, |n| n <= limit);
                let expected = limit.min(most);
                assert_eq!(
                    found,
                    (expected > 0).then_some(expected),
                    "limit {limit}, most {most}"
                );
            }
        }
    }
}
