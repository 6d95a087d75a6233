//! "Did you mean": the known name that a misspelt one was most likely meant to be.

/// How alike two names must be, from 0 to 1, before one is offered for the other. `weight` for `weights`
/// scores 0.97, `context` for `batch` 0.54.
const ALIKE: f64 = 0.8;

/// The candidate most like `name`, if any is alike enough. Of equals the first one wins.
pub(crate) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let name = name.to_ascii_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let score = strsim::jaro_winkler(&name, &candidate.to_ascii_lowercase());
        if score >= ALIKE && best.is_none_or(|(most, _)| score > most) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `; did you mean `x`?`, or nothing.
pub(crate) fn did_you_mean<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |found| format!("; did you mean `{found}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let names = ["context", "batch", "kv_cache"];
        assert_eq!(nearest("contxt", names), Some("context"));
        assert_eq!(nearest("KV_Cache", names), Some("kv_cache"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(did_you_mean("bach", names), "; did you mean `batch`?");
    }
}
