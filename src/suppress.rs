//! Suppression: comments and annotations that silence findings, and findings about those that silence none.
//!
//! `# oomlint: ignore[rule-id, other] reason` silences what those rules say of its line, where it stands behind
//! something, or of the next line, where it has a line to itself (further comments may lie between). A
//! finding is of every line that one of its labels starts on. The annotation `oomlint.dev/ignore.<rule-id>: reason` of
//! a Kubernetes object silences what that rule says of the object.

use std::ops::Range;
use std::sync::Arc;

use crate::finding::{Finding, Label};
use crate::nearest::did_you_mean;
use crate::rule::Rules;
use crate::source::tree::{Comment, Document, Node};
use crate::source::{SourceFile, Span};

/// The rule id of findings about suppressions.
pub const UNUSED_SUPPRESSION: &str = "unused-suppression";

/// The keys of annotations that suppress begin so; the rule's id follows.
const ANNOTATION: &str = "oomlint.dev/ignore.";

/// What a manifest says to this program about itself.
#[derive(Debug)]
pub struct Remarks {
    file: Arc<SourceFile>,
    comments: Vec<Comment>,
    annotations: Vec<Annotation>,
}

/// An annotation that suppresses.
#[derive(Debug)]
struct Annotation {
    /// The object that has it.
    object: Span,
    rule: String,
    rule_span: Span,
    reason: String,
}

impl Remarks {
    /// The comments and annotations of a manifest.
    pub fn new(file: Arc<SourceFile>, comments: Vec<Comment>, documents: &[Document]) -> Self {
        let objects = documents.iter().map(Document::root).flat_map(|root| {
            let listed = root.get("items").into_iter().flat_map(Node::items);
            std::iter::once(root).chain(listed)
        });
        let annotations = objects.flat_map(|object| annotations(&file, object)).collect();
        Self {
            file,
            comments,
            annotations,
        }
    }
}

fn annotations(file: &SourceFile, object: Node<'_>) -> Vec<Annotation> {
    let entries = object.at(&["metadata", "annotations"]).map(Node::entries);
    let suppressing = |(key, reason): (Node<'_>, Node<'_>)| {
        let rule = key.text()?.strip_prefix(ANNOTATION)?.to_owned();
        // The id without the rest of the key, where the key is written without escapes.
        let shown = file.slice(key.span());
        let start = key.span().start() + shown.find(&rule)?;
        Some(Annotation {
            object: object.span(),
            rule_span: file.span(start..start + rule.len()),
            rule,
            reason: reason.text().unwrap_or("").to_owned(),
        })
    };
    entries.into_iter().flatten().filter_map(suppressing).collect()
}

/// One comment or annotation that suppresses.
struct Suppression {
    file: Arc<SourceFile>,
    speaks_of: Place,
    rules: Vec<Named>,
    reason: String,
}

/// What a suppression speaks of.
enum Place {
    /// A line, counted from 1.
    Line(usize),
    /// An object.
    Object(Span),
}

/// A rule id in a comment.
struct Named {
    id: String,
    span: Span,
    used: bool,
}

/// Marks the findings that comments silence, and adds a finding for every id in a comment that is no rule's
/// or (`all_rules_ran`: only then is it certain) that silenced nothing.
pub fn apply(findings: &mut Vec<Finding>, remarks: &[Remarks], rules: &Rules, all_rules_ran: bool) {
    let mut suppressions = Vec::new();
    let mut malformed = Vec::new();
    for remarks in remarks {
        let file = &remarks.file;
        suppressions.extend(
            remarks
                .annotations
                .iter()
                .map(|annotation| of_object(file, annotation)),
        );
        for comment in &remarks.comments {
            match read(file, comment) {
                Read::Suppression(found) => suppressions.push(found),
                Read::Malformed(span) => malformed.push(
                    unused(rules, span, "this comment names no rule")
                        .with_help("write `# oomlint: ignore[rule-id] reason`"),
                ),
                Read::Other => {}
            }
        }
    }
    for finding in findings.iter_mut() {
        silence(finding, &mut suppressions);
    }
    findings.extend(malformed);
    for suppression in &suppressions {
        findings.extend(
            suppression
                .rules
                .iter()
                .filter_map(|named| complaint(named, suppression.way_out(), rules, all_rules_ran)),
        );
    }
}

impl Suppression {
    /// What to do with one that silences nothing.
    fn way_out(&self) -> &'static str {
        match self.speaks_of {
            Place::Line(_) => "remove it, or move it to the line of the finding or the line above",
            Place::Object(_) => "remove it: nothing that the rule says is about this object",
        }
    }

    /// True for characters of its file that lie in what it speaks of.
    fn speaks_of(&self, span: Span) -> bool {
        match self.speaks_of {
            Place::Line(line) => self.file.line_of(span.start()) == line,
            Place::Object(object) => {
                (object.start()..object.end().max(object.start() + 1)).contains(&span.start())
            }
        }
    }
}

