#!/usr/bin/env bash
# Trains on a Cloud TPU pod (one queued resource), on demand or spot:
#
#   export PROJECT=... ZONE=... NAME=... TPU_TYPE=v5litepod-64 RUNTIME=v2-alpha-tpuv5-lite REPOSITORY=https://...
#   bash launch/tpu/pod.sh create                       ask for the pod and wait until it is there
#   bash launch/tpu/pod.sh setup                        install on every worker
#   bash launch/tpu/pod.sh run train --config ... --workdir /shared/run
#   bash launch/tpu/pod.sh keep train --config ...      all of it, again whenever a spot pod was taken away
#   bash launch/tpu/pod.sh status | delete
#
# `run` and `keep` hold a connection to every worker, so start them where it lasts: in tmux on a small machine of the zone.
#
#   SPOT=1        a spot pod: cheaper, may be taken away; `keep` asks for another and the run resumes
#   REVISION      branch, tag or commit of REPOSITORY (default: main)
#   MOUNT         command that each worker runs once to mount the shared storage of data and run folder
#   EXTRAS        of the package, besides `tpu` (default: gcs,plot)
#   POLL_SECONDS  between two looks at the pod (default: 30)
#   DRY_RUN=1     print the commands that would change something instead of running them
set -euo pipefail

say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'error: %s\n' "$*" >&2; exit 2; }

usage() { sed -n '2,/^set -/p' "${BASH_SOURCE[0]}" | sed -e '/^set -/d' -e 's/^# \{0,1\}//'; }

# Names every variable that is missing, before anything is asked for.
need() {
  local name missing=()
  for name in "$@"; do [ -n "${!name:-}" ] || missing+=("$name"); done
  [ "${#missing[@]}" = 0 ] || stop "set ${missing[*]}; see the head of launch/tpu/pod.sh"
}

change() {
  if [ "${DRY_RUN:-0}" = 1 ]; then printf '%q ' "$@"; printf '\n'; else "$@"; fi
}

place=()
tpus() { gcloud compute tpus "$@" "${place[@]}"; }

# ACTIVE once it can be used; empty if there is none.
state() { tpus queued-resources describe "${NAME:?}" --format='value(state.state)' 2>/dev/null || true; }

create() {
  need TPU_TYPE RUNTIME
  local spot=()
  [ "${SPOT:-0}" != 1 ] || spot=(--spot)
  change gcloud compute tpus queued-resources create "$NAME" --node-id "$NAME" \
    --accelerator-type "$TPU_TYPE" --runtime-version "$RUNTIME" ${spot[@]+"${spot[@]}"} "${place[@]}"
  [ "${DRY_RUN:-0}" = 1 ] || wait_until_active
}

wait_until_active() {
  local now
  while now="$(state)"; [ "$now" != ACTIVE ]; do
    case "$now" in
      FAILED | SUSPENDING | SUSPENDED | DELETING) say "$NAME is $now"; return 1 ;;
      "") say "$NAME is not there"; return 1 ;;
    esac
    say "$NAME is $now"
    sleep "${POLL_SECONDS:-30}"
  done
}

delete() { change gcloud compute tpus queued-resources delete "$NAME" --force --quiet "${place[@]}"; }

on_all_workers() { change gcloud compute tpus tpu-vm ssh "$NAME" --worker all --command "$1" "${place[@]}"; }

setup() {
  need REPOSITORY
  local folder=farsighted-jax script
  script="set -e; $(printf '[ -d %q ] || git clone --quiet %q %q' "$folder" "$REPOSITORY" "$folder")"
  script+="; cd $folder; git fetch --quiet --tags origin; git checkout --quiet $(printf '%q' "${REVISION:-main}")"
  script+="; export FARSIGHTED_JAX_VARIANT=tpu; source launch/environment.sh $(printf '%q' "${EXTRAS:-gcs,plot}")"
  [ -z "${MOUNT:-}" ] || script+="; $MOUNT"
  on_all_workers "bash -c $(printf '%q' "$script")"
}

# On Cloud TPU VMs jax learns the other workers from the metadata server.
run() {
  [ "$#" -gt 0 ] || stop "run: which command, e.g. run train --config FILE --workdir FOLDER"
  local command
  command="$(printf '%q ' .venv/bin/farsighted "$@" --coordinator auto)"
  on_all_workers "cd farsighted-jax && $command"
}

# One pod after the other until the command succeeds; a command that fails on a pod that is still there is an error.
keep() {
  local now
  while true; do
    now="$(state)"
    case "$now" in
      ACTIVE) ;;
      "") create || continue ;;
      FAILED | SUSPENDING | SUSPENDED) say "$NAME is $now: asking for another"; delete; continue ;;
      *) wait_until_active || continue ;;
    esac
    if setup && run "$@"; then return 0; fi
    # It takes a moment until a pod that was taken away says so.
    sleep "${POLL_SECONDS:-30}"
    [ "$(state)" != ACTIVE ] || stop "the command failed on a pod that is still there"
  done
}

[ "$#" -gt 0 ] || { usage; exit 2; }
action="$1"
shift
case "$action" in
  create | setup | run | keep | status | delete) ;;
  help | -h | --help) usage; exit 0 ;;
  *) stop "unknown action $action; one of create, setup, run, keep, status, delete" ;;
esac
need PROJECT ZONE NAME
place=(--project "$PROJECT" --zone "$ZONE")
if [ "$action" = status ]; then state; else "$action" "$@"; fi
