#!/usr/bin/env bash
# Makes .venv, installs everything the tests need, runs the default suite. Arguments go to pytest,
# paths among them are relative to the repository root:
#
#   bash launch/test.sh                     the default suite
#   bash launch/test.sh -m slow             the slow tier
#   bash launch/test.sh tests/core -k spec  a part
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev

cd "$root"
# A worker a core; tests/conftest.py says what goes to one worker. A later -n or --dist wins.
exec "$python" -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@"
