#!/usr/bin/env python3
"""Executes action.yml in a stand-in for GitHub's runner.

Reads the action, evaluates the expressions in `env`, `if`, `with` and `outputs`, and runs each step with the shell
and the files that the runner gives it (GITHUB_ENV, GITHUB_OUTPUT, GITHUB_STEP_SUMMARY). Steps that use other
actions are recorded, not run.

oomlint is taken from target/ as if a cache had restored it, or from the path given as argument. With FULL=1 one
case starts from nothing, so that the action builds it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREES = ROOT / "tests" / "ci" / "trees"

try:
    import yaml
except ImportError:
    # Not started from the tools' own environment: build it and start again inside it.
    again = f'source "{ROOT}/tests/ci/venv.sh" && exec python3 "$@"'
    os.execvp("bash", ["bash", "-c", again, "bash", __file__, *sys.argv[1:]])


class Expression:
    """The part of GitHub's expression language that action.yml uses, evaluated from left to right."""

    TOKENS = re.compile(r"\s*(==|!=|&&|\|\||!|\(|\)|'(?:[^']|'')*'|[A-Za-z_][\w.-]*)")

    def __init__(self, text, contexts, functions):
        self.contexts, self.functions = contexts, functions
        self.tokens, at = [], 0
        text = text.strip()
        while at < len(text):
            match = self.TOKENS.match(text, at)
            if not match:
                raise ValueError(f"cannot read the expression {text!r} at {text[at:]!r}")
            self.tokens.append(match.group(1))
            at = match.end()

    def value(self):
        value = self.either()
        if self.tokens:
            raise ValueError(f"left over: {self.tokens}")
        return value

    def next_is(self, token):
        if self.tokens and self.tokens[0] == token:
            self.tokens.pop(0)
            return True
        return False

    def either(self):
        value = self.both()
        while self.next_is("||"):
            other = self.both()
            value = value or other
        return value

    def both(self):
        value = self.compared()
        while self.next_is("&&"):
            other = self.compared()
            value = value and other
        return value

    def compared(self):
        value = self.single()
        if self.next_is("=="):
            return value == self.single()
        if self.next_is("!="):
            return value != self.single()
        return value

    def single(self):
        if self.next_is("!"):
            return not self.single()
        if self.next_is("("):
            value = self.either()
            assert self.next_is(")"), "a bracket is not closed"
            return value
        token = self.tokens.pop(0)
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if self.next_is("("):
            assert self.next_is(")"), "only functions without arguments are known"
            return self.functions[token]()
        value = self.contexts
        for key in token.split("."):
            # The runner makes an unknown name an empty text; here it must at least be a context that exists.
            if value is self.contexts and key not in value:
                raise ValueError(f"unknown context {key!r}")
            value = value.get(key, "") if isinstance(value, dict) else ""
        return value


