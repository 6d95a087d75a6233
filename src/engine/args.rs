//! An engine's own arguments, read as the engine's parser would read them.
//!
//! In: the words of a manifest's `args`, each with its characters. Out: settings by id, what no flag claims, and
//! what is wrong with the rest. The flags and the habits of each parser are data (see [`super::flags`]); nothing
//! here judges a setting. Where a value is only known at run time (`$CTX`, `{{ .Values.ctx }}`) it is kept as
//! written and its setting is named as unresolved.

use serde_json::{Map, Value};

use super::flags::{Flag, FlagTable, Kind, ParserHabits, Takes};
use super::releases::Lacks;
use super::{Engine, Settings, Version};
use crate::fact::Fact;
use crate::source::{Sources, Span};

/// A flag that the engine does not have.
#[derive(Debug, Clone, PartialEq)]
pub struct UnknownFlag {
    /// The flag as written, without its value.
    pub flag: Fact<String>,
    /// A flag of the engine that looks like it.
    pub suggestion: Option<String>,
}

/// A flag that other releases of the engine have.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherRelease {
    /// The flag as written, without its value.
    pub flag: Fact<String>,
    /// The flag with its values, word by word.
    pub words: Vec<Fact<String>>,
    /// What is known of it.
    pub row: &'static Flag,
    /// True where the spelling turns it round.
    pub negated: bool,
    /// Why the release lacks it.
    pub lacks: Lacks,
}

/// What a command line says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParsedArgs {
    /// Settings by id; the last occurrence wins.
    pub settings: Settings,
    /// Words that no flag takes.
    pub positionals: Vec<Fact<String>>,
    /// Flags that the engine does not have.
    pub unknown: Vec<UnknownFlag>,
    /// Flags that the declared release lacks; without one, that the current release has no more.
    pub other_releases: Vec<OtherRelease>,
    /// What the engine's parser would refuse or misread, in a sentence.
    pub problems: Vec<(Span, String)>,
    /// What only some releases would refuse, where none is declared.
    pub doubts: Vec<(Span, String)>,
    /// The same setting with two values: the one that loses, and the one that wins.
    pub repeated: Vec<(Fact<String>, Fact<String>)>,
    /// Settings whose value is a variable or a placeholder.
    pub unresolved: Vec<String>,
}

/// Reads `args` as the engine would. `sources` holds the files that the words come from; it is asked for the
/// characters of a word when only a part of it is the value.
pub fn parse(
    engine: Engine,
    version: Option<Version>,
    args: &[Fact<String>],
    sources: &Sources,
) -> ParsedArgs {
    let table = FlagTable::of(engine);
    let mut reader = Reader {
        table,
        habits: table.habits,
        also_known: table.also_known.map(FlagTable::of),
        version,
        sources,
        words: args,
        at: 0,
        json: Vec::new(),
        parsed: ParsedArgs::default(),
    };
    reader.read();
    reader.parsed
}

/// Unknown flags that a known one is looked for.
const MAX_SUGGESTIONS: usize = 40;

struct Reader<'a> {
    table: &'static FlagTable,
    habits: ParserHabits,
    also_known: Option<&'static FlagTable>,
    version: Option<Version>,
    sources: &'a Sources,
    words: &'a [Fact<String>],
    /// The next word.
    at: usize,
    /// Keys given one by one to JSON flags, in order.
    json: Vec<(&'static Flag, String, Fact<String>)>,
    parsed: ParsedArgs,
}

/// A flag found for a word.
struct Found {
    flag: &'static Flag,
    negated: bool,
    /// The keys after the first dot.
    path: Option<String>,
    /// False for a flag that is only known not to be wrong: it sets nothing.
    sets: bool,
}

impl Found {
    fn new((flag, negated): (&'static Flag, bool)) -> Self {
        Self {
            flag,
            negated,
            path: None,
            sets: true,
        }
    }
}

impl<'a> Reader<'a> {
    fn read(&mut self) {
        while let Some(word) = self.next() {
            if word.value == "--" {
                self.parsed
                    .positionals
                    .extend(self.words.iter().skip(self.at).cloned());
                break;
            }
            if is_flag(&word.value) {
                self.flag(word);
            } else {
                self.parsed.positionals.push(word.clone());
            }
        }
        self.merge_json();
    }

