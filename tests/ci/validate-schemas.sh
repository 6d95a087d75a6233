#!/usr/bin/env bash
# Validates what other programs read of this repository: the action, the workflows, the hooks, our own schemas.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
cd "$root"

check-jsonschema --builtin-schema vendor.github-actions action.yml
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema --check-metaschema schemas/*.json
pre-commit validate-manifest .pre-commit-hooks.yaml
echo "ok -- pre-commit manifest"