class Runner:
    """Runs the steps of a composite action for one set of inputs."""

    def __init__(self, action, inputs, home):
        self.action, self.home = action, home
        self.workspace = home / "workspace"
        self.temp = home / "temp"
        self.temp.mkdir()
        self.summary = home / "summary.md"
        self.summary.touch()
        self.path = os.environ["PATH"]
        self.failed = False
        self.exit_code = 0
        self.log = ""
        self.used = []
        self.outputs = {}
        unknown = set(inputs) - set(action["inputs"])
        assert not unknown, f"the action has no input {unknown}"
        declared = {name: str(given.get("default", "")) for name, given in action["inputs"].items()}
        self.contexts = {
            "inputs": {**declared, **inputs},
            "steps": {},
            "github": {"action_path": str(ROOT), "action_repository": "", "token": "not-a-token"},
            "runner": {"temp": str(self.temp)},
        }

    def restore(self, binary):
        """Puts a binary where a cache would restore it."""
        folder = self.temp / "oomlint" / "bin"
        folder.mkdir(parents=True)
        shutil.copy(binary, folder / "oomlint")

    def publish(self, release):
        """Puts a `gh` on PATH that downloads the files of a folder, whatever release it is asked for."""
        gh = self.home / "bin" / "gh"
        gh.parent.mkdir()
        gh.write_text(
            "#!/usr/bin/env bash\n"
            'while [ "$1" != --dir ]; do shift; done\n'
            f'cp "{release}"/* "$2"\n'
        )
        gh.chmod(0o755)
        self.path = f"{gh.parent}:{self.path}"
        self.contexts["github"]["action_repository"] = "oomlint/oomlint"

    def functions(self):
        return {
            "success": lambda: not self.failed,
            "failure": lambda: self.failed,
            "always": lambda: True,
            "cancelled": lambda: False,
        }

    def evaluate(self, text):
        return Expression(text, self.contexts, self.functions()).value()

    def fill(self, text):
        """Replaces the expressions in a text."""
        return re.sub(r"\$\{\{(.*?)\}\}", lambda match: str(self.evaluate(match.group(1))), str(text))

    def should_run(self, step):
        condition = re.sub(r"^\s*\$\{\{(.*)\}\}\s*$", r"\1", str(step.get("if", "success()")), flags=re.DOTALL)
        # Without one of the status functions the runner adds success().
        asks_status = re.search(r"\b(success|failure|always|cancelled)\(\)", condition)
        return bool(self.evaluate(condition)) and (bool(asks_status) or not self.failed)

    def run(self):
        for step in self.action["runs"]["steps"]:
            if not self.should_run(step):
                continue
            if "uses" in step:
                settings = {key: self.fill(value) for key, value in step.get("with", {}).items()}
                self.used.append((step["uses"], settings))
            else:
                self.run_script(step)
        outputs = self.action.get("outputs", {})
        self.outputs = {name: self.fill(output["value"]) for name, output in outputs.items()}

    def run_script(self, step):
        assert step["shell"] == "bash"
        script = self.home / "step.sh"
        script.write_text(step["run"])
        output = self.home / "output.txt"
        output.write_text("")
        (self.home / "env.txt").touch()
        environment = {
            **os.environ,
            "PATH": self.path,
            "RUNNER_TEMP": str(self.temp),
            "RUNNER_OS": "Linux",
            "RUNNER_ARCH": "X64",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_ENV": str(self.home / "env.txt"),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            **{name: self.fill(value) for name, value in step.get("env", {}).items()},
        }
        done = subprocess.run(
            # The flags with which the runner starts `shell: bash`.
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script],
            cwd=self.workspace / self.fill(step.get("working-directory", ".")),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log += done.stdout
        if done.returncode != 0 and not self.failed:
            self.failed, self.exit_code = True, done.returncode
        if "id" in step:
            lines = output.read_text().splitlines()
            self.contexts["steps"][step["id"]] = {"outputs": dict(line.split("=", 1) for line in lines)}

    def annotations(self, command):
        return [line for line in self.log.splitlines() if line.startswith(f"::{command} ")]


class Scratch:
    """Runs the action in scratch repositories and removes them."""

    def __init__(self, action, binary):
        self.action, self.binary = action, binary
        self.folder = Path(tempfile.mkdtemp(prefix="oomlint-action-"))

    def run(self, trees, binary="prepared", release=None, **inputs):
        """Runs the action in a fresh repository into which `trees` (folder: tree) are copied."""
        home = Path(tempfile.mkdtemp(dir=self.folder))
        workspace = home / "workspace"
        workspace.mkdir()
        for folder, tree in trees.items():
            shutil.copytree(TREES / tree, workspace / folder, dirs_exist_ok=True)
        inputs = {name.replace("_", "-"): value for name, value in inputs.items()}
        runner = Runner(self.action, inputs, home)
        if binary == "prepared":
            runner.restore(self.binary)
        if release:
            runner.publish(release)
        runner.run()
        expect(runner, not list(home.rglob("*pwned*")), "an input was executed")
        return runner

    def archive(self, name):
        """An archive of oomlint with its checksum, as a release holds them."""
        release = self.folder / name
        release.mkdir()
        asset = release / "oomlint-x86_64-unknown-linux-musl.tar.gz"
        with tarfile.open(asset, "w:gz") as archive:
            archive.add(self.binary, "oomlint")
        digest = hashlib.sha256(asset.read_bytes()).hexdigest()
        (release / f"{asset.name}.sha256").write_text(f"{digest}  {asset.name}\n")
        return release


CASES = []


def case(function):
    CASES.append(function)
    return function


def expect(run, condition, words):
    if not condition:
        sys.exit(f"FAILED: {words}\nexit code {run.exit_code}, outputs {run.outputs}, log:\n{run.log}")


def expect_exit(run, code):
    expect(run, run.exit_code == code, f"expected exit code {code}")
    # Where no binary was found there is no run whose code could be told.
    if "check" in run.contexts["steps"]:
        expect(run, run.outputs["exit-code"] == str(code), "the output tells another exit code")


@case
def findings_fail_the_step(scratch):
    run = scratch.run({".": "failing"})
    expect_exit(run, 1)
    errors = run.annotations("error")
    expect(run, errors and "file=deploy.yaml,line=" in errors[0], "no annotation at a place")
    expect(run, run.outputs["errors"] == str(len(errors)), "wrong number of errors")
    expect(run, "## oomlint" in run.summary.read_text(), "no job summary")
    expect(run, Path(run.outputs["sarif-file"]).is_file(), "no SARIF file")
    expect(run, not run.used, "SARIF was uploaded unasked")


