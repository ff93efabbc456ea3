#!/usr/bin/env bash
# Builds the image for one kind of device, and pushes it if asked to:
#
#   bash launch/docker/build.sh cpu|cuda12|cuda13|tpu IMAGE [--push]
set -euo pipefail

stop() { printf 'error: %s\n' "$*" >&2; exit 2; }
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

[ "$#" -ge 2 ] || stop "usage: build.sh cpu|cuda12|cuda13|tpu IMAGE [--push]"
variant="$1" image="$2" push="${3:-}"
case "$variant" in cpu | cuda12 | cuda13 | tpu) ;; *) stop "unknown device $variant, expected cpu, cuda12, cuda13 or tpu" ;; esac
[ -z "$push" ] || [ "$push" = --push ] || stop "unknown option $push, expected --push"

docker build --file "$root/launch/docker/Dockerfile" --build-arg "JAX=$variant" --tag "$image" "$root"
[ -z "$push" ] || docker push "$image"