    fn next(&mut self) -> Option<&'a Fact<String>> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn flag(&mut self, word: &'a Fact<String>) {
        let (name, inline) = match word.value.split_once('=') {
            Some((name, value)) => (name, Some(self.part(word, value))),
            None => (word.value.as_str(), None),
        };
        if let Some(found) = self.find(word, name) {
            if inline.is_some() && !self.habits.equals {
                let sentence =
                    format!("the value of `{name}` must be the next word: `{name}=` is not understood");
                self.problem(word, sentence);
            }
            self.take(word, name, &found, inline);
            return;
        }
        if let Some((found, name, value)) = self.joined(word) {
            self.take(word, name, &found, Some(value));
            return;
        }
        self.unknown(word, name);
        // What follows belongs to the unknown flag more likely than not.
        let follows = self.words.get(self.at).filter(|next| !is_flag(&next.value));
        if inline.is_none() && follows.is_some() {
            self.at += 1;
        }
    }

    fn find(&mut self, word: &Fact<String>, name: &str) -> Option<Found> {
        if let Some(found) = self.table.find(name) {
            return Some(Found::new(found));
        }
        if let Some(found) = self.also_known.and_then(|table| table.find(name)) {
            return Some(Found {
                sets: false,
                ..Found::new(found)
            });
        }
        self.json_key(name).or_else(|| self.beginning(word, name))
    }

    /// `--flag.key`: a key of a JSON flag.
    fn json_key(&self, name: &str) -> Option<Found> {
        let (head, path) = name.split_once('.').filter(|_| self.habits.dotted)?;
        let found = self
            .table
            .find(head)
            .filter(|(flag, _)| flag.kind == Kind::Json)?;
        Some(Found {
            path: Some(path.to_owned()),
            ..Found::new(found)
        })
    }

    /// The flag that a long name begins; of several the first, with a complaint.
    fn beginning(&mut self, word: &Fact<String>, name: &str) -> Option<Found> {
        if !self.habits.prefixes || !name.starts_with("--") || name.len() < 3 {
            return None;
        }
        let mut candidates = self.table.beginning_with(name);
        // One flag under several spellings is no ambiguity.
        candidates.dedup_by(|a, b| std::ptr::eq(a.1, b.1) && a.2 == b.2);
        if candidates.len() > 1 {
            let all: Vec<&str> = candidates.iter().map(|(known, ..)| *known).take(4).collect();
            self.problem(word, format!("`{name}` may be any of {}", all.join(", ")));
        }
        let (_, flag, negated) = candidates.first()?;
        Some(Found::new((flag, *negated)))
    }

    /// `-O3`: a flag of one letter with its value joined to it (argparse).
    fn joined(&self, word: &'a Fact<String>) -> Option<(Found, &'a str, Fact<String>)> {
        let text = word.value.as_str();
        if !self.habits.prefixes || text.starts_with("--") {
            return None;
        }
        let (name, value) = text.split_at_checked(2)?;
        let found = self
            .table
            .find(name)
            .filter(|(flag, _)| flag.takes == Takes::Value)?;
        Some((Found::new(found), name, self.part(word, value)))
    }

    /// A part of a word with the characters of that part, where these can be told; else of the whole word.
    fn part(&self, word: &Fact<String>, part: &str) -> Fact<String> {
        let place = word.span().and_then(|span| {
            let file = self.sources.get(span.file())?;
            let at = place_of_end(file.slice(span), &word.value, part)?;
            let start = span.start() + at;
            Some(file.span(start..start + part.len()))
        });
        match place {
            Some(span) => Fact::at(part.to_owned(), span),
            None => Fact {
                value: part.to_owned(),
                origin: word.origin.clone(),
            },
        }
    }

