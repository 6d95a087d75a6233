//! SARIF: valid against the OASIS schema, and every region cuts out the characters it means.

use std::path::PathBuf;
use std::process::Command;

use oomlint::report::{OutputFormat, RenderOptions, Report, render};
use serde_json::Value;

use crate::sample;

fn sarif(report: &Report) -> Value {
    let text = render(report, OutputFormat::Sarif, &RenderOptions::default());
    serde_json::from_str(&text).unwrap()
}

/// The schema that the development dependency `serde-sarif` carries.
fn oasis_schema() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|package| package["name"] == "serde-sarif")
        .unwrap();
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
    let schema = std::fs::read_to_string(manifest.with_file_name("src").join("schema.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&schema).unwrap();
    // The published pattern of `language`, which we do not write, is not a valid regular expression.
    for holder in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][holder]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern").unwrap();
    }
    schema
}

#[test]
fn every_report_is_valid_sarif() {
    let validator = jsonschema::validator_for(&oasis_schema()).unwrap();
    for report in [sample::report(), sample::hostile(), sample::empty()] {
        let log = sarif(&report);
        let errors: Vec<String> = validator
            .iter_errors(&log)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }
}

#[test]
fn the_schema_would_notice_a_broken_region() {
    let validator = jsonschema::validator_for(&oasis_schema()).unwrap();
    let mut log = sarif(&sample::report());
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0.into();
    assert!(!validator.is_valid(&log));
}

#[test]
fn a_clean_run_has_an_empty_list_of_results() {
    assert_eq!(
        sarif(&sample::empty())["runs"][0]["results"],
        serde_json::json!([])
    );
}

/// Cuts a region out of a text by lines and code points, as a viewer would.
fn cut_by_columns(text: &str, region: &Value) -> String {
    let number = |name: &str| usize::try_from(region[name].as_u64().unwrap()).unwrap();
    let offset = |line: usize, column: usize| {
        let start: usize = text
            .split_inclusive('\n')
            .take(line - 1)
            .map(|line| line.chars().count())
            .sum();
        let mark = usize::from(line == 1 && text.starts_with('\u{feff}'));
        start + mark + column - 1
    };
    let start = offset(number("startLine"), number("startColumn"));
    let end = offset(number("endLine"), number("endColumn"));
    text.chars().skip(start).take(end - start).collect()
}

fn cut_by_bytes(text: &str, region: &Value) -> String {
    let number = |name: &str| usize::try_from(region[name].as_u64().unwrap()).unwrap();
    let start = number("byteOffset");
    text[start..start + number("byteLength")].to_owned()
}

#[test]
fn regions_cut_out_exactly_the_labelled_characters() {
    for report in [sample::report(), sample::hostile()] {
        let log = sarif(&report);
        for (finding, result) in report
            .findings
            .iter()
            .zip(log["runs"][0]["results"].as_array().unwrap())
        {
            let related = result["relatedLocations"].as_array();
            let locations = result["locations"].as_array().into_iter().flatten();
            let locations = locations.chain(related.into_iter().flatten());
            let labels = finding.primary.iter().chain(&finding.related);
            for (label, location) in labels.zip(locations) {
                let region = &location["physicalLocation"]["region"];
                let file = report.sources.get(label.span.file()).unwrap();
                let expected = file.slice(label.span);
                assert_eq!(cut_by_bytes(file.text(), region), expected);
                // A byte-order mark has no column of its own.
                assert_eq!(
                    cut_by_columns(file.text(), region),
                    expected.trim_start_matches('\u{feff}')
                );
            }
        }
    }
}

#[test]
fn paths_are_relative_uris() {
    let log = sarif(&sample::hostile());
    let location = &log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"];
    assert_eq!(location["uri"], "a%20b/%1B%5B31m%2Cx%3A%3Ay%25.yaml");
    assert_eq!(location["uriBaseId"], "SRCROOT");
}

#[test]
fn every_result_names_a_rule_that_the_log_describes() {
    let log = sarif(&sample::report());
    let rules = &log["runs"][0]["tool"]["driver"]["rules"];
    for result in log["runs"][0]["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    assert_eq!(rules[0]["helpUri"], "https://docs.vllm.ai/en/stable/");
}

#[test]
fn suppressed_findings_stay_with_their_reason() {
    let log = sarif(&sample::report());
    let suppressions: Vec<&Value> = log["runs"][0]["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|result| result.get("suppressions"))
        .collect();
    assert_eq!(suppressions.len(), 1);
    assert_eq!(suppressions[0][0]["justification"], "tried on purpose");
}

#[test]
fn fingerprints_do_not_move_with_lines_and_never_collide() {
    let prints = |log: &Value| -> Vec<String> {
        let results = log["runs"][0]["results"].as_array().unwrap();
        let print = |result: &Value| {
            result["partialFingerprints"]["oomlint/v2"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        results.iter().map(print).collect()
    };
    let before = sample::report();
    let mut moved = sample::report();
    moved.findings.truncate(1);
    // The same finding one label further down the file.
    let related = moved.findings[0].related[0].span;
    moved.findings[0].primary.as_mut().unwrap().span = related;
    assert_eq!(prints(&sarif(&before))[0], prints(&sarif(&moved))[0]);

    let mut twice = sample::report();
    let copy = twice.findings[0].clone();
    twice.findings.push(copy);
    let mut all = prints(&sarif(&twice));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), twice.findings.len());
}

#[test]
fn a_fix_carries_the_region_it_replaces() {
    let log = sarif(&sample::report());
    let fix = &log["runs"][0]["results"][0]["fixes"][0]["artifactChanges"][0];
    let replacement = &fix["replacements"][0];
    assert_eq!(
        cut_by_bytes(sample::MANIFEST, &replacement["deletedRegion"]),
        "128k"
    );
    assert_eq!(replacement["insertedContent"]["text"], "41216");
}
