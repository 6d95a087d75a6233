//! `--fix`: what is edited, what is kept, what is refused, and that a second time changes nothing.

use std::path::Path;

use super::{CONFIG, findings, oomlint, oomlint_with, report, write};

/// A tree with one rule of its own, whose fix is given, and a manifest.
fn tree(fix: &str, manifest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rule = format!(
        "id: mine\nseverity: error\nscope: deployment\nwhen: deployment.name != ''\n\
         message: found\nlabels: {{deployment.name: here}}\nfix: {fix}\n"
    );
    write(folder.path(), "rules/mine.yaml", rule);
    write(folder.path(), "m/config.json", CONFIG);
    write(folder.path(), "deploy.yaml", manifest);
    folder
}

fn read(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("deploy.yaml")).unwrap()
}

/// The manifest after its fixes were made; a second time must change nothing.
fn fixed(fix: &str, manifest: &str) -> String {
    let folder = tree(fix, manifest);
    let run = || {
        oomlint(
            folder.path(),
            &[
                "check",
                "deploy.yaml",
                "--rules",
                "rules",
                "--select",
                "mine",
                "--fix",
                "--unsafe-fixes",
            ],
        )
    };
    let ran = run();
    let once = read(folder.path());
    assert!(ran.code <= 1, "{}{}", ran.out, ran.err);
    run();
    assert_eq!(read(folder.path()), once, "a second time changes nothing");
    once
}

/// A deployment of vLLM with further lines.
fn vllm(lines: &str) -> String {
    format!(
        "oomlint: 1\ndeployments:\n  - name: chat   # ours\n    model: m\n    engine: vllm\n    machines: [h100-sxm-80gb]\n{lines}"
    )
}

#[test]
fn a_value_is_set_in_the_quotes_it_has_and_comments_stay() {
    let set = |to: &str| format!("{{set: setting.max_sequences, to: {to}}}");
    for (before, after) in [
        (
            "    args: [\"--max-num-seqs\", \"16\"]  # many\n",
            "    args: [\"--max-num-seqs\", \"8\"]  # many\n",
        ),
        (
            "    args: ['--max-num-seqs', '16']\n",
            "    args: ['--max-num-seqs', '8']\n",
        ),
        (
            "    args:\n      - --max-num-seqs  # a\n      - 16  # b\n",
            "    args:\n      - --max-num-seqs  # a\n      - 8  # b\n",
        ),
        (
            "    args: [--max-num-seqs=16]\n",
            "    args: [--max-num-seqs=8]\n",
        ),
        (
            "    args: [\"--max-num-seqs=16\", --enforce-eager]",
            "    args: [\"--max-num-seqs=8\", --enforce-eager]",
        ),
    ] {
        assert_eq!(fixed(&set("'8'"), &vllm(before)), vllm(after));
    }
}

#[test]
fn texts_that_yaml_would_read_otherwise_get_quotes() {
    let manifest = vllm("    args: [--dtype, auto]\n");
    assert_eq!(
        fixed("{set: setting.dtype, to: \"'a: b # c'\"}", &manifest),
        vllm("    args: [--dtype, \"a: b # c\"]\n")
    );
}

#[test]
fn a_flag_goes_with_its_values_in_every_style_of_list() {
    let remove = "{remove: setting.max_sequences}";
    for (before, after) in [
        (
            "    args: [\"--max-num-seqs\", \"16\", \"--enforce-eager\"]\n",
            "    args: [\"--enforce-eager\"]\n",
        ),
        (
            "    args: [\"--enforce-eager\", \"--max-num-seqs\", \"16\"]\n",
            "    args: [\"--enforce-eager\"]\n",
        ),
        (
            "    args: [--enforce-eager, --max-num-seqs=16]\n",
            "    args: [--enforce-eager]\n",
        ),
        (
            "    args:\n      - --max-num-seqs\n      - \"16\"  # goes too\n      # about the next\n      - --enforce-eager\n",
            "    args:\n      # about the next\n      - --enforce-eager\n",
        ),
        (
            "    args:\n      - --enforce-eager\n      - --max-num-seqs\n      - \"16\"",
            "    args:\n      - --enforce-eager\n",
        ),
        (
            "    args: [\"--max-num-seqs\", \"16\"]\n    context: 8k\n",
            "    context: 8k\n",
        ),
        (
            "    args:\n      - --max-num-seqs=16\n    context: 8k\n",
            "    context: 8k\n",
        ),
    ] {
        assert_eq!(fixed(remove, &vllm(before)), vllm(after));
    }
}

