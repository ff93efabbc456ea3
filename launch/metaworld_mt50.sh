#!/usr/bin/env bash
# MT50 of Meta-World, from recording to closed loop, by the stages of configs/metaworld_mt50.py. The same line
# again goes on where it stopped.
#
#   bash launch/metaworld_mt50.sh                  the whole recipe (its frozen networks: see the configuration)
#   bash launch/metaworld_mt50.sh --ten-minutes    a preset for one datacentre GPU and 16 CPU cores
#
#   --wrist        the policy sees the wrist camera too
#   --control      also a policy without latent actions and pretraining, on the same demonstrations
#   --tasks "A B"  only these, or a group: easy, medium, hard, very_hard (default: all)
#   --out DIR      folder of everything (default: runs/mt50, or runs/mt50-ten-minutes)
#   --dry-run      prints the commands
#   --quick        one demonstration a task, a few steps of everything: does it work? (with --ten-minutes)
set -euo pipefail

out="" option="" demonstrations=50 episodes=10 resolution=224 cameras=(primary) tasks=(all)
control=0 dry=0 quick=0 train=() rollout=()
while [ $# -gt 0 ]; do
  case "$1" in
    --ten-minutes) option+="+ten_minutes" demonstrations=25 episodes=2 resolution=96 out="${out:-runs/mt50-ten-minutes}" ;;
    --wrist) option+="+wrist" cameras=(primary wrist) ;;
    --control) control=1 ;;
    --quick) quick=1 ;;
    --tasks) read -ra tasks <<<"${2:?--tasks needs names}"; shift ;;
    --out) out="${2:?--out needs a folder}"; shift ;;
    --dry-run) dry=1 ;;
    *) printf 'error: unknown argument %s; see the first lines of %s\n' "$1" "$0" >&2; exit 2 ;;
  esac
  shift
done
out="${out:-runs/mt50}"
if [ "$quick" = 1 ]; then
  demonstrations=1 episodes=1
  train=(--config.total_steps=4 --config.batch_size=4 --config.eval.batch_size=4)
  rollout=(--max-steps 8)
fi

if [ "$dry" = 0 ]; then
  # shellcheck source=launch/environment.sh
  source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" build,plot,convert,sim
  ldconfig -p | grep libOSMesa >/dev/null || install_debian libosmesa6 ||
    stop "no software renderer; on Debian or Ubuntu: sudo apt-get install libosmesa6"
  mkdir -p "$out"
  out="$(cd "$out" && pwd)"
  cd "$root"
fi

farsighted() {
  printf '== farsighted %s\n' "$*"
  [ "$dry" = 1 ] || "$python" -m farsighted_jax.cli.main "$@"
}

# train STAGE ARGUMENTS...: in OUT/STAGE
train() {
  local stage="$1"; shift
  farsighted train --config "configs/metaworld_mt50.py:$stage$option" --config.data.dir="$out/data" \
    ${train[@]+"${train[@]}"} "$@" --workdir "$out/$stage"
}

# closed_loop STAGE: publishes OUT/STAGE as OUT/STAGE-release and lets it loose, results in OUT/STAGE-closed-loop
closed_loop() {
  [ -e "$out/$1-release" ] || farsighted publish "$out/$1" "$out/$1-release"
  farsighted rollout run --policy "$out/$1-release" --tasks "${tasks[@]}" --episodes "$episodes" --resolution "$resolution" \
    ${rollout[@]+"${rollout[@]}"} --out "$out/$1-closed-loop"
}

farsighted rollout record --tasks "${tasks[@]}" --episodes "$demonstrations" --val 1 --cameras "${cameras[@]}" \
  --resolution "$resolution" --out "$out/data"
train lam
train pretrain --config.lam="$out/lam"
train finetune --config.init="$out/pretrain"
closed_loop finetune
if [ "$control" = 1 ]; then
  train scratch
  closed_loop scratch
fi
