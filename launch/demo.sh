#!/usr/bin/env bash
# Makes .venv, installs what the demo needs, runs it. Arguments go to `farsighted demo`:
#
#   bash launch/demo.sh           train on the synthetic dataset, end with a page of figures
#   bash launch/demo.sh --quick   the same in a minute, to see that everything works
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" build,plot

cd "$root"
exec "$python" -m farsighted_jax.cli.main demo "$@"
