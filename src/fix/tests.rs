use super::*;
use crate::source::FileId;

fn file(text: &str) -> SourceFile {
    SourceFile::new(FileId::from_index(0), "a.yaml", text)
}

fn edit(file: &SourceFile, needle: &str, text: &str) -> Fix {
    let at = file.text().find(needle).unwrap();
    Fix {
        safe: true,
        edits: vec![Edit {
            span: file.span(at..at + needle.len()),
            text: text.to_owned(),
        }],
    }
}

/// What comes of replacing `needle`: the text, or why not.
fn replaced(text: &str, needle: &str, by: &str) -> Result<String, String> {
    let file = file(text);
    let fixed = fix_file(&file, &[&edit(&file, needle, by)]);
    match fixed.refused.first() {
        Some(why) => Err(why.clone()),
        None => Ok(fixed.after),
    }
}

#[test]
fn an_edit_that_would_change_more_than_its_value_is_refused() {
    let told =
        |needle, by| replaced("a: one  # x\nb: [two, three]\nc: |\n  four five\n", needle, by).unwrap_err();
    assert!(told("one", "x: y").contains("a fix of a.yaml was not made"));
    assert!(told("one", "1 # y").contains("a comment would change"));
    assert!(told("two", "2, 3").contains("`three` would become `3`"));
    assert!(told("two", "]").contains("not be valid YAML"));
    assert!(told("b:", "d:").contains("would become"));
    assert!(told("one", "").contains("would become nothing"));
}

#[test]
fn words_of_a_block_are_replaced_and_nothing_else() {
    let text = "c: |\n  serve --a 1 \\\n    --b 2\nd: >-\n  x\n  --b 3\n";
    assert_eq!(
        replaced(text, "--b 2", "--b 5").unwrap(),
        text.replace("--b 2", "--b 5")
    );
    assert_eq!(replaced(text, "3", "4").unwrap(), text.replace('3', "4"));
    assert_eq!(
        replaced("a: \"x \\u00e9 y\"\n", "y", "z").unwrap(),
        "a: \"x \\u00e9 z\"\n"
    );
}

#[test]
fn of_two_fixes_that_touch_the_first_is_made() {
    let file = file("a: one\nb: two\n");
    let fixes = [
        edit(&file, "one", "1"),
        edit(&file, "on", "2"),
        edit(&file, "two", "3"),
    ];
    let made = fix_file(&file, &fixes.iter().collect::<Vec<_>>());
    assert_eq!((made.after.as_str(), made.made), ("a: 1\nb: 3\n", 2));
}

#[test]
fn one_bad_fix_does_not_hold_up_the_others() {
    let file = file("a: one\nb: two\n");
    let fixes = [edit(&file, "one", "x: [y"), edit(&file, "two", "3")];
    let made = fix_file(&file, &fixes.iter().collect::<Vec<_>>());
    assert_eq!(
        (made.after.as_str(), made.made, made.refused.len()),
        ("a: one\nb: 3\n", 1, 1)
    );
}

#[test]
fn a_value_is_changed_while_another_is_added_beside_it() {
    let file = file("a: [\"x\", \"0.8\"]\n");
    let end = file.text().find(']').unwrap();
    let insertion = Fix {
        safe: true,
        edits: vec![Edit {
            span: file.span(end..end),
            text: ", \"y\"".to_owned(),
        }],
    };
    let made = fix_file(&file, &[&edit(&file, "0.8", "0.5"), &insertion]);
    assert_eq!(
        (made.after.as_str(), made.made),
        ("a: [\"x\", \"0.5\", \"y\"]\n", 2)
    );
}

/// Pieces of hostile replacements.
const PIECES: [&str; 16] = [
    "a", "1", ": ", "- ", "#", " # ", "\n", "\"", "'", "[", "}", ", ", "*x", "&x", "|", "\\",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Whatever is put in the place of one value, the other values read as they did or nothing is changed.
    #[test]
    fn no_replacement_changes_another_value(
        picks in proptest::collection::vec(0..PIECES.len(), 0..6),
        target in 0..5_usize,
    ) {
        let text = "a: one # x\nb: [two, \"three\", {c: four}]\nd: |\n  five six\n";
        let needle = ["one", "two", "\"three\"", "four", "five"][target];
        let by: String = picks.iter().map(|pick| PIECES[*pick]).collect();
        let file = file(text);
        let fixed = fix_file(&file, &[&edit(&file, needle, &by)]);
        if fixed.after != text {
            let others = |text: &str| {
                let file = SourceFile::new(FileId::from_index(1), "b", text);
                let root = file.tree().documents[0].root();
                let leaves = [
                    root.get("a").and_then(|node| node.text().map(str::to_owned)),
                    root.get("b").and_then(|node| node.items().next()?.text().map(str::to_owned)),
                    root.get("b").and_then(|node| node.items().nth(1)?.text().map(str::to_owned)),
                    root.get("b").and_then(|node| node.items().nth(2)?.get("c")?.text().map(str::to_owned)),
                    root.get("d").and_then(|node| node.text().map(str::to_owned)),
                ];
                (leaves, file.tree().documents.len(), file.tree().comments.len())
            };
            let (mut before, mut after) = (others(text), others(&fixed.after));
            before.0[target] = None;
            after.0[target] = None;
            proptest::prop_assert_eq!(before, after, "{:?}", fixed.after);
        }
    }
}
