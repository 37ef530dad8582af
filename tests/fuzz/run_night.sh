#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run_night.sh - runs fuzz targets of a build for a while, each on a copy of its corpus.
#
# usage: tests/fuzz/run_night.sh BUILD_DIR SECONDS [TARGET...]
# SECONDS are those of each target; without a TARGET (such as fuzz_json) every one runs. RECO_JOBS
# (default: every CPU) says how many run at once.
# Exit status 1 when a target crashed, hung, or took more than 64 MiB for one input (budget.c
# counts); the input then lies in BUILD_DIR/fuzz/, beside the target's log.
set -eu

# run_one BUILD SECONDS CORPORA TARGET
run_one() {
    local build=$1 seconds=$2 name=$4 status=0
    local corpus=$3/${name#fuzz_} work=$build/fuzz/$name
    [ -d "$corpus" ] || { echo "run_night.sh: $name has no corpus $corpus" >&2; return 1; }
    mkdir -p "$work"
    cp -rn "$corpus/." "$work/"
    (cd "$build/fuzz" && "$build/bin/$name" -max_total_time="$seconds" -rss_limit_mb=4096 \
        -print_final_stats=1 -artifact_prefix="$name-" "$work" >"$name.log" 2>&1) || status=$?
    printf '== %s: %s\n%s\n' "$name" "$([ $status = 0 ] && echo passed || echo "FAILED ($status)")" \
        "$(tail -n 8 "$build/fuzz/$name.log")"
    return $status
}

if [ $# -lt 2 ]; then
    sed -n '3,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
build=$(realpath "$1")
seconds=$2
corpora=$(realpath "$(dirname "$0")/corpus")
shift 2
[ $# -gt 0 ] || set -- "$build"/bin/fuzz_*
mkdir -p "$build/fuzz"
export -f run_one
basename -a "$@" | xargs -P "${RECO_JOBS:-$(nproc)}" -I TARGET \
    bash -c 'run_one "$@" || exit 1' run_one "$build" "$seconds" "$corpora" TARGET || exit 1