#[test]
fn a_key_goes_with_its_line() {
    let remove = "{remove: deployment.quantization}";
    let before = "    quantization: fp8  # why\n    context: 8k\n";
    assert_eq!(fixed(remove, &vllm(before)), vllm("    context: 8k\n"));
    let flow = "oomlint: 1\ndeployments:\n  - {name: a, quantization: fp8, model: m, engine: vllm}\n";
    assert_eq!(
        fixed(remove, flow),
        "oomlint: 1\ndeployments:\n  - {name: a, model: m, engine: vllm}\n"
    );
    let first =
        "oomlint: 1\ndeployments:\n  - quantization: fp8\n    name: a\n    model: m\n    engine: vllm\n";
    assert_eq!(
        fixed(remove, first),
        "oomlint: 1\ndeployments:\n  - name: a\n    model: m\n    engine: vllm\n"
    );
}

#[test]
fn json_stays_json() {
    let manifest = "{\"oomlint\": 1, \"deployments\": [{\"name\": \"a\", \"model\": \"m\", \"engine\": \"vllm\", \
                    \"args\": [\"--max-num-seqs\", \"16\"]}]}\n";
    for (fix, before, after) in [
        ("{set: setting.max_sequences, to: '8'}", "\"16\"", "\"8\""),
        (
            "{insert_arg: --dtype, value: \"'half'\"}",
            "\"16\"",
            "\"16\", \"--dtype\", \"half\"",
        ),
        (
            "{insert_key: kv_cache, value: \"'fp8'\", beside: deployment.engine}",
            "\"vllm\"",
            "\"vllm\", \"kv_cache\": \"fp8\"",
        ),
        (
            "{insert_key: context, value: '8192', beside: deployment.engine}",
            "\"vllm\"",
            "\"vllm\", \"context\": 8192",
        ),
        ("{remove: deployment.engine}", "\"engine\": \"vllm\", ", ""),
    ] {
        let folder = tree(fix, "");
        write(folder.path(), "deploy.json", manifest);
        let arguments = [
            "check",
            "deploy.json",
            "--rules",
            "rules",
            "--select",
            "mine",
            "--fix",
            "--unsafe-fixes",
        ];
        oomlint(folder.path(), &arguments);
        let fixed = std::fs::read_to_string(folder.path().join("deploy.json")).unwrap();
        assert_eq!(fixed, manifest.replace(before, after), "{fix}");
        assert!(serde_json::from_str::<serde_json::Value>(&fixed).is_ok());
    }
}

#[test]
fn comments_between_items_of_a_flow_list_are_not_lost() {
    let flow =
        vllm("    args: [\n      --enforce-eager, # this one\n      --max-num-seqs=16 # and that\n    ]\n");
    assert_eq!(fixed("{remove: setting.max_sequences}", &flow), flow);
}

#[test]
fn words_of_arguments_stay_text() {
    let set = "{set: setting.dtype, to: \"'on'\"}";
    let block = "    args:\n      - --dtype\n      - auto\n";
    assert_eq!(fixed(set, &vllm(block)), vllm(&block.replace("auto", "\"on\"")));
}

#[test]
fn a_flag_gets_another_name_and_keeps_its_value() {
    let rename = "{rename: setting.max_sequences, to: --max-batch}";
    for (before, after) in [
        (
            "    args: [\"--max-num-seqs\", \"16\"]\n",
            "    args: [\"--max-batch\", \"16\"]\n",
        ),
        (
            "    args:\n      - --max-num-seqs=16\n",
            "    args:\n      - --max-batch=16\n",
        ),
    ] {
        assert_eq!(fixed(rename, &vllm(before)), vllm(after));
    }
}

