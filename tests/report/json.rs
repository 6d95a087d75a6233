//! The JSON contract: valid against the published schema, every field present.

use oomlint::report::{OutputFormat, RenderOptions, Report, render};
use serde_json::{Value, json};

use crate::sample;

fn text(report: &Report) -> String {
    render(report, OutputFormat::Json, &RenderOptions::default())
}

fn parsed(report: &Report) -> Value {
    serde_json::from_str(&text(report)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../schemas/report.schema.json")).unwrap()
}

#[test]
fn every_report_is_valid_against_the_published_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for report in [sample::report(), sample::hostile(), sample::empty()] {
        let errors: Vec<String> = validator
            .iter_errors(&parsed(&report))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }
}

#[test]
fn the_published_schema_is_itself_valid() {
    jsonschema::meta::validate(&schema()).unwrap();
}

/// Every object of the schema, with a path to name it in a failure.
fn objects<'a>(path: &str, node: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    if node.get("properties").is_some() {
        found.push((path.to_owned(), node));
    }
    match node {
        Value::Object(map) => {
            for (key, value) in map {
                objects(&format!("{path}/{key}"), value, found);
            }
        }
        Value::Array(list) => {
            for value in list {
                objects(path, value, found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_closes_every_object_and_describes_every_field() {
    let schema = schema();
    let mut found = Vec::new();
    objects("", &schema, &mut found);
    assert!(found.len() > 8);
    for (path, object) in found {
        let properties = object["properties"].as_object().unwrap();
        assert_eq!(object["additionalProperties"], false, "{path}");
        let mut required: Vec<&str> = object["required"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
        required.sort_unstable();
        names.sort_unstable();
        assert_eq!(required, names, "{path}");
        for (name, property) in properties {
            let described = property.get("description").is_some() || property.get("$ref").is_some();
            assert!(described, "{path}/{name} has no description");
        }
    }
}

#[test]
fn a_deployment_of_our_own_format_lists_its_dimensions() {
    let deployments = &parsed(&sample::report())["deployments"];
    assert_eq!(deployments[0]["context"], json!([8192, 131_072]));
    assert_eq!(deployments[0]["kv_cache"], json!(["fp16"]));
    assert_eq!(deployments[0]["accelerator_type"], json!(["m4-24gb", "2x l4"]));
    assert_eq!(deployments[0]["tensor_parallel"], 2);
    assert_eq!(deployments[0]["memory_fraction"], 0.92);
    assert_eq!(deployments[1]["context"], Value::Null);
    assert_eq!(deployments[1]["engine"], Value::Null);
}

#[test]
fn a_hub_name_gives_up_its_revision() {
    let mut report = sample::report();
    report.deployments[0].deployment.model.as_mut().unwrap().value = "org/name@abc123".to_owned();
    let deployment = &parsed(&report)["deployments"][0];
    assert_eq!(deployment["model"], "org/name");
    assert_eq!(deployment["model_revision"], "abc123");
}

#[test]
fn scenarios_name_their_model_and_machine_and_carry_the_band() {
    let scenarios = &parsed(&sample::report())["scenarios"];
    assert_eq!(scenarios[2]["machine"], "2x l4");
    assert_eq!(scenarios[2]["accelerators"], 2);
    assert_eq!(scenarios[2]["verdict"], "likely_fits");
    assert_eq!(scenarios[2]["overhead_high_bytes"], 2_u64 << 30);
    assert_eq!(scenarios[3]["machine"], Value::Null);
    assert_eq!(scenarios[4]["verdict"], "unknown");
    assert_eq!(scenarios[4]["weights_bytes"], Value::Null);
}

#[test]
fn findings_count_lines_and_code_points_from_one_and_bytes_from_zero() {
    let finding = &parsed(&sample::report())["findings"][0];
    assert_eq!(finding["start"], json!({"line": 8, "column": 19, "byte": 169}));
    let byte = |at: &Value| usize::try_from(at["byte"].as_u64().unwrap()).unwrap();
    let (start, end) = (byte(&finding["start"]), byte(&finding["end"]));
    assert_eq!(&sample::MANIFEST[start..end], "128k");
    assert_eq!(finding["fix"]["edits"][0]["text"], "41216");
}

#[test]
fn hostile_text_comes_back_as_it_was_and_prints_safely() {
    let report = sample::hostile();
    assert!(!text(&report).contains(['\u{1b}', '\u{202e}', '\u{9b}']));
    assert_eq!(
        parsed(&report)["findings"][0]["message"],
        report.findings[0].message
    );
    assert_eq!(
        parsed(&report)["findings"][0]["file"],
        "a b/\u{1b}[31m,x::y%.yaml"
    );
}

#[test]
fn a_concurrency_that_is_no_number_becomes_null() {
    let mut report = sample::report();
    report.scenarios[0].estimate.as_mut().unwrap().max_concurrency = Some(f64::INFINITY);
    assert_eq!(parsed(&report)["scenarios"][0]["max_concurrency"], Value::Null);
}

#[test]
fn a_code_quality_report_has_a_fingerprint_for_each_finding() {
    let text = render(&sample::report(), OutputFormat::Gitlab, &RenderOptions::default());
    insta::assert_snapshot!(text);
    let issues: serde_json::Value = serde_json::from_str(&text).unwrap();
    let issues = issues.as_array().unwrap();
    let fingerprints: std::collections::BTreeSet<&str> = issues
        .iter()
        .map(|issue| issue["fingerprint"].as_str().unwrap())
        .collect();
    assert_eq!(fingerprints.len(), issues.len());
}

#[test]
fn a_junit_report_fails_on_errors_only_and_stays_well_formed() {
    insta::assert_snapshot!(render(
        &sample::report(),
        OutputFormat::Junit,
        &RenderOptions::default()
    ));
    let hostile = render(&sample::hostile(), OutputFormat::Junit, &RenderOptions::default());
    assert!(
        quick_junit::Report::deserialize_from_str(&hostile).is_ok(),
        "{hostile}"
    );
}
