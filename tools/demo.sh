#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh - sets up, builds reco and shows what it does: a cluster of four shards with a memory
# of 6,965 drawings names things that its encoder has never seen.
#
# usage: tools/demo.sh [--keep] [--device UUID]
#   --keep         leaves the cluster running and prints what to try next
#   --device UUID  runs the encoder there: a device that `reco doctor` lists
set -eu

cd "$(dirname "$0")/.."
before=
for argument in "$@"; do
    case $before$argument in
        --keep | --device | --device?*) ;;
        --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "demo.sh: unknown argument '$argument'; allowed: --keep, --device UUID, --help" >&2; exit 2 ;;
    esac
    before=
    [ "$argument" != --device ] || before=$argument
done
[ -z "$before" ] || { echo "demo.sh: --device needs the UUID of a device that reco doctor lists" >&2; exit 2; }

tools/setup.sh
mkdir -p build
echo "build: build/release (a few minutes the first time)"
cmake --preset release >build/configure.log || { cat build/configure.log; exit 1; }
cmake --build --preset release -j "${RECO_JOBS:-$(nproc)}" -- --quiet
exec python3 tools/demo/demo.py build/release/bin "$@"
