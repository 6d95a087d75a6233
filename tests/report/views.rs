//! The matrix and the look at one model.

use insta::assert_snapshot;
use oomlint::report::{Report, inspect::inspect, table::table};

use crate::sample;

#[test]
fn the_matrix_has_a_row_for_every_scenario() {
    assert_snapshot!(table(&sample::report(), 0));
}

#[test]
fn a_narrow_matrix_breaks_names_and_nothing_else() {
    let narrow = table(&sample::report(), 126);
    assert!(narrow.lines().all(|line| line.chars().count() <= 126));
    assert!(narrow.contains("1,048,576") && narrow.contains("likely exceeds"));
    assert!(!narrow.contains("./models/nowhere"));
}

#[test]
fn what_every_row_shares_is_told_once() {
    let mut report = sample::report();
    report.scenarios.truncate(2);
    assert_snapshot!(table(&report, 80));
}

#[test]
fn an_empty_matrix_says_so() {
    assert_eq!(table(&sample::empty(), 80), "no scenarios\n");
}

#[test]
fn a_look_at_a_model_splits_the_memory_of_each_machine() {
    assert_snapshot!(inspect(&sample::report(), 80));
}

#[test]
fn names_from_files_are_safe_to_print() {
    let mut report = sample::report();
    report.models[0].name = "a\u{1b}[31m\nb".to_owned();
    let report = Report { ..report };
    for text in [table(&report, 200), inspect(&report, 80)] {
        assert!(!text.contains('\u{1b}') && text.contains("a?[31m b"));
    }
}
