//! Ollama Modelfiles: lines of instructions, no YAML.
//!
//! In: the text. Out: one deployment on Ollama with its model, parameters and adapter, each with its characters.
//! Read as Ollama's own parser does (`parser/parser.go`, `ParseFile`); a file that only has the name of a Modelfile
//! is left alone. No machine is named here, and the server's own settings are elsewhere.

use std::ops::Range;

use super::{Declared, Deployment, Format, Parsed, World, plain_keys};
use crate::engine::Engine;
use crate::engine::flags::FlagTable;
use crate::fact::Fact;
use crate::source::SourceFile;
use crate::source::tree::Comment;

/// True for the name of a Modelfile: `Modelfile`, `Modelfile.chat`, `chat.modelfile`.
pub fn is_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let template = [
        ".md", ".yaml", ".yml", ".json", ".py", ".go", ".ts", ".js", ".rs", ".sh",
    ];
    lower == "modelfile"
        || lower.ends_with(".modelfile")
        || lower.starts_with("modelfile.") && !template.iter().any(|end| lower.ends_with(end))
}

/// Reads a Modelfile.
pub fn read(file: &Parsed, _world: &World) -> Declared {
    let mut declared = Declared::default();
    let source = &file.source;
    if let Some(instructions) = instructions(source.text()) {
        declared.deployments.extend(deployment(file, &instructions));
    }
    declared
}

/// The comment lines, for suppression.
pub fn comments(source: &SourceFile) -> Vec<Comment> {
    let mut scanner = Scanner::new(source.text());
    while scanner.next().is_some() {}
    let comment = |range: Range<usize>| {
        let text = source
            .text()
            .get(range.start + 1..range.end)
            .unwrap_or("")
            .to_owned();
        let span = source.span(range);
        Comment { span, text }
    };
    scanner.comments.into_iter().map(comment).collect()
}

/// One instruction: its name, and the characters of its value without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Instruction<'t> {
    name: &'t str,
    value: Range<usize>,
}

/// Instructions of Ollama, lower case (`parser/parser.go`, `isValidCommand`, and the newer ones).
const KNOWN: [&str; 11] = [
    "from",
    "parameter",
    "adapter",
    "template",
    "system",
    "message",
    "license",
    "renderer",
    "parser",
    "requires",
    "draft",
];

/// Instructions whose text people write over several lines without quotes. Ollama refuses such a file; what it sets
/// is plain all the same.
const PROSE: [&str; 4] = ["template", "system", "message", "license"];

/// The instructions of a Modelfile; `None` for a text that is none.
fn instructions(text: &str) -> Option<Vec<Instruction<'_>>> {
    let mut known = Vec::new();
    let mut in_prose = false;
    for instruction in Scanner::new(text) {
        let name = instruction.name.to_ascii_lowercase();
        if KNOWN.contains(&name.as_str()) {
            in_prose = PROSE.contains(&name.as_str());
            known.push(instruction);
        } else if !in_prose {
            return None;
        }
    }
    let from = |instruction: &Instruction<'_>| instruction.name.eq_ignore_ascii_case("from");
    known.iter().any(from).then_some(known)
}