    /// Takes the value that a flag wants, and sets what the flag sets.
    fn take(&mut self, word: &'a Fact<String>, name: &str, found: &Found, inline: Option<Fact<String>>) {
        let first = self.at.saturating_sub(1);
        let value = self.value_of(word, name, found, inline);
        let lacks = found.flag.releases().lacking(self.version, self.table.version);
        if let Some(lacks) = lacks.filter(|_| found.sets) {
            let flag = self.name_of(word, name);
            let words = self.words.get(first..self.at).unwrap_or_default().to_vec();
            self.parsed.other_releases.push(OtherRelease {
                flag,
                words,
                row: found.flag,
                negated: found.negated,
                lacks,
            });
        }
        let Some(value) = value else { return };
        match &found.path {
            Some(path) => self.json.push((found.flag, path.clone(), value)),
            None if found.sets => self.assign(name, found.flag, value),
            None => {}
        }
    }

    /// The value that follows a flag, as its kind wants it.
    fn value_of(
        &mut self,
        word: &'a Fact<String>,
        name: &str,
        found: &Found,
        inline: Option<Fact<String>>,
    ) -> Option<Fact<String>> {
        match found.flag.takes {
            Takes::Switch | Takes::Negatable => Some(self.switch(word, name, found, inline)),
            Takes::Value => inline.or_else(|| self.value(word, name)),
            Takes::Optional => Some(self.optional(word, found, inline)),
            Takes::Many => inline.or_else(|| self.many(word, name)),
            Takes::Two => {
                let first = inline.or_else(|| self.value(word, name));
                first.and_then(|_| self.value(word, name))
            }
        }
    }

    fn value(&mut self, word: &Fact<String>, name: &str) -> Option<Fact<String>> {
        let greedy = self.habits.greedy;
        match self.words.get(self.at) {
            Some(next) if greedy || !is_flag(&next.value) => {
                self.at += 1;
                Some(next.clone())
            }
            _ => {
                self.problem(word, format!("`{name}` needs a value"));
                None
            }
        }
    }

    fn many(&mut self, word: &Fact<String>, name: &str) -> Option<Fact<String>> {
        let mut first = self.value(word, name)?;
        while let Some(next) = self.words.get(self.at).filter(|next| !is_flag(&next.value)) {
            self.at += 1;
            first.value.push(',');
            first.value.push_str(&next.value);
        }
        Some(first)
    }

    /// A value if one follows that can be meant for the flag; else the flag is a switch (llama.cpp's `-fa` was one
    /// before it took `on`, `off` and `auto`).
    fn optional(&mut self, word: &Fact<String>, found: &Found, inline: Option<Fact<String>>) -> Fact<String> {
        let greedy = self.habits.greedy;
        let follows = self
            .words
            .get(self.at)
            .filter(|next| is_choice(&next.value) || !greedy && !is_flag(&next.value));
        match (inline, follows) {
            (Some(value), _) => value,
            (None, Some(next)) => {
                self.at += 1;
                next.clone()
            }
            (None, None) => word.clone().map(|_| found.flag.switched(found.negated)),
        }
    }

    fn switch(
        &mut self,
        word: &Fact<String>,
        name: &str,
        found: &Found,
        inline: Option<Fact<String>>,
    ) -> Fact<String> {
        let follows = self
            .words
            .get(self.at)
            .filter(|next| truth(&next.value).is_some());
        let given = inline.or_else(|| {
            let next = follows?;
            self.at += 1;
            Some(next.clone())
        });
        let Some(given) = given else {
            return word.clone().map(|_| found.flag.switched(found.negated));
        };
        let sentence = |since: &str| {
            let given = &given.value;
            format!("`{name}` is a switch{since} and takes no value, `{given}` is given")
        };
        match found.flag.takes_truth(self.version) {
            Some(true) => {}
            Some(false) => self.problem(&given, sentence("")),
            None => self.doubt(&given, sentence(" in newer releases")),
        }
        // What was meant is what counts from here on.
        let off = truth(&given.value) == Some(false);
        given.map(|_| found.flag.switched(found.negated != off))
    }

    fn assign(&mut self, name: &str, flag: &'static Flag, value: Fact<String>) {
        let Some(setting) = flag.setting.as_deref() else {
            return;
        };
        if is_placeholder(&value.value) {
            self.parsed.unresolved.push(setting.to_owned());
            self.set(setting, value);
            return;
        }
        match read(flag.kind, &value.value, self.habits) {
            Ok(text) => {
                let value = value.map(|_| text);
                if flag.kind == Kind::Json {
                    self.flatten(flag, setting, &value);
                }
                self.set(setting, value);
            }
            Err(Misread { text, problem }) => {
                self.problem(&value, format!("`{name}` {problem}"));
                self.set(setting, value.map(|_| text));
            }
        }
    }

