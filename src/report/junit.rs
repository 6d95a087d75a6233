//! `JUnit` XML, which every CI service shows.
//!
//! In: a report. Out: a suite for each file, with a case for each error (a failure), for each other finding (passed,
//! with its words as output) and for each deployment that nothing is said of (passed). Suppressed findings are
//! skipped cases with their reason.

use std::collections::BTreeMap;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::Report;
use super::place::path_of;
use crate::finding::{Finding, Severity};
use crate::source::sanitize;

/// The whole document.
pub(super) fn render(report: &Report) -> String {
    let mut cases: BTreeMap<String, Vec<TestCase>> = BTreeMap::new();
    for finding in &report.findings {
        let path = path_of(&report.sources, finding).unwrap_or_else(|| "oomlint".to_owned());
        cases.entry(path).or_default().push(case(report, finding));
    }
    for (at, deployed) in report.deployments.iter().enumerate() {
        let spoken = report
            .findings
            .iter()
            .any(|finding| finding.deployment == Some(at));
        if let (false, Some(file)) = (spoken, report.sources.get(deployed.deployment.file)) {
            let mut case = TestCase::new(
                sanitize(&deployed.deployment.name.value),
                TestCaseStatus::success(),
            );
            case.set_classname("deployment");
            cases.entry(file.path().to_owned()).or_default().push(case);
        }
    }
    let mut document = quick_junit::Report::new("oomlint");
    for (path, cases) in cases {
        let mut suite = TestSuite::new(sanitize(&path));
        suite.add_test_cases(cases);
        document.add_test_suite(suite);
    }
    // Writing to a string has no way to fail.
    document.to_string().unwrap_or_default()
}

fn case(report: &Report, finding: &Finding) -> TestCase {
    let line = sanitize(&super::short::line(report, finding));
    let words = match &finding.help {
        Some(help) => format!("{line}\nhelp: {}", sanitize(help.trim_end())),
        None => line,
    };
    let message = sanitize(&finding.message);
    let status = match (&finding.suppressed, finding.severity) {
        (Some(reason), _) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(sanitize(reason));
            status
        }
        (None, Severity::Error) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_message(message.as_str())
                .set_type("error")
                .set_description(words.as_str());
            status
        }
        (None, _) => TestCaseStatus::success(),
    };
    let quiet = finding.suppressed.is_none() && finding.severity != Severity::Error;
    let deployed = finding.deployment.and_then(|at| report.deployments.get(at));
    let name = match deployed {
        Some(deployed) => format!("{}: {message}", sanitize(&deployed.deployment.name.value)),
        None => message,
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(finding.rule.to_string());
    if quiet {
        case.set_system_out(words);
    }
    case
}
