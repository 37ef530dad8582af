#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh - sets up, builds reco and shows what it does: a cluster of four shards with a memory
# of 6,965 drawings names things that its encoder has never seen.
#
# usage: tools/demo.sh [--keep]
#   --keep  leaves the cluster running and prints what to try next
set -eu

cd "$(dirname "$0")/.."
for argument in "$@"; do
    case $argument in
        --keep) ;;
        --help) sed -n '3,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "demo.sh: unknown argument '$argument'; allowed: --keep, --help" >&2; exit 2 ;;
    esac
done

tools/setup.sh
mkdir -p build
echo "build: build/release (a few minutes the first time)"
cmake --preset release >build/configure.log || { cat build/configure.log; exit 1; }
cmake --build --preset release -j "${RECO_JOBS:-$(nproc)}" -- --quiet
exec python3 tools/demo/demo.py build/release/bin "$@"
