# shellcheck shell=bash
# Sourced by the scripts beside it: puts the Python tools of requirements.txt on PATH, in a folder under target/.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv="${CARGO_TARGET_DIR:-$root/target}/ci-venv"

if ! cmp -s "$root/tests/ci/requirements.txt" "$venv/installed.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$root/tests/ci/requirements.txt"
    cp "$root/tests/ci/requirements.txt" "$venv/installed.txt"
fi
PATH="$venv/bin:$PATH"