    fn set(&mut self, setting: &str, value: Fact<String>) {
        if let Some(before) = self.parsed.settings.set(setting, value.clone())
            && before.value != value.value
        {
            self.parsed.repeated.push((before, value));
        }
    }

    /// Sets the scalar keys of a JSON object: `speculative_config.method` and so on.
    fn flatten(&mut self, flag: &'static Flag, setting: &str, json: &Fact<String>) {
        let Ok(Value::Object(keys)) = serde_json::from_str(&json.value) else {
            return;
        };
        for (key, value) in &keys {
            let Some(text) = scalar(value) else { continue };
            self.set_key(flag, setting, key, &json.clone().map(|_| text));
        }
    }

    fn set_key(&mut self, flag: &'static Flag, setting: &str, key: &str, value: &Fact<String>) {
        let own = format!("{setting}.{key}");
        let ids = [flag.keys.get(key).map(String::as_str), Some(own.as_str())];
        for id in ids.into_iter().flatten() {
            if is_placeholder(&value.value) {
                self.parsed.unresolved.push(id.to_owned());
            }
            self.set(id, value.clone());
        }
    }

    /// Puts keys that were given one by one into their JSON setting, after any whole value (vLLM,
    /// `FlexibleArgumentParser.parse_args`).
    fn merge_json(&mut self) {
        for (flag, path, value) in std::mem::take(&mut self.json) {
            let Some(setting) = flag.setting.as_deref() else {
                continue;
            };
            let whole = self.parsed.settings.text(setting).unwrap_or("{}");
            let mut whole = serde_json::from_str(whole).unwrap_or_else(|_| Value::Object(Map::new()));
            if insert(&mut whole, &path, &value.value) {
                let merged = value.clone().map(|_| whole.to_string());
                // A further key is no second value of the setting.
                self.parsed.settings.set(setting, merged);
            }
            self.set_key(flag, setting, path.trim_end_matches('+'), &value);
        }
    }

    /// A flag's name with its characters, without its value.
    fn name_of(&self, word: &Fact<String>, name: &str) -> Fact<String> {
        match self.front(word, name) {
            Some(span) => Fact::at(name.to_owned(), span),
            None => word.clone().map(|_| name.to_owned()),
        }
    }

    fn unknown(&mut self, word: &Fact<String>, name: &str) {
        let flag = self.name_of(word, name);
        // Whoever has this many has no misspelt flags but another program's.
        let few = self.parsed.unknown.len() < MAX_SUGGESTIONS;
        let suggestion = if few {
            self.table.nearest(name, self.version)
        } else {
            None
        };
        self.parsed.unknown.push(UnknownFlag { flag, suggestion });
    }

    /// The characters of a flag's name, without its value.
    fn front(&self, word: &Fact<String>, name: &str) -> Option<Span> {
        let span = word.span()?;
        let file = self.sources.get(span.file())?;
        let start = span.start() + file.slice(span).find(name)?;
        Some(file.span(start..start + name.len()))
    }

    fn problem(&mut self, at: &Fact<String>, sentence: String) {
        if let Some(span) = at.span() {
            self.parsed.problems.push((span, sentence));
        }
    }

    fn doubt(&mut self, at: &Fact<String>, sentence: String) {
        if let Some(span) = at.span() {
            self.parsed.doubts.push((span, sentence));
        }
    }
}

/// Where in the characters of a word stands `part`, which ends the word: the word stands there as it is (quotes of
/// YAML around it do not matter), or the value alone stands in quotes of a shell.
fn place_of_end(characters: &str, word: &str, part: &str) -> Option<usize> {
    if part.is_empty() {
        return None;
    }
    if let Some(at) = characters.find(word) {
        return Some(at + word.len().checked_sub(part.len())?);
    }
    ['\'', '"'].iter().find_map(|quote| {
        let at = characters.find(&format!("={quote}{part}{quote}"))?;
        Some(at + 2)
    })
}

