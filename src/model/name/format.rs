//! The weight format that a model's name states, and the name without it.
//!
//! Quantizers put the format into the name of a copy: `-AWQ`, `-GPTQ-Int4`, `-FP8-dynamic`, `.Q5_K_M.gguf`,
//! `-bnb-4bit`, `mlx-community/...-4bit`. What is left is a list of lower-case words that two spellings of the
//! same model share: `Meta-Llama-3.1-8B` and `llama3.1-8b` are both `llama 3.1 8b`.

/// A name taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stem {
    /// The words of the name without those that state a format.
    pub(crate) words: Vec<String>,
    /// The format, by its name in `catalog/formats.yaml`.
    pub(crate) format: Option<String>,
    /// True when the name states a format that the catalog does not have.
    pub(crate) strange: bool,
}

/// Words that belong to a format and to nothing else.
const FORMAT_WORDS: [&str; 52] = [
    "awq",
    "gptq",
    "fp8",
    "nvfp4",
    "mxfp4",
    "mxfp8",
    "fp4",
    "int4",
    "int8",
    "w4a16",
    "w8a16",
    "w8a8",
    "w4a8",
    "w4a4",
    "bnb",
    "bitsandbytes",
    "nf4",
    "autoround",
    "4bit",
    "8bit",
    "3bit",
    "5bit",
    "6bit",
    "2bit",
    "mlx",
    "gguf",
    "exl2",
    "exl3",
    "dynamic",
    "block",
    "blockwise",
    "pertensor",
    "quantized",
    "quant",
    "128g",
    "64g",
    "32g",
    "fp16",
    "bf16",
    "f16",
    "hqq",
    "torchao",
    "marlin",
    "i1",
    "imat",
    "dwq",
    "qat",
    "smoothquant",
    "e4m3",
    "ud",
    "modelopt",
    "channelwise",
];

/// Takes a name apart. The organisation, if there is one, decides what `4bit` means.
pub(crate) fn stem(name: &str) -> Stem {
    let lower = name.to_ascii_lowercase();
    let (org, last) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let last = without_part_number(last.strip_suffix(".gguf").unwrap_or(last));
    let mut gguf = None;
    let mut words = Vec::new();
    for piece in pieces(last) {
        if let Some(format) = gguf_format(&piece) {
            gguf = Some(format);
        } else {
            words.extend(
                piece
                    .split('_')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned),
            );
        }
    }
    let words = joined(words);
    let (format_words, words): (Vec<String>, Vec<String>) = words
        .into_iter()
        .partition(|word| FORMAT_WORDS.contains(&word.as_str()) || word.ends_with("bpw"));
    let is_mlx = org.contains("mlx") || format_words.iter().any(|word| word == "mlx");
    let has = |word: &str| format_words.iter().any(|known| known == word);
    let format = gguf.clone().or_else(|| stated(&has, is_mlx).map(str::to_owned));
    let strange = format.is_none() && (has("exl2") || has("exl3") || has("hqq") || has("w4a4"));
    Stem {
        words: numbers_joined(words.iter().flat_map(|word| split_version(word)).collect()),
        format,
        strange,
    }
}

/// What the format words mean together.
fn stated(has: &dyn Fn(&str) -> bool, is_mlx: bool) -> Option<&'static str> {
    let bits8 = has("8bit") || has("int8");
    Some(match () {
        () if has("nvfp4") || has("fp4") => "nvfp4",
        () if has("mxfp4") => "mxfp4",
        () if has("mxfp8") => "mxfp8",
        () if has("fp8") && (has("block") || has("blockwise")) => "fp8-block",
        () if has("fp8") => "fp8",
        () if has("gptq") && bits8 => "gptq-int8",
        () if has("gptq") => "gptq-int4",
        () if has("awq") && bits8 => "w8a8-int8",
        () if has("awq") => "awq-int4",
        () if has("bnb") && has("8bit") => "bnb-8bit",
        () if has("bnb") || has("bitsandbytes") || has("nf4") => "nf4",
        () if is_mlx && bits8 => "int8",
        () if is_mlx && has("6bit") => "int6",
        () if is_mlx && has("5bit") => "int5",
        () if is_mlx && has("3bit") => "int3",
        () if is_mlx && has("4bit") => "int4",
        () if has("w8a8") || has("w8a16") || bits8 => "w8a8-int8",
        () if has("w4a16") || has("w4a8") || has("int4") || has("4bit") || has("autoround") => "w4a16",
        () if has("gguf") => "q4_K_M",
        () if has("bf16") || has("fp16") || has("f16") => "bf16",
        () => return None,
    })
}