fn deployment(file: &Parsed, instructions: &[Instruction<'_>]) -> Option<Deployment> {
    let source = &file.source;
    let text = source.text();
    let fact = |range: &Range<usize>| {
        let value = text.get(range.clone()).filter(|value| !value.is_empty())?;
        Some(Fact::at(value.to_owned(), source.span(range.clone())))
    };
    let named = |name: &str| {
        let found = instructions
            .iter()
            .filter(|instruction| instruction.name.eq_ignore_ascii_case(name))
            .filter_map(|instruction| fact(&instruction.value));
        found.collect::<Vec<_>>()
    };
    let mut models = named("from").into_iter();
    let model = models.next()?;
    let whole = source.span(0..text.len());
    let mut found = Deployment::new(model.clone(), source.id(), whole, Format::Modelfile);
    found.engine = Some(Fact::derived(Engine::Ollama, [whole]));
    plain_keys::declare_model(&mut found, model);
    // Ollama tells a projector by the type in its header; a second file is one in practice.
    if let Some(projector) = models.next() {
        found.settings.set("mmproj", projector);
    }
    if let Some(adapter) = named("adapter").into_iter().next() {
        found.settings.set("lora", adapter);
    }
    if let Some(draft) = named("draft").into_iter().next() {
        found.settings.set("draft_model", draft);
    }
    for instruction in instructions {
        if instruction.name.eq_ignore_ascii_case("parameter") {
            parameter(&mut found, text, &instruction.value, fact);
        }
    }
    Some(found)
}

/// `PARAMETER name value`. The last of several counts, as in a map of options.
fn parameter(
    deployment: &mut Deployment,
    text: &str,
    line: &Range<usize>,
    fact: impl Fn(&Range<usize>) -> Option<Fact<String>>,
) {
    let whole = text.get(line.clone()).unwrap_or("");
    let Some(end) = whole.find(char::is_whitespace) else {
        return;
    };
    let (name, rest) = whole.split_at(end);
    let start = line.start + end + (rest.len() - rest.trim_start().len());
    let value = unquoted(text, start..line.end);
    let flag = format!("--{}", name.to_ascii_lowercase().replace('_', "-"));
    let setting = FlagTable::of(Engine::Ollama)
        .find(&flag)
        .and_then(|(flag, _)| flag.setting.as_deref());
    if let (Some(id), Some(value)) = (setting, fact(&value)) {
        plain_keys::declare(deployment, id, value);
    }
}

/// The characters of a value without blanks around it and without its quotes.
fn unquoted(text: &str, range: Range<usize>) -> Range<usize> {
    let range = trimmed(text, range);
    let value = text.get(range.clone()).unwrap_or("");
    for quote in QUOTES {
        let closed = value.len() >= 2 * quote.len() && value.starts_with(quote) && value.ends_with(quote);
        if closed {
            return trimmed(text, range.start + quote.len()..range.end - quote.len());
        }
    }
    range
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let value = text.get(range.clone()).unwrap_or("");
    let start = range.start + (value.len() - value.trim_start().len());
    start..start + value.trim().len()
}

/// Cuts a text into instructions and comments.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    comments: Vec<Range<usize>>,
    /// Quotes that nothing in the rest of the text closes.
    unclosed: Vec<&'static str>,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        let at = text.len() - text.trim_start_matches('\u{feff}').len();
        Self {
            text,
            at,
            comments: Vec::new(),
            unclosed: Vec::new(),
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// One past the last character of the line that holds `at`, its line break left out.
    fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or("");
        at + rest.find('\n').unwrap_or(rest.len())
    }

    /// Where a value that begins at `start` ends: with its line, or with the line that closes the quotes it opens.
    /// Quotes that are never closed end with their line, so that what follows is still read.
    fn value_end(&mut self, start: usize) -> usize {
        let text = self.text;
        let value = text.get(start..).unwrap_or("");
        let first = self.line_end(start);
        let Some(quote) = QUOTES.into_iter().find(|quote| value.starts_with(quote)) else {
            return first;
        };
        let mut end = first;
        while !self.unclosed.contains(&quote) {
            let so_far = text.get(start + quote.len()..end).unwrap_or("");
            if so_far.trim_end().ends_with(quote) {
                return end;
            }
            if end >= text.len() {
                // Nothing after closes them either; not looking again keeps a hostile file linear.
                self.unclosed.push(quote);
            }
            end = self.line_end((end + 1).min(text.len()));
        }
        first
    }
}

/// What encloses a value, the longer first.
const QUOTES: [&str; 2] = ["\"\"\"", "\""];

impl<'t> Iterator for Scanner<'t> {
    type Item = Instruction<'t>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest();
            let body = rest.trim_start();
            self.at += rest.len() - body.len();
            if !body.starts_with('#') {
                break;
            }
            let end = self.line_end(self.at);
            self.comments.push(trimmed(self.text, self.at..end));
            self.at = end;
        }
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        let name_len = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let name = rest.get(..name_len).unwrap_or("");
        let line_end = self.line_end(self.at);
        let blanks = self.text.get(self.at + name_len..line_end).unwrap_or("");
        let start = self.at + name_len + (blanks.len() - blanks.trim_start().len());
        let end = self.value_after(name, start);
        self.at = end;
        Some(Instruction {
            name,
            value: if name.eq_ignore_ascii_case("parameter") {
                trimmed(self.text, start..end)
            } else {
                unquoted(self.text, start..end)
            },
        })
    }
}

