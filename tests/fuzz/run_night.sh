#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run_night.sh - runs every fuzz target of a build for a while, each on a copy of its corpus.
#
# usage: tests/fuzz/run_night.sh BUILD_DIR SECONDS
# Exit status 1 when a target crashed, hung, or took more than 64 MiB for one input (budget.c
# counts); the input then lies in BUILD_DIR/fuzz/.
set -eu

if [ $# -ne 2 ]; then
    sed -n '3,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
build=$(realpath "$1")
corpora=$(realpath "$(dirname "$0")/corpus")
mkdir -p "$build/fuzz"
failed=0
for target in "$build"/bin/fuzz_*; do
    name=$(basename "$target")
    work=$build/fuzz/$name
    mkdir -p "$work"
    cp -rn "$corpora/${name#fuzz_}/." "$work/"
    echo "== $name"
    (cd "$build/fuzz" && "$target" -max_total_time="$2" -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$name-" "$work" >"$name.log" 2>&1) || failed=1
    tail -n 8 "$build/fuzz/$name.log"
done
exit $failed