/// Split at hyphens, at colons, and at the dot or underscore before a GGUF type.
fn pieces(name: &str) -> Vec<String> {
    let mut text = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        let rest = name.get(at + c.len_utf8()..).unwrap_or("");
        let type_follows = [
            "q2", "q3", "q4", "q5", "q6", "q8", "iq", "f16", "bf16", "w4a", "w8a", "gguf", "fp8",
        ]
        .iter()
        .any(|start| rest.starts_with(start));
        let splits =
            matches!(c, '-' | ':' | ' ' | '+' | ',' | '(' | ')') || (matches!(c, '.' | '_') && type_follows);
        text.push(if splits { '-' } else { c });
    }
    text.split('-')
        .filter(|piece| !piece.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `q4_k_m`, `q8_0`, `iq4_xs`, `q8_k_xl` as the catalog names them: unsloth's `_XL` mixes are near the next
/// smaller letter's.
fn gguf_format(piece: &str) -> Option<String> {
    let body = piece.strip_prefix("iq").or_else(|| piece.strip_prefix('q'))?;
    body.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
    let known = |name: &str| super::quantization::serving_format(name).map(|row| row.name.clone());
    let other = || {
        let base = piece
            .strip_suffix("_xl")
            .or_else(|| piece.strip_suffix("_l"))
            .unwrap_or(piece);
        match base {
            "q8_k" | "q8" => known("q8_0"),
            "q6" => known("q6_K"),
            base => known(&format!("{base}_m")).or_else(|| known(base)),
        }
    };
    known(piece).or_else(other)
}

/// `name-00001-of-00003` is a part of `name`.
fn without_part_number(name: &str) -> &str {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = name.rsplit_once("-of-").filter(|(_, total)| digits(total));
    let number = part
        .and_then(|(rest, _)| rest.rsplit_once('-'))
        .filter(|(_, number)| digits(number));
    number.map_or(name, |(stem, _)| stem)
}

/// Words that quantizers write in two: `auto round`, `per tensor`, `4 bit`.
fn joined(words: Vec<String>) -> Vec<String> {
    let pairs = [
        ("auto", "round"),
        ("per", "tensor"),
        ("4", "bit"),
        ("8", "bit"),
        ("static", "pertensor"),
    ];
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    for word in words {
        let before = out.last().map(String::as_str);
        if let Some((first, second)) = pairs
            .iter()
            .find(|(first, second)| before == Some(*first) && word == *second)
        {
            out.pop();
            out.push(format!("{first}{second}"));
        } else {
            out.push(word);
        }
    }
    out
}

/// `llama3.1` is `llama 3.1`; `v0.1`, `8b`, `a3b` and `r1` are one word.
fn split_version(word: &str) -> Vec<String> {
    let letters = word.chars().take_while(char::is_ascii_alphabetic).count();
    let (family, version) = word.split_at_checked(letters).unwrap_or((word, ""));
    if letters >= 3 && version.starts_with(|c: char| c.is_ascii_digit()) {
        vec![family.to_owned(), version.to_owned()]
    } else {
        vec![word.to_owned()]
    }
}

/// `3 3` and `3_1` are `3.3` and `3.1`: some file systems and registries know no dot. A leading `meta` adds
/// nothing to `llama`.
fn numbers_joined(words: Vec<String>) -> Vec<String> {
    let is_digit = |word: &str| word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_digit());
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    for word in words {
        match out.last_mut() {
            Some(last) if is_digit(last.strip_prefix('v').unwrap_or(last)) && is_digit(&word) => {
                *last = format!("{last}.{word}");
            }
            Some(last) if last == "meta" && word == "llama" => *last = word,
            _ => out.push(word),
        }
    }
    out
}
