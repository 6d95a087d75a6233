//! What people read: diagnostics, lines, annotations, job summaries.

use insta::assert_snapshot;
use oomlint::finding::{Finding, Label, Severity};
use oomlint::report::{OutputFormat, RenderOptions, Report, render};
use proptest::prelude::*;

use crate::sample;

fn plain(report: &Report, format: OutputFormat) -> String {
    render(report, format, &RenderOptions::default())
}

fn is_printable(text: &str) -> bool {
    text.chars().all(|c| {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{feff}');
        c == '\n' || !(c.is_control() || hidden)
    })
}

#[test]
fn a_diagnostic_shows_the_sum_the_places_and_the_way_out() {
    assert_snapshot!(plain(&sample::report(), OutputFormat::Human));
}

#[test]
fn a_clean_run_says_what_it_checked() {
    let clean = sample::with_summary(Report {
        findings: Vec::new(),
        ..sample::report()
    });
    assert_snapshot!(
        plain(&clean, OutputFormat::Human),
        @"no problems found; 2 models, 2 deployments, 5 scenarios checked; 1 of them could not be estimated"
    );
}

#[test]
fn hostile_text_reaches_the_terminal_as_harmless_characters() {
    let drawn = plain(&sample::hostile(), OutputFormat::Human);
    assert!(is_printable(&drawn));
    assert_snapshot!(drawn);
}

#[test]
fn no_text_format_lets_a_control_character_through() {
    for format in OutputFormat::ALL {
        assert!(
            is_printable(&plain(&sample::hostile(), format)),
            "{}",
            format.name()
        );
    }
}

#[test]
fn colours_and_links_appear_only_when_asked_for() {
    let report = sample::report();
    let colored = RenderOptions {
        color: true,
        links: true,
        ..RenderOptions::default()
    };
    let colored = render(&report, OutputFormat::Human, &colored);
    assert!(colored.contains("\u{1b}[31m"));
    assert!(colored.contains("\u{1b}]8;;https://docs.vllm.ai/en/stable/"));
    assert!(!plain(&report, OutputFormat::Human).contains('\u{1b}'));
}

#[test]
fn a_finding_is_one_line_in_the_short_format() {
    assert_snapshot!(plain(&sample::report(), OutputFormat::Short));
    assert_snapshot!("hostile_short", plain(&sample::hostile(), OutputFormat::Short));
}

#[test]
fn annotations_are_escaped_and_the_worst_come_first() {
    assert_snapshot!(plain(&sample::report(), OutputFormat::Github));
    let hostile = plain(&sample::hostile(), OutputFormat::Github);
    assert!(
        hostile
            .lines()
            .all(|line| line.starts_with("::") && !line.contains('\r'))
    );
    assert_eq!(hostile.lines().count(), sample::hostile().findings.len());
    assert_snapshot!("hostile_github", hostile);
}

#[test]
fn a_job_summary_has_the_verdict_first_and_the_scenarios_folded() {
    assert_snapshot!(plain(&sample::report(), OutputFormat::Markdown));
}

#[test]
fn a_job_summary_survives_hostile_text() {
    let summary = plain(&sample::hostile(), OutputFormat::Markdown);
    assert!(!summary.contains("<b>") && !summary.contains("::error"));
    assert_snapshot!(summary);
}

#[test]
fn format_names_can_be_read_back() {
    for format in OutputFormat::ALL {
        assert_eq!(OutputFormat::parse(format.name()), Some(format));
    }
    assert_eq!(OutputFormat::parse("Human"), None);
}

proptest! {
    /// miette asserts on offsets; whatever spans a parser makes, drawing them must work and show every label.
    #[test]
    fn any_text_with_any_labels_can_be_drawn(
        text in "([a-z漢é\u{1b}\u{feff} \t\r]{0,12}\n?){0,12}|[a-zé]{150,900}",
        spans in prop::collection::vec((0_usize..1000, 0_usize..300), 1..5),
    ) {
        let report = sample::empty();
        let file = report.sources.add("f.yaml", text);
        let mut labels = spans.iter().enumerate().map(|(at, (start, length))| Label {
            span: file.span(*start..start + length),
            text: format!("label{at}"),
        });
        let primary = labels.next().unwrap();
        let mut finding = Finding::at("rule", Severity::Error, "message", primary);
        finding.related = labels.collect();
        let count = finding.related.len() + 1;
        let report = Report { findings: vec![finding], ..report };
        for format in OutputFormat::ALL {
            let drawn = render(&report, format, &RenderOptions::default());
            prop_assert!(is_printable(&drawn));
            if format == OutputFormat::Human {
                for at in 0..count {
                    let label = format!("label{at}");
                    prop_assert!(drawn.contains(&label), "{label} is missing in\n{drawn}");
                }
            }
        }
    }
}

#[test]
fn a_page_stands_on_its_own() {
    assert_snapshot!(plain(&sample::report(), OutputFormat::Html));
}

#[test]
fn hostile_text_stays_text_on_a_page() {
    let page = plain(&sample::hostile(), OutputFormat::Html);
    assert_snapshot!("hostile_html", page);
    let body = page.split_once("<body>").unwrap().1;
    assert!(!body.contains("<script") && !body.contains("<img") && !body.contains("javascript:\""));
}