/// A value that the engine refuses or reads as something else.
struct Misread {
    /// What counts from here on.
    text: String,
    /// The rest of a sentence that begins with the flag.
    problem: String,
}

/// A value as the engine reads it: whole numbers without suffixes, the rest as it stands.
fn read(kind: Kind, text: &str, habits: ParserHabits) -> Result<String, Misread> {
    let refused = |wanted: &str| Misread {
        text: text.to_owned(),
        problem: format!("takes {wanted}, `{text}` is none"),
    };
    let trimmed = text.trim();
    match kind {
        Kind::Text => Ok(text.to_owned()),
        Kind::Json => json(text),
        Kind::Number => match trimmed.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(trimmed.to_owned()),
            _ => Err(refused("a number")),
        },
        Kind::Count if habits.stoi => leading_integer(trimmed, text, &refused),
        Kind::Count => integer(trimmed).ok_or_else(|| refused("a whole number")),
        Kind::HumanOrAuto if trimmed == "-1" || trimmed.eq_ignore_ascii_case("auto") => Ok("auto".to_owned()),
        Kind::Human | Kind::HumanOrAuto => {
            human(trimmed).ok_or_else(|| refused("a whole number (1k is 1000, 1K is 1024)"))
        }
        Kind::Bytes => {
            decimal_bytes(trimmed).ok_or_else(|| refused("bytes, with M or G for millions or billions"))
        }
    }
}

/// JSON where the text begins like an object or a list. What else a JSON flag takes (`image=4` in older releases,
/// a bare number, a name) is the engine's to judge.
fn json(text: &str) -> Result<String, Misread> {
    let wrong = serde_json::from_str::<serde::de::IgnoredAny>(text).err();
    match wrong.filter(|_| text.trim_start().starts_with(['{', '['])) {
        None => Ok(text.to_owned()),
        Some(error) => Err(Misread {
            text: text.to_owned(),
            problem: format!("takes JSON: {error}"),
        }),
    }
}

/// Python's `int()`: digits with a sign, single underscores between them.
fn integer(text: &str) -> Option<String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let well_formed = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && !digits.contains("__")
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    well_formed.then(|| text.trim_start_matches('+').replace('_', ""))
}

/// C++'s `std::stoi`: what comes after the digits is dropped in silence.
fn leading_integer(trimmed: &str, text: &str, refused: &dyn Fn(&str) -> Misread) -> Result<String, Misread> {
    let sign = usize::from(trimmed.starts_with(['-', '+']));
    let end = trimmed
        .char_indices()
        .find(|(at, c)| *at >= sign && !c.is_ascii_digit())
        .map_or(trimmed.len(), |(at, _)| at);
    let number = trimmed
        .get(..end)
        .filter(|_| end > sign)
        .ok_or_else(|| refused("a whole number"))?;
    let number = number.trim_start_matches('+').to_owned();
    if end == trimmed.len() {
        return Ok(number);
    }
    Err(Misread {
        problem: format!("reads `{text}` as {number}: it takes digits only"),
        text: number,
    })
}

/// vLLM's and SGLang's `human_readable_int`: `1k` is 1000, `1K` is 1024; a fraction only with a small letter.
fn human(text: &str) -> Option<String> {
    let Some((at, letter)) = text
        .char_indices()
        .next_back()
        .filter(|(_, c)| c.is_ascii_alphabetic())
    else {
        return integer(text);
    };
    let power = match letter.to_ascii_lowercase() {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        _ => return None,
    };
    let number = text.get(..at)?;
    if letter.is_ascii_uppercase() {
        let number: u64 = number.parse().ok().filter(|_| !number.starts_with('+'))?;
        return Some(number.checked_mul(1024_u64.checked_pow(power)?)?.to_string());
    }
    decimal(number, 1000_u64.checked_pow(power)?)
}

/// mlx-lm's `_parse_size`: `M`, `MB`, `G`, `GB` are powers of 1000, in any case.
fn decimal_bytes(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let unit = match text.get(end..)?.trim().to_ascii_uppercase().as_str() {
        "" => 1,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        _ => return None,
    };
    decimal(text.get(..end)?, unit)
}

