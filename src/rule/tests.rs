//! Loading: what a rule file may say, and what its author is told of what it may not.

use super::condition::Condition;
use super::facts::{self, Scope};
use super::template::Template;
use super::world::World;
use super::*;

/// A rule file that loads, with some of its lines replaced or added.
fn rule_text(lines: &str) -> String {
    let mut text = String::from("id: mine\nseverity: error\nscope: scenario\n");
    if !lines.starts_with("when:") {
        text.push_str("when: estimate.over_bytes > 0.0\n");
    }
    if !lines.starts_with("message:") {
        text.push_str("message: it does not fit\n");
    }
    text + lines
}

/// Every problem as `line:column: message`, with the characters it points at.
fn problems_of(path: &str, text: &str) -> String {
    let sources = Sources::default();
    let Err(findings) = Rules::load([(path, text)].into_iter(), &sources) else {
        return "loads".to_owned();
    };
    let line = |finding: &Finding| {
        let span = finding.primary.as_ref().unwrap().span;
        let file = sources.get(span.file()).unwrap();
        let place = file.position(span.start());
        format!(
            "{}:{}: {}  [{}]",
            place.line,
            place.column,
            finding.message,
            file.slice(span)
        )
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn problems(lines: &str) -> String {
    problems_of("rules/mine.yaml", &rule_text(lines))
}

#[test]
fn every_built_in_rule_file_loads() {
    let sources = Sources::default();
    let (rules, problems) = load::load(&Rules::default(), builtin_files(), &sources);
    let told: Vec<_> = problems
        .iter()
        .map(|finding| {
            format!(
                "{}: {}",
                sources.path(finding.primary.as_ref().unwrap().span),
                finding.message
            )
        })
        .collect();
    assert_eq!(told, Vec::<String>::new());
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/rules")).unwrap();
    assert_eq!(
        rules.iter().count(),
        folder.count(),
        "a file of rules/ is not embedded"
    );
}

#[test]
fn every_built_in_rule_explains_itself() {
    for rule in Rules::builtin().iter() {
        assert!(!rule.summary.is_empty() && !rule.since.is_empty(), "{}", rule.id);
        assert!(rule.why.len() > 100, "{} does not say why", rule.id);
        assert_ne!(rule.group, "custom", "{}", rule.id);
        assert!(rule.explain().contains(rule.why.trim_end()));
    }
}

#[test]
fn every_built_in_rule_has_a_tree_that_fails_and_one_that_passes() {
    for rule in Rules::builtin().iter() {
        let folder = format!("{}/tests/rules/{}", env!("CARGO_MANIFEST_DIR"), rule.id);
        let cases: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|_| panic!("no {folder}"))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for kind in ["fail-", "pass-"] {
            assert!(
                cases.iter().any(|case| case.starts_with(kind)),
                "{folder} has no {kind} case"
            );
        }
    }
}

#[test]
fn the_example_of_the_guide_loads() {
    let guide = include_str!("../../docs/writing-rules.md");
    let example = guide
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    assert_eq!(problems_of("rules/prompts-need-room.yaml", example), "loads");
}

#[test]
fn explain_reads_as_a_page() {
    insta::assert_snapshot!(
        Rules::builtin()
            .get("context-exceeds-model-maximum")
            .unwrap()
            .explain()
    );
}

#[test]
fn unknown_and_repeated_keys_are_told_with_the_nearest_key() {
    insta::assert_snapshot!(problems("mesage: x\nsupercedes: []\nlabels: 3\ngroup: a\ngroup: b\n"), @"
    6:1: unknown key `mesage`; did you mean `message`?  [mesage]
    7:1: unknown key `supercedes`; did you mean `supersedes`?  [supercedes]
    10:1: `group` is given twice  [group]
    8:9: needs a mapping, this is a single value  [3]
    ");
}

#[test]
fn facts_that_do_not_exist_are_told_at_their_characters_in_any_style_of_scalar() {
    insta::assert_snapshot!(problems("when: estimate.weight_bytes > machine.usable_bytes\n"), @"5:7: no fact is called `estimate.weight_bytes`; did you mean `estimate.weights_bytes`?  [estimate.weight_bytes]");
    insta::assert_snapshot!(problems("when: >-\n  'é' == 'é' &&\n  estimate.weights_bytes\n    > machine . usabel_bytes\n"), @"8:7: no fact is called `machine.usabel_bytes`; did you mean `machine.usable_bytes`?  [machine . usabel_bytes]");
    insta::assert_snapshot!(problems("when: |\n  has(scenario.contxt)\n  || deployment.name == \"x\"\n"), @"6:7: no fact is called `scenario.contxt`; did you mean `scenario.context`?  [scenario.contxt]");
    insta::assert_snapshot!(problems("when: \"model.name == '\\u00e9' || estimte.over_bytes > 1.0\"\n"), @"5:34: no fact is called `estimte.over_bytes`; did you mean `estimate.over_bytes`?  [estimte.over_bytes]");
    insta::assert_snapshot!(problems("message: 'it''s {machine.nme}'\n"), @"5:18: no fact is called `machine.nme`; did you mean `machine.name`?  [machine.nme]");
    insta::assert_snapshot!(problems("labels: {machine.nam: x}\nworst: nothing\n"), @"
    6:10: no fact is called `machine.nam`; did you mean `machine.name`?  [machine.nam]
    7:8: no fact is called `nothing`  [nothing]
    ");
}

#[test]
fn types_are_checked_before_a_condition_runs() {
    insta::assert_snapshot!(problems("when: estimate.over_bytes\n"), @"5:7: a condition is true or false, this is a double  [estimate.over_bytes]");
    insta::assert_snapshot!(problems("when: estimate.kv_cache_bytes * scenario.batch > 1.0\n"), @"5:31: `*` does not mix an int with a double: write `double(...)` around the int  [*]");
    insta::assert_snapshot!(problems("when: machine.name > 3\n"), @"5:20: `>` cannot compare a string with an int  [>]");
    insta::assert_snapshot!(problems("when: deployment.name in 'chat'\n"), @"5:23: `in` takes a list on its right, not a string  [in]");
    insta::assert_snapshot!(problems("when: machine.name && true\n"), @"5:20: needs true or false here, this is a string  [&&]");
    insta::assert_snapshot!(problems("when: machine\n"), @"5:7: `machine` is a group of facts; name one of them, such as `machine.apple_generation`  [machine]");
    insta::assert_snapshot!(problems("when: sizee(deployment.args) == 1\n"), @"5:7: no function `sizee`; did you mean `size`?  [sizee]");
    insta::assert_snapshot!(problems("when: deployment.args.exists(a, a > 1)\n"), @"5:35: `>` cannot compare a string with an int  [>]");
    insta::assert_snapshot!(problems("when: model.dtype == null\n"), @"5:22: no fact is null; ask `has(...)` whether it is there  [null]");
    insta::assert_snapshot!(problems("when: scenario.context >\n"), @"5:24: not a condition: it ends too early  [>]");
    insta::assert_snapshot!(problems("when: scenario.batch in ['a']\n"), @"5:22: `in` cannot compare an int with a string  [in]");
    insta::assert_snapshot!(problems("when: model.name == 'é' || > 3\n"), @"5:28: not a condition: '>' makes no sense here  [>]");
    insta::assert_snapshot!(problems("when: true @ false\n"), @"5:12: not a condition: token recognition error at: '@'  [@]");
    insta::assert_snapshot!(problems("when: scenario.context > > 3\n"), @"5:26: not a condition: '>' makes no sense here  [>]");
}

#[test]
fn comparisons_of_int_and_double_and_conversions_are_fine() {
    assert_eq!(problems("when: estimate.over_bytes > scenario.batch\n"), "loads");
    assert_eq!(
        problems("when: estimate.kv_cache_bytes * double(scenario.batch) > 1.0\n"),
        "loads"
    );
    assert_eq!(
        problems("when: size(deployment.args) > 0 && deployment.args[0].startsWith('--')\n"),
        "loads"
    );
    assert_eq!(
        problems("when: deployment.args.filter(a, a.contains('x')).map(a, size(a)).exists(n, n > 2)\n"),
        "loads"
    );
    assert_eq!(
        problems("when: deployment.args.all(a, !(a in deployment.unresolved))\n"),
        "loads"
    );
    assert_eq!(
        problems("when: \"has(model.dtype) ? model.dtype in ['float16'] : false\"\n"),
        "loads"
    );
}

#[test]
fn expressions_are_bounded() {
    let nested = "when: deployment.args.all(a, deployment.unresolved.exists(b, a == b))\n";
    insta::assert_snapshot!(problems(nested), @"5:52: loops do not nest: each level multiplies the work  [exists]");
    let long = format!("when: {}true\n", "true && ".repeat(255));
    assert!(problems(&long).contains("at most 500 nodes"));
    let many = format!("when: {}true\n", "true && ".repeat(400));
    assert!(problems(&many).contains("at most 1000 words and signs"));
    let longer = format!("when: {}true\n", "scenario.batch > 1 || ".repeat(400));
    assert!(problems(&longer).contains("at most 4096 bytes"));
    let deep = format!("when: {}true{}\n", "(".repeat(1500), ")".repeat(1500));
    assert!(problems(&deep).contains("at most 8 deep"));
}

#[test]
fn no_text_makes_the_parser_of_conditions_fall_over() {
    for hostile in [
        "1+",
        "!",
        "-",
        "true?1:",
        "a.",
        "true&&",
        "true||",
        "1<",
        "[1,",
        "a[",
        "f(",
        "'",
        "\\",
        "{1:",
        "a{b:",
        "1 in ",
        "x.all(y,",
        "has(",
        "`",
        "\u{0}",
        "é",
        "?",
        ":",
        ",",
        "0x",
        "1e",
        "b'",
        "r\"",
        "\"\"\"",
        "//",
        "has(a).",
        "a.map(x,y,",
    ] {
        for count in [1, 8, 19, 4096 / hostile.len()] {
            for end in ["", "1", "true", "a"] {
                let text = format!("{}{end}", hostile.repeat(count));
                let _ = Condition::compile(&text, Scope::Scenario);
            }
        }
    }
}

#[test]
fn placeholders_are_checked_with_their_units() {
    insta::assert_snapshot!(problems("message: '{model.name:GiB}'\n"), @"5:23: `model.name` is text: it cannot be printed as GiB  [GiB]");
    insta::assert_snapshot!(problems("message: '{estimate.over_bytes}'\n"), @"5:12: `estimate.over_bytes` is a number of bytes: say in what, such as `{estimate.over_bytes:GiB}`  [estimate.over_bytes]");
    insta::assert_snapshot!(problems("message: '{estimate.over_bytes:GB}'\n"), @"5:32: no unit `GB`; there are GiB, MiB, size, tokens, count, percent  [GB]");
    insta::assert_snapshot!(problems("message: '{scenario.context:percent}'\n"), @"5:29: `scenario.context` is a number of tokens: it cannot be printed as percent  [percent]");
    insta::assert_snapshot!(problems("message: '{deployment.args} and {'\n"), @"
    5:12: `deployment.args` is a list; a message cannot print it  [deployment.args]
    5:33: this brace is never closed; `{{` is a plain one  [{]
    ");
    insta::assert_snapshot!(problems("message: |\n  two\n  lines\n"), @"
    6:3: a message is one line; further lines belong in `help`  [two
      lines]
    ");
    insta::assert_snapshot!(problems("message: 'a } b'\n"), @"5:13: this brace closes nothing; `}}` is a plain one  [}]");
    assert_eq!(
        problems("message: '{{plain}} {scenario.context:tokens}'\n"),
        "loads"
    );
}

#[test]
fn ids_severities_scopes_and_neighbours_are_checked() {
    insta::assert_snapshot!(problems_of("rules/other.yaml", &rule_text("")), @"1:5: the rule `mine` lies in a file called `other.yaml`; both have one name  [mine]");
    insta::assert_snapshot!(problems_of("rules/Mine.yaml", &rule_text("").replace("id: mine", "id: Mine")), @"1:5: `Mine` is not kebab-case, such as `weights-do-not-fit`  [Mine]");
    insta::assert_snapshot!(problems_of("rules/mine.yaml", &rule_text("").replace("error", "eror")), @"2:11: a severity is error, warning or info, not `eror`; did you mean `error`?  [eror]");
    insta::assert_snapshot!(problems_of("rules/mine.yaml", &rule_text("").replace("scope: scenario", "scope: cell")), @"3:8: a scope is one of scenario, deployment, model, manifest, structural, not `cell`  [cell]");
    insta::assert_snapshot!(problems_of("rules/mine.yaml", &rule_text("").replace("scope: scenario", "scope: model")), @"4:7: a rule with `scope: model` does not know `estimate.over_bytes`, which differs from scenario to scenario  [estimate.over_bytes]");
    insta::assert_snapshot!(problems("supersedes: [weights-do-not-fitt]\n"), @"6:14: no rule is called `weights-do-not-fitt`; did you mean `weights-do-not-fit`?  [weights-do-not-fitt]");
    insta::assert_snapshot!(problems("fix: {set: scenario.context, to: estimate.over_bytes}\n"), @"6:34: `scenario.context` and `estimate.over_bytes` are not of one kind  [estimate.over_bytes]");
    insta::assert_snapshot!(problems("severity_when: [{when: scenario.batch, severity: bad}]\n"), @"
    6:24: a condition is true or false, this is an int  [scenario.batch]
    6:50: a severity is error, warning or info, not `bad`  [bad]
    ");
    insta::assert_snapshot!(problems_of("r/weights-do-not-fit.yaml", &rule_text("").replace("mine", "weights-do-not-fit")), @"1:5: `weights-do-not-fit` is a built-in rule; a rule of your own needs an id of its own  [weights-do-not-fit]");
    insta::assert_snapshot!(problems_of("r/mine.yaml", "id: mine\nscope: scenario\nseverity: error\n"), @"
    1:5: this rule has no `when`  [mine]
    1:5: this rule has no `message`  [mine]
    ");
    insta::assert_snapshot!(problems_of("r/mine.yaml", "[1, 2]\n"), @"1:1: a rule is a mapping, this is a list  [[1, 2]]");
    insta::assert_snapshot!(problems_of("r/mine.yaml", "id: [\n"), @"1:5: not YAML: unclosed bracket '['  [[]");
    insta::assert_snapshot!(problems_of("r/mine.yaml", ""), @"1:1: the file is empty  []");
}

#[test]
fn files_that_name_each_other_are_told_once_and_no_problem_hides_another() {
    let sources = Sources::default();
    let named = |id: &str, more: &str| {
        (
            format!("{id}.yaml"),
            rule_text(more).replace("id: mine", &format!("id: {id}")),
        )
    };
    let files = [
        named("one", "supersedes: [two, three]\n"),
        named("two", "when: oops\n"),
        ("sub/one.yaml".to_owned(), named("one", "").1),
        ("empty.yaml".to_owned(), "scope: model\n".to_owned()),
    ];
    let findings = Rules::load(files.into_iter(), &sources).unwrap_err();
    let told = findings.iter().map(|finding| {
        let span = finding.primary.as_ref().unwrap().span;
        format!("{}: {}", sources.path(span), finding.message)
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    two.yaml: nothing is called `oops`
    sub/one.yaml: two rules are called `one`
    empty.yaml: `id` is missing
    one.yaml: no rule is called `three`
    ");
}

#[test]
fn a_rule_of_ones_own_joins_the_built_in_ones() {
    let sources = Sources::default();
    let text = rule_text("supersedes: [weights-do-not-fit]\n");
    let rules = Rules::load([("rules/mine.yaml", text.as_str())].into_iter(), &sources).unwrap();
    assert!(rules.get("mine").is_some() && rules.get("weights-do-not-fit").is_some());
    assert_eq!(rules.iter().count(), Rules::builtin().iter().count() + 1);
}

#[test]
fn an_absent_fact_makes_a_condition_false_and_has_tells() {
    let world = World::new().cell(1, 8192, |_| {});
    let view = world.view(0);
    let holds = |text: &str| Condition::compile(text, Scope::Scenario).unwrap().holds(&view);
    assert!(holds(
        "scenario.context == 8192 && machine.name == '2x l4' && machine.compute_capability > 8.8"
    ));
    assert!(holds(
        "machine.compute_capability != 8 && estimate.state_bytes == 0 && machine.count == 2.0"
    ));
    assert!(!holds("machine.working_set_bytes > 0.0"));
    assert!(!holds("!(machine.working_set_bytes > 0.0)"));
    assert!(holds(
        "!has(machine.working_set_bytes) && has(machine.memory_bytes)"
    ));
    assert!(holds("machine.working_set_bytes > 0.0 || machine.count == 2"));
    assert!(
        !holds("machine.count / (machine.count - 2) > 0"),
        "a division by zero is no reason to speak"
    );
    assert!(holds(
        "deployment.args.all(a, a == 'never') && !deployment.args.exists(a, true)"
    ));
}

#[test]
fn templates_print_units_and_say_nothing_when_a_fact_is_absent() {
    let world = World::new().cell(0, 131_072, |_| {});
    let view = world.view(0);
    let render = |text: &str| Template::parse(text, Scope::Scenario).unwrap().render(&view);
    assert_eq!(
        render("{machine.memory_bytes:GiB}, {estimate.overhead_low_bytes:size}, {estimate.overhead_low_bytes:MiB}").unwrap(),
        "24.0 GiB, 512 MiB, 512 MiB"
    );
    assert_eq!(
        render("{scenario.context:tokens} {scenario.context:count} {scenario.context}").unwrap(),
        "131,072 tokens 131,072 131072"
    );
    assert_eq!(
        render("{model.parameters_billions} {machine.unified_memory} {{}}").unwrap(),
        "8.03 true {}"
    );
    assert_eq!(render("half {machine.compute_capability}"), None);
}

#[test]
fn amounts_that_differ_never_read_the_same() {
    let world = World::new().cell(0, 8192, |cell| {
        let estimate = cell.estimate.as_mut().unwrap();
        estimate.usable_bytes = 16 << 30;
        estimate.weights_bytes = (16 << 30) + (20 << 20);
    });
    let text = "needs {estimate.weights_bytes:GiB}, has {estimate.usable_bytes:GiB}";
    let said = Template::parse(text, Scope::Scenario)
        .unwrap()
        .render(&world.view(0))
        .unwrap();
    assert_eq!(said, "needs 16.02 GiB, has 16.00 GiB");
}

#[test]
fn the_machine_is_pointed_at_where_the_deployment_names_it() {
    let world = World::new().cell(1, 131_072, |_| {});
    let view = world.view(0);
    let place = |path: &str| {
        world
            .sources
            .slice(facts::find(path).unwrap().span(&view).unwrap())
    };
    assert_eq!(place("machine.name"), "2x l4");
    assert_eq!(place("scenario.context"), "128k");
    assert_eq!(place("model.num_kv_heads"), "8");
}

/// Pieces from which hostile conditions and templates are put together.
#[rustfmt::skip]
const PIECES: [&str; 40] = [
    "scenario",
    ".",
    "context",
    "machine.name",
    "estimate.over_bytes",
    " ",
    "\n",
    "1",
    "1.5",
    "'a'",
    "\"",
    "'",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    "GiB",
    "&&",
    "||",
    "!",
    "-",
    "?",
    ">",
    "==",
    "in",
    "has",
    ".all",
    ".map",
    "x",
    ",",
    "é",
    "\u{1F600}",
    "\\",
    "`",
    "{{",
    "null",
    "1u",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100))]

    #[test]
    fn any_text_is_a_rule_or_is_told_why_not(picks in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = picks.iter().map(|pick| PIECES[*pick]).collect();
        for scope in [Scope::Scenario, Scope::Model] {
            let problems = [Condition::compile(&text, scope).err(), Template::parse(&text, scope).err()];
            for problem in problems.into_iter().flatten().flatten() {
                assert!(problem.range.start <= problem.range.end && problem.range.end <= text.len(), "{text:?} {problem:?}");
            }
        }
        let file = format!("id: mine\nseverity: error\nscope: scenario\nmessage: x\nwhen: |\n  {}\n", text.replace('\n', "\n  "));
        let _ = Rules::load([("mine.yaml", file)].into_iter(), &Sources::default());
    }
}
