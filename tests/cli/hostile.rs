//! Trees that no one would write on purpose: each gets its diagnostic, the rest of the run is complete, nothing
//! panics.

use std::path::Path;

use super::{CONFIG, FITS, findings, oomlint, report, write};

/// A tree with a good deployment in `a.yaml`, and whatever else is written into it.
fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m/config.json", CONFIG);
    write(folder.path(), "a.yaml", FITS);
    folder
}

/// The findings of a tree in which the good deployment must still be estimated.
fn complete(folder: &Path) -> Vec<String> {
    let (report, _) = report(folder, &["check"]);
    let good = report["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .any(|scenario| scenario["verdict"] == "fits");
    assert!(good, "the good deployment was lost: {report:#}");
    findings(&report)
}

#[test]
fn a_broken_config_is_named_with_its_place_and_its_deployment_is_left_unsized() {
    let cases: [(&str, &[u8], &str); 9] = [
        ("truncated", br#"{"model_type": "llama", "num_hidden_layers": 3"#, "yaml-invalid"),
        ("empty", b"", "yaml-invalid"),
        ("not utf-8", b"{\"model_type\": \"ll\xff\"}", "file-unreadable"),
        ("wrong type", br#"{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": "many", "num_attention_heads": 32}"#, "config-incomplete"),
        ("not a number", br#"{"model_type": "llama", "hidden_size": NaN, "num_hidden_layers": 3, "num_attention_heads": 32}"#, "config-incomplete"),
        ("infinite", br#"{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": Infinity, "num_attention_heads": 32}"#, "config-incomplete"),
        ("absurd", br#"{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 9223372036854775808, "num_attention_heads": 32}"#, "config-incomplete"),
        ("negative", br#"{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": -3, "num_attention_heads": 32}"#, "config-incomplete"),
        ("no heads", br#"{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 3, "num_attention_heads": 0}"#, "config-incomplete"),
    ];
    for (name, config, rule) in cases {
        let folder = tree();
        write(folder.path(), "bad/config.json", config);
        write(folder.path(), "b.yaml", FITS.replace("model: m", "model: bad"));
        let found = complete(folder.path());
        let told = found
            .iter()
            .any(|finding| finding.starts_with(&format!("{rule} bad/config.json")));
        assert!(told, "{name}: {found:?}");
    }
}

#[test]
fn a_directory_without_config_is_named_where_the_deployment_names_it() {
    let folder = tree();
    std::fs::create_dir(folder.path().join("bad")).unwrap();
    write(folder.path(), "b.yaml", FITS.replace("model: m", "model: bad"));
    let found = complete(folder.path());
    assert!(found.iter().any(|finding| finding.contains("bad")), "{found:?}");
}

#[test]
fn a_safetensors_header_of_2_to_the_60_bytes_is_refused_without_being_read() {
    let folder = tree();
    write(folder.path(), "bad/config.json", CONFIG);
    let mut header = (1u64 << 60).to_le_bytes().to_vec();
    header.extend(b"{}");
    write(folder.path(), "bad/model.safetensors", header);
    let found = complete(folder.path());
    assert!(
        found.contains(&"file-unreadable bad/model.safetensors".to_owned()),
        "{found:?}"
    );
}

#[test]
fn an_index_that_names_absent_shards_says_which() {
    let folder = tree();
    write(folder.path(), "bad/config.json", CONFIG);
    let header = br#"{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#;
    let mut shard = (header.len() as u64).to_le_bytes().to_vec();
    shard.extend(header);
    shard.extend([0; 4]);
    write(folder.path(), "bad/model-00001-of-00002.safetensors", shard);
    let index = r#"{"metadata": {"total_size": 8}, "weight_map": {"a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors"}}"#;
    write(folder.path(), "bad/model.safetensors.index.json", index);
    let (report, _) = report(folder.path(), &["check"]);
    let words = report["findings"].to_string();
    assert!(words.contains("model-00002-of-00002.safetensors"), "{words}");
}

#[test]
fn yaml_that_cannot_be_read_is_named_beside_what_can() {
    let level = |at: usize| format!("a{at}: &a{at} [{}]", vec![format!("*a{}", at - 1); 10].join(", "));
    let laughs = (1..12).map(level).collect::<Vec<_>>().join("\n");
    let cases: [(&str, Vec<u8>, Option<&str>); 8] = [
        (
            "not utf-8",
            b"oomlint: 1\n# \xff\xfe\n".to_vec(),
            Some("file-unreadable b.yaml:2"),
        ),
        (
            "one broken document",
            b"oomlint: 1\ndeployments: []\n---\noomlint: [\n---\noomlint: 1\n".to_vec(),
            Some("yaml-invalid b.yaml:4"),
        ),
        (
            "a repeated key",
            b"oomlint: 1\ndeployments: []\ndeployments: []\n".to_vec(),
            Some("yaml-invalid b.yaml:3"),
        ),
        (
            "an unknown alias",
            b"oomlint: 1\ndeployments: *none\n".to_vec(),
            Some("yaml-invalid b.yaml:2"),
        ),
        (
            "nested brackets",
            [b"oomlint: 1\nx: ".to_vec(), b"[".repeat(100_000)].concat(),
            Some("yaml-invalid b.yaml:2"),
        ),
        (
            "an alias bomb",
            format!("oomlint: 1\na0: &a0 [x]\n{laughs}").into_bytes(),
            Some("unknown-key b.yaml:2"),
        ),
        (
            "a byte-order mark and CRLF",
            b"\xef\xbb\xbfoomlint: 1\r\ndeployments: []\r\nx: 1\r\n".to_vec(),
            Some("unknown-key b.yaml:3"),
        ),
        (
            "a mapping where a list belongs",
            b"oomlint: 1\ndeployments: {model: m}\n".to_vec(),
            Some("value-invalid b.yaml:2"),
        ),
    ];
    for (name, text, expected) in cases {
        let folder = tree();
        write(folder.path(), "b.yaml", text);
        let found = complete(folder.path());
        match expected {
            Some(expected) => assert!(
                found.iter().any(|finding| finding == expected),
                "{name}: {found:?}"
            ),
            None => assert!(found.is_empty(), "{name}: {found:?}"),
        }
    }
}

#[test]
fn anchors_and_merge_keys_declare_what_they_stand_for() {
    let folder = tree();
    let text = "oomlint: 1\nmachines: {}\ndeployments:\n  - &base {name: one, model: m, machines: [m4-16gb], context: 900k}\n  \
                - {<<: *base, name: two}\n";
    write(folder.path(), "b.yaml", text);
    let (report, _) = report(folder.path(), &["check", "b.yaml"]);
    assert_eq!(report["scenarios"].as_array().unwrap().len(), 2);
    assert_eq!(report["scenarios"][1]["context"], 900 * 1024);
}

#[test]
fn foreign_yaml_is_left_alone() {
    let folder = tree();
    write(
        folder.path(),
        "chart/templates/x.yaml",
        "{{- if .Values.x }}\na: {{ .Values.y }}\n{{- end }}\n",
    );
    write(folder.path(), "values.yaml", "a: 1\nb: [x]\n");
    write(folder.path(), "package.json", "{}");
    write(folder.path(), "web/config.json", r#"{"port": 8080}"#);
    assert_eq!(complete(folder.path()), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn symbolic_links_that_loop_are_named_and_left() {
    let folder = tree();
    std::fs::create_dir(folder.path().join("x")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("x/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("x/dangling")).unwrap();
    let found = complete(folder.path());
    assert!(
        found.iter().any(|finding| finding == "file-unreadable x/loop"),
        "{found:?}"
    );
    let leads_nowhere = |finding: &&String| finding.contains("dangling");
    assert_eq!(found.iter().find(leads_nowhere), None, "it is no candidate");
    std::os::unix::fs::symlink("nowhere", folder.path().join("x/dangling.yaml")).unwrap();
    let found = complete(folder.path());
    assert!(
        found
            .iter()
            .any(|finding| finding == "file-unreadable x/dangling.yaml"),
        "{found:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_is_named_and_left() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tree();
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read_dir(&locked).is_ok() {
        println!("skipped: this user may read any directory");
        return;
    }
    let found = complete(folder.path());
    assert!(
        found.iter().any(|finding| finding == "file-unreadable locked"),
        "{found:?}"
    );
}

#[test]
fn text_from_files_never_reaches_the_terminal_with_control_characters() {
    let folder = tree();
    let evil = "oomlint: 1\n\"key\u{1b}[31m\": 1\ndeployments:\n  - {name: \"\\e[2J\", model: \"m\\e]0;x\\a\", \
                machines: [\"\u{202e}l4\", \"\\e[31m\"], context: 900k}\n";
    write(folder.path(), "b\u{1b}[5m.yaml", evil);
    write(
        folder.path(),
        "bad/config.json",
        "{\"model_type\": \"\\u001b[31mx\", \"num_hidden_layers\": 3}",
    );
    for format in ["human", "short", "github", "markdown", "json", "sarif"] {
        let ran = oomlint(
            folder.path(),
            &["check", ".", "--color", "never", "--output", format],
        );
        let unsafe_character = |c: &char| (c.is_control() && *c != '\n' && *c != '\t') || *c == '\u{202e}';
        let printed = format!("{}{}", ran.out, ran.err);
        assert_eq!(
            printed.chars().find(unsafe_character),
            None,
            "{format}: {printed:?}"
        );
    }
}