fn of_object(file: &Arc<SourceFile>, annotation: &Annotation) -> Suppression {
    Suppression {
        file: Arc::clone(file),
        speaks_of: Place::Object(annotation.object),
        rules: vec![Named {
            id: annotation.rule.clone(),
            span: annotation.rule_span,
            used: false,
        }],
        reason: annotation.reason.trim().to_owned(),
    }
}

fn silence(finding: &mut Finding, suppressions: &mut [Suppression]) {
    for suppression in suppressions {
        let labels = finding.primary.iter().chain(&finding.related);
        let here = labels
            .filter(|label| label.span.file() == suppression.file.id())
            .any(|label| suppression.speaks_of(label.span));
        let named = suppression
            .rules
            .iter_mut()
            .find(|named| named.id == *finding.rule);
        if let Some(named) = named.filter(|_| here) {
            named.used = true;
            finding
                .suppressed
                .get_or_insert_with(|| suppression.reason.clone());
        }
    }
}

fn complaint(named: &Named, way_out: &str, rules: &Rules, all_rules_ran: bool) -> Option<Finding> {
    if rules.get(&named.id).is_none() {
        let message = format!(
            "no rule is called `{}`{}",
            named.id,
            did_you_mean(&named.id, rules.ids())
        );
        return Some(unused(rules, named.span, message).with_help("`oomlint rules` lists them"));
    }
    (all_rules_ran && !named.used).then(|| {
        let message = format!("`{}` says nothing here: the suppression has no effect", named.id);
        unused(rules, named.span, message).with_help(way_out)
    })
}

fn unused(rules: &Rules, span: Span, message: impl Into<String>) -> Finding {
    let text = String::new();
    Finding::at(
        UNUSED_SUPPRESSION,
        rules.severity(UNUSED_SUPPRESSION),
        message,
        Label { span, text },
    )
}

/// What a comment is.
enum Read {
    Suppression(Suppression),
    /// Meant as a suppression, but it names no rule.
    Malformed(Span),
    Other,
}

fn read(file: &Arc<SourceFile>, comment: &Comment) -> Read {
    let text = file.slice(comment.span);
    let Some(rest) = after(text.trim_start_matches('#'), "oomlint:").and_then(|rest| after(rest, "ignore"))
    else {
        return Read::Other;
    };
    let list = rest
        .trim_start()
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let Some((list, reason)) = list.filter(|(list, _)| !list.trim().is_empty()) else {
        return Read::Malformed(comment.span);
    };
    let start = comment.span.start() + offset_in(text, list);
    let rules = names(list).map(|range| Named {
        id: list.get(range.clone()).unwrap_or("").to_owned(),
        span: file.span(start + range.start..start + range.end),
        used: false,
    });
    Read::Suppression(Suppression {
        speaks_of: Place::Line(line_spoken_of(file, comment.span)),
        rules: rules.collect(),
        reason: reason.trim().trim_start_matches([':', '-']).trim().to_owned(),
        file: Arc::clone(file),
    })
}

/// What follows a word, if the text begins with it.
fn after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.trim_start().strip_prefix(word)
}