#[test]
fn a_flag_is_added_in_the_style_of_those_there_are() {
    let insert = "{insert_arg: --max-model-len, value: '8192'}";
    for (before, after) in [
        (
            "    args: [\"--enforce-eager\"]  # x\n",
            "    args: [\"--enforce-eager\", \"--max-model-len\", \"8192\"]  # x\n",
        ),
        (
            "    args: [--max-num-seqs=16]\n",
            "    args: [--max-num-seqs=16, --max-model-len=8192]\n",
        ),
        (
            "    args:\n      - --max-num-seqs\n      - \"16\"  # x\n    context: 8k\n",
            "    args:\n      - --max-num-seqs\n      - \"16\"  # x\n      - \"--max-model-len\"\n      - \"8192\"\n    context: 8k\n",
        ),
        (
            "    args:\n      - --enforce-eager",
            "    args:\n      - --enforce-eager\n      - --max-model-len\n      - \"8192\"",
        ),
    ] {
        assert_eq!(fixed(insert, &vllm(before)), vllm(after));
    }
    let none = fixed(insert, &vllm(""));
    assert!(
        none.contains("\n    model: m\n    args: [\"--max-model-len\", \"8192\"]\n"),
        "{none}"
    );
    let switch = fixed("{insert_arg: --enforce-eager}", &vllm("    args: [a]\n"));
    assert!(switch.contains("[a, --enforce-eager]"), "{switch}");
}

#[test]
fn a_key_is_added_beside_another() {
    let insert = "{insert_key: context, value: '8192', beside: deployment.engine}";
    let expected = vllm("").replace("engine: vllm\n", "engine: vllm\n    context: 8192\n");
    assert_eq!(fixed(insert, &vllm("")), expected);
    let flow = "oomlint: 1\ndeployments:\n  - {name: a, engine: vllm, model: m}\n";
    assert_eq!(
        fixed(insert, flow),
        "oomlint: 1\ndeployments:\n  - {name: a, engine: vllm, context: 8192, model: m}\n"
    );
    // A key that is there is not added again.
    let there = vllm("    context: 8k\n");
    assert_eq!(fixed(insert, &there), there);
}

#[test]
fn the_first_form_that_can_be_made_is_made() {
    let fix = "[{set: setting.context, to: '8192'}, {insert_arg: --max-model-len, value: '8192'}]";
    assert!(
        fixed(fix, &vllm("    args: [--max-model-len, \"9000\"]\n")).contains("[--max-model-len, \"8192\"]")
    );
    assert!(fixed(fix, &vllm("    args: [--enforce-eager]\n")).contains("--max-model-len, \"8192\"]"));
    let when = "[{when: engine.name == 'mlx', remove: setting.context}, {set: setting.context, to: '8192'}]";
    assert!(
        fixed(when, &vllm("    args: [--max-model-len, \"9000\"]\n")).contains("[--max-model-len, \"8192\"]")
    );
}

#[test]
fn line_endings_a_byte_order_mark_and_the_mode_stay() {
    let text = vllm("    args:\n      - --enforce-eager\n    context: 8k\n");
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let fix = "{insert_arg: --max-num-seqs, value: '8'}";
    let folder = tree(fix, &windows);
    let file = folder.path().join("deploy.yaml");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    let arguments = [
        "check",
        "deploy.yaml",
        "--rules",
        "rules",
        "--select",
        "mine",
        "--fix",
        "--unsafe-fixes",
    ];
    oomlint(folder.path(), &arguments);
    let after = read(folder.path());
    assert_eq!(
        after,
        windows.replace(
            "- --enforce-eager\r\n",
            "- --enforce-eager\r\n      - --max-num-seqs\r\n      - \"8\"\r\n"
        )
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        3,
        "nothing is left beside it"
    );
}

#[test]
fn a_value_that_an_alias_uses_elsewhere_is_refused_in_words() {
    let manifest = "oomlint: 1\ndeployments:\n  - {name: a, model: m, engine: &e vllm, quantization: fp8}\n  \
                    - {name: b, model: m, engine: *e}\n";
    let folder = tree(
        "{set: deployment.engine, to: \"'mlx'\", when: has(deployment.quantization)}",
        manifest,
    );
    let arguments = [
        "check",
        "deploy.yaml",
        "--rules",
        "rules",
        "--select",
        "mine",
        "--fix",
        "--unsafe-fixes",
    ];
    let ran = oomlint(folder.path(), &arguments);
    assert_eq!(read(folder.path()), manifest);
    assert!(
        ran.err.contains("in another place too, through an alias"),
        "{}",
        ran.err
    );
}

