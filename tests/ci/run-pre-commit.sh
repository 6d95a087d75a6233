#!/usr/bin/env bash
# Runs our hooks with the real pre-commit in scratch repositories: a tree with findings must fail, a clean one pass.
# The hook that builds oomlint with cargo takes minutes and runs only with FULL=1.
# Usage: run-pre-commit.sh [OOMLINT]   (default: the binary in target/)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

target="${CARGO_TARGET_DIR:-$root/target}"
binary="${1:-$target/release/oomlint}"
[ -x "$binary" ] || binary="$target/debug/oomlint"
[ -x "$binary" ] || { echo "no oomlint in target/: build it first" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PRE_COMMIT_HOME="$scratch/pre-commit"
# The caller may itself be a git hook; its repository must not be taken for the scratch ones.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
mkdir "$scratch/bin"
ln -s "$(realpath "$binary")" "$scratch/bin/oomlint"

# run HOOK TREE: the exit code of the hook on a fresh repository with that tree; its output in $scratch/log.
run() {
    local repository="$scratch/$1-$2"
    cp -r "$root/tests/ci/trees/$2" "$repository"
    git -C "$repository" init --quiet
    git -C "$repository" add --all
    (cd "$repository" && pre-commit try-repo "$root" "$1" --all-files --verbose) >"$scratch/log" 2>&1
}

expect() {
    local hook=$1 tree=$2 wanted=$3 words=$4 code=0
    run "$hook" "$tree" || code=$?
    if [ "$code" != "$wanted" ] || ! grep -q "$words" "$scratch/log"; then
        echo "FAILED: $hook on the $tree tree: exit code $code (expected $wanted), expected to read '$words':" >&2
        cat "$scratch/log" >&2
        exit 1
    fi
    echo "ok -- $hook on the $tree tree"
}

hooks=(oomlint-system)
if [ "${FULL:-}" = 1 ]; then
    hooks+=(oomlint)
else
    echo "skipped: the hook that builds oomlint (set FULL=1)"
fi
for hook in "${hooks[@]}"; do
    PATH="$scratch/bin:$PATH" expect "$hook" failing 1 "deploy.yaml"
    PATH="$scratch/bin:$PATH" expect "$hook" passing 0 "Passed"
done
