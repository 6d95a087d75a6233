//! GGUF files of a repository, the parts of split ones put together, and the mix of types in their names.

use std::collections::BTreeMap;

use super::fetch::is_companion;

/// A GGUF file, in one part or several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GgufSet {
    /// Paths and bytes of the parts in order; none where parts are absent.
    pub(super) parts: Vec<(String, Option<u64>)>,
    /// The mix of types: `Q4_K_M`.
    pub(super) quantization: Option<String>,
}

impl GgufSet {
    /// All files by the path of their first part. Projectors and importance matrices are not among them.
    pub(super) fn all(files: &BTreeMap<String, Option<u64>>) -> BTreeMap<String, Self> {
        let mut sets = BTreeMap::new();
        for (path, bytes) in files.iter().filter(|(path, _)| !is_companion(path)) {
            let (stem, split) = parts_of(path);
            let set = Self {
                parts: vec![(path.clone(), *bytes)],
                quantization: quantization(stem),
            };
            match split {
                None => drop(sets.insert(path.clone(), set)),
                Some((1, total)) => {
                    let parts = (1..=total).map(|number| {
                        let path = part_path(path, stem, number, total);
                        files.get(&path).map(|bytes| (path.clone(), *bytes))
                    });
                    let parts: Option<Vec<_>> = parts.collect();
                    let parts = parts.unwrap_or_default();
                    sets.insert(path.clone(), Self { parts, ..set });
                }
                Some(_) => {}
            }
        }
        sets
    }

    /// Bytes of all parts.
    pub(super) fn bytes(&self) -> u64 {
        let known = self.parts.iter().filter_map(|(_, bytes)| *bytes);
        known.fold(0, u64::saturating_add)
    }

    /// The path of the first part of the file that a part belongs to.
    pub(super) fn first_part(path: &str) -> Option<String> {
        let (stem, split) = parts_of(path);
        split.map(|(_, total)| part_path(path, stem, 1, total))
    }
}

/// The name without its end, and which part of how many it is (llama.cpp, `llama_split_prefix`).
fn parts_of(path: &str) -> (&str, Option<(u64, u64)>) {
    let stem = path.get(..path.len().saturating_sub(5)).unwrap_or(path);
    let digits = |text: &str| (text.len() == 5).then(|| text.parse::<u64>().ok()).flatten();
    let split = stem.rsplit_once("-of-").and_then(|(rest, total)| {
        let (prefix, number) = rest.rsplit_once('-')?;
        let (number, total) = (digits(number)?, digits(total)?);
        (number >= 1 && number <= total && total <= 9999).then_some((prefix, (number, total)))
    });
    split.map_or((stem, None), |(prefix, numbers)| (prefix, Some(numbers)))
}

fn part_path(path: &str, stem: &str, number: u64, total: u64) -> String {
    let end = path.get(path.len().saturating_sub(5)..).unwrap_or(".gguf");
    format!("{stem}-{number:05}-of-{total:05}{end}")
}

/// The mix of types that a file's name ends with: `Q4_K_M`, `UD-Q4_K_XL`, `IQ4_XS`, `F16`, upper case.
fn quantization(stem: &str) -> Option<String> {
    let name = stem.rsplit('/').next()?;
    let (before, last) = name.rsplit_once(['-', '.'])?;
    let mix = last.to_ascii_uppercase();
    let quantized = |start: &str| {
        mix.strip_prefix(start)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let known = ["Q", "IQ", "TQ", "MXFP", "NVFP"].into_iter().any(quantized)
        || matches!(mix.as_str(), "F16" | "BF16" | "F32" | "FP16" | "FP32");
    let dynamic = before.to_ascii_uppercase().ends_with("-UD");
    known.then(|| if dynamic { format!("UD-{mix}") } else { mix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_the_last_word_of_the_name() {
        for (stem, mix) in [
            ("Llama-3.1-8B-Instruct-Q4_K_M", Some("Q4_K_M")),
            ("qwen2.5-7b-instruct-q8_0", Some("Q8_0")),
            ("model.IQ4_XS", Some("IQ4_XS")),
            ("UD-Q4_K_XL/DeepSeek-R1-UD-Q4_K_XL", Some("UD-Q4_K_XL")),
            ("gpt-oss-20b-mxfp4", Some("MXFP4")),
            ("bitnet-TQ1_0", Some("TQ1_0")),
            ("gemma-3-27b-it-BF16", Some("BF16")),
            ("Qwen3-8B", None),
            ("Quill-Queen", None),
            ("model", None),
        ] {
            assert_eq!(quantization(stem).as_deref(), mix, "{stem}");
        }
    }

    #[test]
    fn parts_are_one_file_and_companions_are_none() {
        let files: BTreeMap<String, Option<u64>> = [
            ("a-Q4_K_M.gguf", 10),
            ("q8/a-Q8_0-00001-of-00002.gguf", 20),
            ("q8/a-Q8_0-00002-of-00002.gguf", 21),
            ("b-Q2_K-00001-of-00003.gguf", 5),
            ("mmproj-a-f16.gguf", 1),
            ("a.imatrix.gguf", 1),
            ("README.md", 1),
        ]
        .into_iter()
        .map(|(path, bytes)| (path.to_owned(), Some(bytes)))
        .collect();
        let sets = GgufSet::all(&files);
        let told: Vec<_> = sets
            .iter()
            .map(|(path, set)| (path.as_str(), set.parts.len(), set.bytes()))
            .collect();
        assert_eq!(
            told,
            [
                ("a-Q4_K_M.gguf", 1, 10),
                ("b-Q2_K-00001-of-00003.gguf", 0, 0),
                ("q8/a-Q8_0-00001-of-00002.gguf", 2, 41),
            ]
        );
    }
}
