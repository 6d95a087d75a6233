//! An engine's own settings by id, from wherever a manifest declares them.
//!
//! Ids are the same for every engine (`tensor_parallel`, `memory_fraction`, `max_sequences`, ...); which flag
//! sets which id is data in `catalog/engines`. Every value keeps the characters that set it.

use std::collections::BTreeMap;

use crate::fact::Fact;

/// Settings by id. Values are as written; the typed getters read them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    values: BTreeMap<String, Fact<String>>,
}

impl Settings {
    /// Sets an id, and returns what it was before.
    pub fn set(&mut self, id: impl Into<String>, value: Fact<String>) -> Option<Fact<String>> {
        self.values.insert(id.into(), value)
    }

    /// Keeps what `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Fact<String>) -> bool) {
        self.values.retain(|id, value| keep(id, value));
    }

    /// The value as written.
    pub fn get(&self, id: &str) -> Option<&Fact<String>> {
        self.values.get(id)
    }

    /// The text of a value.
    pub fn text(&self, id: &str) -> Option<&str> {
        self.get(id).map(|fact| fact.value.as_str())
    }

    /// A whole number, `k`, `m` and `g` suffixes included (see [`parse_count`]).
    pub fn count(&self, id: &str) -> Option<u64> {
        parse_count(self.text(id)?)
    }

    /// A finite number.
    pub fn number(&self, id: &str) -> Option<f64> {
        self.text(id)?
            .trim()
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
    }

    /// A switch: present without a value or with a true one; `None` when absent or unreadable.
    pub fn flag(&self, id: &str) -> Option<bool> {
        Self::truth(self.text(id)?)
    }

    /// What a switch's value says; `None` for anything but a yes or a no.
    pub fn truth(text: &str) -> Option<bool> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "true" | "1" | "on" | "yes" => Some(true),
            "false" | "0" | "off" | "no" => Some(false),
            _ => None,
        }
    }

    /// The setting by which someone chose what stays in host memory (llama.cpp, Ollama).
    pub fn offload(&self) -> Option<&Fact<String>> {
        ["gpu_layers", "num_gpu", "n_cpu_moe", "cpu_moe", "kv_offload"]
            .iter()
            .find_map(|id| self.get(id))
    }

    /// Every setting in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact<String>)> {
        self.values.iter().map(|(id, fact)| (id.as_str(), fact))
    }
}

/// A count of tokens or sequences: `8192`, `8k`, `8K` (1024), `1m` (1024 x 1024), `8_192`.
pub fn parse_count(text: &str) -> Option<u64> {
    let text = text.trim().replace('_', "");
    let (digits, factor) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (text.get(..at)?, 1024.0),
        (at, 'm' | 'M') => (text.get(..at)?, 1024.0 * 1024.0),
        _ => return text.parse().ok(),
    };
    if let Ok(whole) = digits.parse::<u64>() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1024 or 1024 x 1024"
        )]
        return whole.checked_mul(factor as u64);
    }
    let value = digits.parse::<f64>().ok().filter(|value| *value >= 0.0)? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and small"
    )]
    (value.fract() == 0.0 && value < 1e15).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_binary_suffixes_and_refuse_all_else() {
        assert_eq!(parse_count("8192"), Some(8192));
        assert_eq!(parse_count(" 8k "), Some(8192));
        assert_eq!(parse_count("1M"), Some(1 << 20));
        assert_eq!(parse_count("1.5k"), Some(1536));
        for wrong in [
            "",
            "k",
            "-1",
            "8kk",
            "1e3",
            "0.3k",
            "99999999999999999999",
            "18446744073709551615k",
        ] {
            assert_eq!(parse_count(wrong), None, "{wrong}");
        }
    }
}