impl Scanner<'_> {
    /// The end of an instruction's value. That of PARAMETER and MESSAGE follows a word, and may be quoted too.
    fn value_after(&mut self, name: &str, start: usize) -> usize {
        if !["parameter", "message"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            return self.value_end(start);
        }
        let line = self.text.get(start..self.line_end(start)).unwrap_or("");
        let word = line.find(char::is_whitespace).unwrap_or(line.len());
        let rest = line.get(word..).unwrap_or("");
        self.value_end(start + word + (rest.len() - rest.trim_start().len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::fixtures::{deployments, one, survives, world};
    use crate::source::{FileId, SourceFile};

    const FULL: &str = "# a coder\nFROM hf.co/org/Model-GGUF:Q5_K_M\nFROM ./mmproj.gguf\nADAPTER ./lora.gguf\nPARAMETER num_ctx 40960\nparameter NUM_GPU 99\nPARAMETER stop \"<|im_end|>\"\nTEMPLATE \"\"\"{{ if .System }}FROM inside\nPARAMETER num_ctx 1\n{{ end }}\"\"\"\nSYSTEM \"\"\"\"Be brief.\"\"\"\"\n#PARAMETER num_ctx 2\n";

    fn setting<'d>(deployment: &'d Deployment, id: &str) -> Option<&'d str> {
        deployment.settings.text(id)
    }

    #[test]
    fn names_of_modelfiles_are_known() {
        for name in [
            "Modelfile",
            "Modelfile.chat",
            "modelfile",
            "qwen.modelfile",
            "qwen.Modelfile",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "Modelfile.md",
            "Dockerfile",
            "Modelfiles",
            "modelfile.py",
            "my-Modelfile",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn every_instruction_is_read_and_text_in_quotes_is_not() {
        let found = one("Modelfile", FULL);
        assert_eq!(
            found.model.as_ref().map(|model| model.value.as_str()),
            Some("hf.co/org/Model-GGUF:Q5_K_M")
        );
        assert_eq!(setting(&found, "num_ctx"), Some("40960"));
        assert_eq!(setting(&found, "num_gpu"), Some("99"));
        assert_eq!(setting(&found, "mmproj"), Some("./mmproj.gguf"));
        assert_eq!(setting(&found, "lora"), Some("./lora.gguf"));
    }

    #[test]
    fn values_have_their_own_characters() {
        let text = "FROM  qwen3:8b \r\nPARAMETER   num_ctx\t 8192 \r\n";
        let world = world(&[("Modelfile", text)]);
        let found = read(&world.files()[0], &world).deployments.remove(0);
        let shown = |fact: &Fact<String>| {
            let span = fact.span().unwrap();
            world.source(span.file()).unwrap().slice(span).to_owned()
        };
        assert_eq!(shown(found.model.as_ref().unwrap()), "qwen3:8b");
        assert_eq!(shown(found.settings.get("num_ctx").unwrap()), "8192");
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(
            setting(&one("Modelfile", "FROM a\nPARAMETER num_ctx 1024"), "num_ctx"),
            Some("1024")
        );
    }

    #[test]
    fn the_last_of_several_parameters_counts() {
        let text = "FROM a\nPARAMETER num_ctx 1\nPARAMETER num_ctx \"2\"\n";
        assert_eq!(setting(&one("Modelfile", text), "num_ctx"), Some("2"));
    }

    #[test]
    fn prose_over_several_lines_without_quotes_hides_nothing() {
        let text = "FROM a\nSYSTEM You are brief.\nAnd polite, always.\nPARAMETER num_ctx 2048\n";
        assert_eq!(setting(&one("Modelfile", text), "num_ctx"), Some("2048"));
    }

    #[test]
    fn quotes_that_never_close_end_with_their_line() {
        let text = "FROM a\nSYSTEM \"\"\"never closed\nPARAMETER num_ctx 2048\n";
        assert_eq!(setting(&one("Modelfile", text), "num_ctx"), Some("2048"));
    }

    #[test]
    fn a_file_that_only_has_the_name_is_left_alone() {
        for text in [
            "",
            "# nothing\n",
            "PARAMETER num_ctx 1\n",
            "FROM python:3\nRUN pip install x\nCOPY . .\n",
            "all: build\n\tcc x.c\n",
            "FROM\n",
        ] {
            assert!(deployments("Modelfile", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_model_that_is_filled_in_later_is_unresolved() {
        assert_eq!(one("Modelfile", "FROM ${BASE}\n").unresolved, ["model"]);
    }

    #[test]
    fn comments_are_those_of_lines_and_not_of_texts() {
        let source = SourceFile::new(
            FileId::from_index(0),
            "Modelfile",
            "# one\nFROM a\nSYSTEM \"\"\"\n# no\n\"\"\"\n  # two \n",
        );
        let texts: Vec<String> = comments(&source)
            .into_iter()
            .map(|comment| comment.text)
            .collect();
        assert_eq!(texts, [" one", " two"]);
    }

    #[test]
    fn no_mutation_panics() {
        survives("Modelfile", FULL);
    }

    #[test]
    fn a_hostile_file_is_read_once() {
        let many = "SYSTEM \"\"\"x\nPARAMETER stop \"\n".repeat(100_000);
        assert_eq!(deployments("Modelfile", &format!("FROM a\n{many}")).len(), 1);
    }
}