/// A number with a fraction times `unit`, in whole units of one.
fn decimal(number: &str, unit: u64) -> Option<String> {
    let well_formed = number.starts_with(|c: char| c.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if let Some(product) = number
        .parse::<u64>()
        .ok()
        .and_then(|whole| whole.checked_mul(unit))
    {
        return well_formed.then(|| product.to_string());
    }
    let product = number.parse::<f64>().ok().filter(|_| well_formed)? * unit as f64;
    (product < 9e15).then(|| format!("{:.0}", product.floor()))
}

/// The truth of a word that people write after a switch.
fn truth(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A value of flags that may stand without one.
fn is_choice(word: &str) -> bool {
    matches!(
        word.to_ascii_lowercase().as_str(),
        "on" | "off" | "auto" | "true" | "false" | "0" | "1" | "enabled" | "disabled"
    )
}

/// True for a word that the parser takes for a flag: a dash in front, not a negative number, and (argparse)
/// no blank inside.
fn is_flag(word: &str) -> bool {
    let Some(rest) = word.strip_prefix('-') else {
        return false;
    };
    let number = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') && rest.parse::<f64>().is_ok();
    let head = word.split('=').next().unwrap_or(word);
    !rest.is_empty() && !number && !head.contains(char::is_whitespace)
}

/// A value that a shell, a chart or a person fills in later: `${CTX}`, `{{ .Values.ctx }}`, `<YOUR-MODEL>`,
/// `V_MODEL_NAME`, `CHANGEME`, `%MODEL%`, `@MODEL@`, `__MODEL__`.
pub fn is_placeholder(value: &str) -> bool {
    if value.contains("{{") {
        return true;
    }
    // JSON may hold a dollar, and a template's `<|end|>`, for itself.
    if value.trim_start().starts_with('{') {
        return false;
    }
    value.contains('$')
        || value.split('<').skip(1).any(is_in_brackets)
        || value
            .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '%' | '@'))
            .any(is_stand_in)
}

/// True for what follows a `<` where it is a name up to a `>`.
fn is_in_brackets(rest: &str) -> bool {
    let Some((name, _)) = rest.split_once('>') else {
        return false;
    };
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.' | '/'))
}

/// True for a word that people write where a value is still to come.
fn is_stand_in(word: &str) -> bool {
    const WORDS: [&str; 8] = [
        "changeme",
        "change-me",
        "replaceme",
        "replace-me",
        "replaced-by-kustomize",
        "placeholder",
        "fill-me-in",
        "to-be-replaced",
    ];
    const ENDS: [&str; 9] = [
        "_NAME", "_ID", "_PATH", "_VERSION", "_TAG", "_REPO", "_URL", "_DIR", "_HERE",
    ];
    let lower = word.to_ascii_lowercase().replace('_', "-");
    let upper = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let between = |sign: char| {
        let inner = word.strip_prefix(sign).and_then(|rest| rest.strip_suffix(sign));
        inner.is_some_and(|name| name.len() > 1 && upper(name))
    };
    let dunder = word.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    WORDS.contains(&lower.as_str())
        || dunder.is_some_and(upper)
        || lower.starts_with("your-")
        || word.strip_prefix("V_").is_some_and(upper)
        || (upper(word)
            && ENDS
                .iter()
                .any(|end| word.ends_with(end) && word.len() > end.len()))
        || between('%')
        || between('@')
}

/// A JSON scalar as settings hold it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Puts `text` (JSON, or else a string) under the keys of `path`; with a `+` at the end it is added to a list.
/// False for a path of more keys than a person writes.
fn insert(whole: &mut Value, path: &str, text: &str) -> bool {
    if path.split('.').count() > 16 {
        return false;
    }
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut place = whole;
    for key in path.trim_end_matches('+').split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Some(object) = place.as_object_mut() else {
            return false;
        };
        place = object.entry(key.to_owned()).or_insert(Value::Null);
    }
    if !path.ends_with('+') {
        *place = value;
        return true;
    }
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    if let Some(list) = place.as_array_mut() {
        list.push(value);
    }
    true
}

#[cfg(test)]
mod tests;