/// Where a part of a text begins in it.
fn offset_in(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// The ranges of the names between commas, blanks left out.
fn names(list: &str) -> impl Iterator<Item = Range<usize>> {
    list.split(',').filter_map(move |name| {
        let trimmed = name.trim();
        let start = offset_in(list, trimmed);
        (!trimmed.is_empty()).then(|| start..start + trimmed.len())
    })
}

/// The comment's own line, or the first line below that is no comment when it has its line to itself.
fn line_spoken_of(file: &SourceFile, comment: Span) -> usize {
    let own = file.line_of(comment.start());
    let alone = |line: usize| {
        file.line_text(line)
            .trim_start_matches('\u{feff}')
            .trim_start()
            .starts_with('#')
    };
    if !alone(own) {
        return own;
    }
    (own + 1..=file.line_count())
        .find(|line| !alone(*line))
        .unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::source::Sources;
    use crate::source::tree::Tree;

    const RULE: &str = "weights-do-not-fit";

    fn remarks(file: &Arc<SourceFile>) -> Remarks {
        let tree = Tree::parse(file);
        Remarks::new(Arc::clone(file), tree.comments, &tree.documents)
    }

    /// Lints a text in which every `bad` is a finding of [`RULE`]: which of them are silenced with which
    /// reason, and what is said of the comments.
    fn applied(text: &str, all_rules_ran: bool) -> (Vec<Option<String>>, Vec<String>) {
        let sources = Sources::default();
        let file = sources.add("oomlint.yaml", text);
        let mut findings: Vec<Finding> = text
            .match_indices("bad")
            .map(|(at, word)| {
                let span = file.span(at..at + word.len());
                Finding::at(
                    RULE,
                    Severity::Error,
                    "it does not fit",
                    Label {
                        span,
                        text: String::new(),
                    },
                )
            })
            .collect();
        let before = findings.len();
        apply(&mut findings, &[remarks(&file)], Rules::builtin(), all_rules_ran);
        let said = findings.split_off(before);
        let said = said.iter().map(|finding| {
            let span = finding.primary.as_ref().unwrap().span;
            format!("{} [{}]", finding.message, file.slice(span))
        });
        (
            findings.into_iter().map(|finding| finding.suppressed).collect(),
            said.collect(),
        )
    }

    fn silenced(text: &str) -> Vec<Option<String>> {
        applied(text, true).0
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a finding says of its suppression")]
    fn because(reason: &str) -> Option<String> {
        Some(reason.to_owned())
    }

    #[test]
    fn a_comment_speaks_of_its_own_line_or_of_the_line_below_when_alone() {
        assert_eq!(
            silenced("a: bad # oomlint: ignore[weights-do-not-fit] known\nb: bad\n"),
            [because("known"), None]
        );
        assert_eq!(
            silenced("# oomlint: ignore[weights-do-not-fit] known\na: bad\nb: bad\n"),
            [because("known"), None]
        );
        assert_eq!(
            silenced("\u{feff}# oomlint: ignore[weights-do-not-fit] bom\r\na: bad\r\n"),
            [because("bom")]
        );
        assert_eq!(
            silenced("x:\n  # oomlint: ignore[weights-do-not-fit] first\n  # a word on it\n  a: bad\n"),
            [because("first")]
        );
        assert_eq!(
            silenced("# oomlint: ignore[weights-do-not-fit] too far\n\na: bad\n"),
            [None]
        );
    }

    #[test]
    fn several_rules_and_loose_spelling_are_read() {
        for comment in [
            "#oomlint:ignore[weights-do-not-fit]  why",
            "# oomlint: ignore [ kv-cache-does-not-fit , weights-do-not-fit ]: why",
            "## oomlint:  ignore[weights-do-not-fit,] - why",
        ] {
            assert_eq!(
                silenced(&format!("a: bad {comment}\n")),
                [because("why")],
                "{comment}"
            );
        }
        assert_eq!(
            silenced("a: bad # oomlint: ignore[weights-do-not-fit]\n"),
            [because("")]
        );
        assert_eq!(
            silenced("a: bad # see oomlint: ignore[weights-do-not-fit]\n"),
            [None]
        );
        assert_eq!(silenced("a: bad # oomlint: ignore[weights-do-not-fit\n"), [None]);
    }

    #[test]
    fn an_annotation_speaks_of_its_object_alone() {
        let object = |reason: &str| {
            format!(
                "kind: Pod\nmetadata:\n  annotations:\n    oomlint.dev/ignore.weights-do-not-fit: {reason}\nspec: bad\n"
            )
        };
        let text = format!("{}---\nkind: Pod\nspec: bad\n", object("\"tried, it fits\""));
        assert_eq!(silenced(&text), [because("tried, it fits"), None]);
        let list = "kind: List\nitems:\n- metadata: {annotations: {oomlint.dev/ignore.weights-do-not-fit: one}}\n  \
                    spec: bad\n- spec: bad\n";
        assert_eq!(silenced(list), [because("one"), None]);
    }

    #[test]
    fn an_annotation_without_effect_is_told_at_its_rule() {
        let text = "metadata: {annotations: {oomlint.dev/ignore.weights-do-not-fit: x, oomlint.dev/ignore.typo: y}}\n";
        assert_eq!(
            applied(text, true).1,
            [
                "`weights-do-not-fit` says nothing here: the suppression has no effect [weights-do-not-fit]",
                "no rule is called `typo` [typo]"
            ]
        );
    }

    #[test]
    fn a_label_in_the_same_file_is_enough() {
        let sources = Sources::default();
        let file = sources.add(
            "oomlint.yaml",
            "a: bad\nb: 1 # oomlint: ignore[weights-do-not-fit] by its label\n",
        );
        let label = |at: usize| Label {
            span: file.span(at..at + 1),
            text: String::new(),
        };
        let finding = Finding::at(RULE, Severity::Error, "it does not fit", label(3));
        let mut findings = vec![finding.with_related(label(10).span, "evidence")];
        apply(&mut findings, &[remarks(&file)], Rules::builtin(), true);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].suppressed, because("by its label"));
    }

    #[test]
    fn suppressions_without_effect_are_told_only_when_every_rule_ran() {
        let text = "a: good # oomlint: ignore[weights-do-not-fit] no longer\n";
        assert_eq!(
            applied(text, true).1,
            ["`weights-do-not-fit` says nothing here: the suppression has no effect [weights-do-not-fit]"]
        );
        assert_eq!(applied(text, false).1, Vec::<String>::new());
    }

    #[test]
    fn ids_that_no_rule_has_are_always_told() {
        let text = "a: bad # oomlint: ignore[weights-dont-fit, weights-do-not-fit] x\n";
        let (silenced, said) = applied(text, false);
        assert_eq!(silenced, [because("x")]);
        assert_eq!(
            said,
            ["no rule is called `weights-dont-fit`; did you mean `weights-do-not-fit`? [weights-dont-fit]"]
        );
        let (_, said) = applied("a: bad # oomlint: ignore everything\n", true);
        assert_eq!(
            said,
            ["this comment names no rule [# oomlint: ignore everything]"]
        );
    }
}