#[test]
fn only_safe_fixes_are_made_unless_asked_and_a_diff_changes_nothing() {
    let manifest = vllm("    args: [--max-num-seqs, \"16\"]\n");
    let folder = tree("{set: setting.max_sequences, to: '8'}", &manifest);
    let check = ["check", "deploy.yaml", "--rules", "rules", "--select", "mine"];
    let ran = oomlint(folder.path(), &[&check[..], &["--fix"]].concat());
    assert_eq!((ran.code, read(folder.path())), (1, manifest.clone()));
    let ran = oomlint(
        folder.path(),
        &[&check[..], &["--diff", "--unsafe-fixes"]].concat(),
    );
    assert_eq!((ran.code, read(folder.path())), (1, manifest));
    insta::assert_snapshot!(ran.out);
    assert_eq!(
        oomlint(folder.path(), &[&check[..], &["--unsafe-fixes"]].concat()).code,
        2
    );
}

#[test]
fn the_standard_input_is_not_fixed() {
    let folder = tree("{remove: setting.dtype}", "");
    let ran = oomlint_with(folder.path(), &["check", "-", "--fix"], b"oomlint: 1\n");
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("the standard input cannot be fixed"),
        "{}",
        ran.err
    );
}

#[test]
fn findings_that_are_gone_after_a_fix_no_longer_count() {
    let folder = tree("{set: deployment.name, to: \"'x'\", safe: true}", &vllm(""));
    let rule = std::fs::read_to_string(folder.path().join("rules/mine.yaml")).unwrap();
    write(
        folder.path(),
        "rules/mine.yaml",
        rule.replace("!= ''", "== 'chat'"),
    );
    let arguments = [
        "check",
        "deploy.yaml",
        "--rules",
        "rules",
        "--select",
        "mine",
        "--fix",
    ];
    let (report, code) = report(folder.path(), &arguments);
    assert_eq!((findings(&report).len(), code), (0, 0));
}

/// Rules that want something of nearly every deployment, one for each form of fix.
const GREEDY: [(&str, &str, &str); 6] = [
    (
        "set",
        "setting.memory_fraction > 0.5",
        "{set: setting.memory_fraction, to: '0.5'}",
    ),
    (
        "text",
        "has(setting.dtype) && setting.dtype != 'half'",
        "{set: setting.dtype, to: \"'half'\"}",
    ),
    (
        "add",
        "!given.max_sequences",
        "{insert_arg: --max-num-seqs, value: '8'}",
    ),
    (
        "take",
        "given.trust_remote_code",
        "{remove: setting.trust_remote_code}",
    ),
    (
        "name",
        "given.tensor_parallel",
        "{rename: setting.tensor_parallel, to: --tp-renamed}",
    ),
    (
        "key",
        "has(deployment.model)",
        "{insert_key: added, value: \"'x'\", beside: deployment.model}",
    ),
];

/// Every tree of the built-in rules, and the corpus where it is: whatever is fixed, files keep what no fix named, and
/// the fixes of a second run change nothing.
#[test]
fn fixing_any_tree_twice_is_fixing_it_once() {
    let trees = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let scratch = tempfile::tempdir().unwrap();
    copy(&trees, &scratch.path().join("t"));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if corpus.is_dir() {
        copy(&corpus, &scratch.path().join("t/corpus"));
    } else {
        println!("no ../shared/corpus here: only the project's own trees are fixed");
    }
    for (id, when, fix) in GREEDY {
        let rule = format!(
            "id: {id}\nseverity: error\nscope: deployment\nwhen: \"{when}\"\nmessage: found\nfix: {fix}\n"
        );
        write(scratch.path(), &format!("rules/{id}.yaml"), rule);
    }
    let fix = || {
        oomlint(
            scratch.path(),
            &[
                "check",
                "t",
                "--rules",
                "rules",
                // The project's own rules want other values of the same settings than these do.
                "--select",
                "set,text,add,take,name,key",
                "--fix",
                "--unsafe-fixes",
                "--output",
                "short",
            ],
        )
    };
    let first = fix();
    println!("{}", first.err);
    assert!(first.err.contains("made "), "{}", first.err);
    let once = contents(scratch.path());
    let again = fix();
    assert!(again.err.contains("nothing to fix"), "{}", again.err);
    assert_eq!(contents(scratch.path()), once);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        // Settings files of single trees would hold for the whole.
        if entry.file_name() == ".oomlint.yaml" || entry.file_name() == ".git" {
            continue;
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    all.sort();
    all
}