@case
def a_clean_tree_passes(scratch):
    run = scratch.run({".": "passing"})
    expect_exit(run, 0)
    expect(run, run.outputs["errors"] == "0", "wrong number of errors")
    expect(run, "## oomlint" in run.summary.read_text(), "no job summary")
    expect(run, Path(run.outputs["sarif-file"]).is_file(), "no SARIF file")


@case
def nothing_to_check_is_not_green(scratch):
    expect_exit(scratch.run({}), 3)


@case
def the_limit_can_be_moved(scratch):
    expect_exit(scratch.run({".": "failing"}, fail_on="never"), 0)


@case
def arguments_are_one_a_line(scratch):
    expect_exit(scratch.run({".": "failing"}, args="--fail-on\nnever\n"), 0)


@case
def paths_are_one_a_line_and_may_hold_spaces(scratch):
    trees = {"my deployments": "failing", "other one": "passing"}
    run = scratch.run(trees, paths="other one\nmy deployments\n")
    expect_exit(run, 1)
    expect(run, "file=my deployments/deploy.yaml" in run.annotations("error")[0], "wrong path")
    expect_exit(scratch.run(trees, paths="other one"), 0)


@case
def the_repository_may_lie_in_a_folder(scratch):
    run = scratch.run({"checkout": "failing"}, working_directory="checkout")
    expect_exit(run, 1)
    expect(run, "file=deploy.yaml" in run.annotations("error")[0], "the path is not the repository's")


@case
def sarif_is_uploaded_when_asked_even_after_findings(scratch):
    run = scratch.run({".": "failing"}, upload_sarif="true")
    expect_exit(run, 1)
    expect(run, len(run.used) == 1, f"steps used: {run.used}")
    name, settings = run.used[0]
    expect(run, name.startswith("github/codeql-action/upload-sarif@"), f"steps used: {run.used}")
    expect(run, settings["sarif_file"] == run.outputs["sarif-file"], f"steps used: {run.used}")


@case
def inputs_are_never_executed(scratch):
    hostile = [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned #",
        "' ; touch pwned ; '",
        '" ; touch pwned ; "',
        "&& touch pwned",
        "${{ github.token }}",
    ]
    for text in hostile:
        for name in ("paths", "fail_on", "version"):
            expect_exit(scratch.run({".": "passing"}, **{name: text}), 2)
        # What these mean is for oomlint to say; here it only matters that they are not run.
        for name in ("args", "machine"):
            scratch.run({".": "passing"}, **{name: text})


@case
def a_release_that_does_not_exist_is_said(scratch):
    run = scratch.run({".": "passing"}, version="0.0.0-none")
    expect_exit(run, 2)
    expect(run, "no release v0.0.0-none" in run.log, "nothing is said")


@case
def a_release_is_downloaded_and_verified(scratch):
    run = scratch.run({".": "passing"}, binary="none", release=scratch.archive("release"))
    expect_exit(run, 0)
    expect(run, "downloaded oomlint" in run.log, "it was not downloaded")


@case
def a_release_with_a_wrong_checksum_is_refused(scratch):
    release = scratch.archive("tampered")
    with next(release.glob("*.tar.gz")).open("ab") as asset:
        asset.write(b"more")
    run = scratch.run({".": "passing"}, binary="none", release=release)
    expect_exit(run, 2)
    expect(run, "checksum" in run.annotations("error")[0], "nothing is said")


@case
def the_first_run_builds_the_binary(scratch):
    if os.environ.get("FULL") != "1":
        return "skipped (set FULL=1)"
    run = scratch.run({".": "passing"}, binary="none")
    expect_exit(run, 0)
    expect(run, run.annotations("notice"), "the build is not announced")


def check_that_no_script_holds_an_expression(action):
    """An expression inside `run` is pasted into the script before the shell sees it."""
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), f"an expression stands in the script of {step['name']!r}"


def find_binary():
    given = [Path(argument) for argument in sys.argv[1:]]
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for path in given or [target / "release" / "oomlint", target / "debug" / "oomlint"]:
        if path.is_file():
            return path.resolve()
    sys.exit("no oomlint in target/: build it first")


def main():
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    check_that_no_script_holds_an_expression(action)
    scratch = Scratch(action, find_binary())
    try:
        for run_case in CASES:
            print(f"{run_case(scratch) or 'ok'} -- {run_case.__name__}", flush=True)
    finally:
        shutil.rmtree(scratch.folder)


if __name__ == "__main__":
    main()
