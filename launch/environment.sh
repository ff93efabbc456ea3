# shellcheck shell=bash
# Sourced by the scripts of this folder, from any working directory:
#
#   source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev,plot
#
# Makes .venv in the repository root, installs the package with the given extras, and leaves `root` and
# `python` (the interpreter inside .venv) set. A second call with the same setup.py installs nothing.
#
#   FARSIGHTED_PYTHON       interpreter to build .venv with (default: the first of 3.12, 3.11, 3.13 that runs)
#   FARSIGHTED_JAX_VARIANT  auto (default), cpu, cuda12, cuda13 or tpu
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
python="$venv/bin/python"

say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

# A name on PATH may be a shim that does not run, so each candidate is started.
is_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in python3.12 python3.11 python3.13 python3 python; do
    if is_python "$candidate"; then printf '%s\n' "$candidate"; return 0; fi
  done
  return 1
}

# Installs Debian packages where that is possible without asking anybody.
install_debian() {
  local as_root=()
  command -v apt-get >/dev/null || return 1
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  say "installing Debian packages: $*"
  ${as_root[@]+"${as_root[@]}"} apt-get update -qq >&2 || true
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >&2
}

make_venv() {
  local base
  if [ -n "${FARSIGHTED_PYTHON:-}" ]; then
    base="$FARSIGHTED_PYTHON"
    is_python "$base" || stop "FARSIGHTED_PYTHON=$base is no Python 3.11 or newer"
  elif ! base="$(find_python)"; then
    install_debian python3 python3-venv || true
    base="$(find_python)" || stop "no Python 3.11 or newer found; on Debian or Ubuntu: sudo apt-get install python3 python3-venv"
  fi
  if ! has_venv "$base"; then
    local version
    version="$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
    install_debian "$version-venv" || true
    has_venv "$base" || stop "$base cannot make virtual environments; on Debian or Ubuntu: sudo apt-get install $version-venv"
  fi
  say "making $venv with $("$base" --version 2>&1) ($(command -v "$base"))"
  "$base" -m venv --clear "$venv"
}

jax_variant() {
  local wanted="${FARSIGHTED_JAX_VARIANT:-auto}" driver
  case "$wanted" in
    cpu | cuda12 | cuda13 | tpu) printf '%s\n' "$wanted"; return ;;
    auto) ;;
    *) stop "FARSIGHTED_JAX_VARIANT=$wanted is not one of auto, cpu, cuda12, cuda13, tpu" ;;
  esac
  driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 | cut -d. -f1 || true)"
  # CUDA 13 needs driver 580 or newer; CUDA 12 packages run on anything from 525 on.
  if [[ ! "$driver" =~ ^[0-9]+$ ]]; then printf 'cpu\n'
  elif [ "$driver" -ge 580 ]; then printf 'cuda13\n'
  elif [ "$driver" -ge 525 ]; then printf 'cuda12\n'
  else printf 'cpu\n'; fi
}

install_package() {
  local extras="$1" variant stamp started=$SECONDS
  variant="$(jax_variant)"
  [ "$variant" = cpu ] || extras="$extras,$variant"
  stamp="$venv/installed-$({ cat "$root/setup.py"; printf '%s' "$extras"; } | cksum | cut -d ' ' -f 1)"
  [ ! -e "$stamp" ] || return 0
  say "installing farsighted-jax[$extras] (jax for $variant); this takes a minute or two"
  if ! (cd "$root" && "$python" -m pip install --quiet --disable-pip-version-check -e ".[$extras]" >"$venv/pip.log" 2>&1); then
    cat "$venv/pip.log" >&2
    stop "pip could not install farsighted-jax[$extras]; its output is above and in $venv/pip.log"
  fi
  touch "$stamp"
  say "installed in $((SECONDS - started)) s"
}

{ is_python "$python" && "$python" -c 'import pip' 2>/dev/null; } || make_venv
install_package "${1:?extras to install, e.g. dev,plot}"
