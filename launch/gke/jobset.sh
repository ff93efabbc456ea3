#!/usr/bin/env bash
# Trains on GKE as a JobSet, on TPU slices or on nodes with GPUs:
#
#   export NAME=... IMAGE=... CLAIM=... HOSTS=16 ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=8x8 CHIPS=4
#   bash launch/gke/jobset.sh print tpu train --config configs/lam_pretrain.py:base --workdir /shared/run
#   bash launch/gke/jobset.sh apply tpu train ...   the same, handed to kubectl
#   bash launch/gke/jobset.sh delete tpu
#
#   NAME          of the JobSet; IMAGE from launch/docker/build.sh
#   CLAIM         PersistentVolumeClaim, mounted at /shared: data and run folder, seen by all hosts
#   HOSTS         of a slice, or nodes with GPUs; CHIPS: TPU chips or GPUs of each
#   ACCELERATOR   cloud.google.com/gke-tpu-accelerator or gke-accelerator of the nodes; TOPOLOGY: of a TPU slice
#   SLICES        TPU slices (default: 1)
#   SPOT          true for spot nodes (default: false)
#   MAX_RESTARTS  of the whole JobSet, each of which resumes (default: 100)
#   GRACE_SECONDS from SIGTERM to the end, to save in (default: 300)
set -euo pipefail

stop() { printf 'error: %s\n' "$*" >&2; exit 2; }
folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${FARSIGHTED_PYTHON:-python3}"

[ "$#" -ge 2 ] || stop "usage: jobset.sh print|apply|delete tpu|gpu [COMMAND ...]"
action="$1" kind="$2"
shift 2
template="$folder/$kind.yaml.in"
[ -f "$template" ] || stop "unknown kind $kind, expected tpu or gpu"

# A variable that is not set is an error; the command becomes a list that needs no quoting.
rendered() {
  [ "$#" -gt 0 ] || stop "which command, e.g. train --config FILE --workdir FOLDER"
  local processes=() spot=DoesNotExist
  [ "${SPOT:-false}" != true ] || spot=Exists
  # $(PROCESS_ID) is filled in by Kubernetes.
  # shellcheck disable=SC2016
  [ "$kind" = tpu ] || processes=(
    --coordinator "${NAME:-}-node-0-0.${NAME:-}:8482" --num-processes "${HOSTS:-}" --process-id '$(PROCESS_ID)'
  )
  SLICES="${SLICES:-1}" SPOT_OPERATOR="$spot" MAX_RESTARTS="${MAX_RESTARTS:-100}" \
    GRACE_SECONDS="${GRACE_SECONDS:-300}" \
    "$python" - "$template" "$@" ${processes[@]+"${processes[@]}"} <<'PYTHON'
import json, os, string, sys

text = open(sys.argv[1], encoding="utf-8").read()
known = {name: value for name, value in os.environ.items() if value}
try:
    print(string.Template(text).substitute(known, COMMAND=json.dumps(sys.argv[2:])), end="")
except KeyError as name:
    sys.exit(f"error: set {name.args[0]}; see the head of launch/gke/jobset.sh")
PYTHON
}

case "$action" in
  print) rendered "$@" ;;
  apply)
    text="$(rendered "$@")"
    printf '%s\n' "$text" | kubectl apply -f -
    ;;
  delete) kubectl delete jobset "${NAME:?set NAME}" ;;
  *) stop "unknown action $action, expected print, apply or delete" ;;
esac
