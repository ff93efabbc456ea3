#!/usr/bin/env bash
# Makes .venv, installs what the demo needs, runs it. Arguments go to `farsighted demo`:
#
#   bash launch/demo.sh           simulator, latent actions, policy, closed loop, a page; about 25 minutes on 2 cores
#   bash launch/demo.sh --quick   a few steps of everything, to see that it works
set -euo pipefail
started="$(date +%s)"
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" build,plot,convert,sim

if ! ldconfig -p | grep libOSMesa >/dev/null; then
  install_debian libosmesa6 || stop "no software renderer; on Debian or Ubuntu: sudo apt-get install libosmesa6"
fi

cd "$root"
exec "$python" -m farsighted_jax.cli.main demo --started "$started" "$@"
