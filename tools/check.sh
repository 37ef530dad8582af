#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check.sh - sets up, builds and tests reco; ends with ctest's summary.
#
# usage: tools/check.sh [--long]
#   --long  also what is meant for the night: everything once more under AddressSanitizer and
#           UndefinedBehaviorSanitizer, with clang, and ten minutes of each fuzz target
# What is built stays in build/, so a second run is quick.
set -eu

cd "$(dirname "$0")/.."
long=no
for argument in "$@"; do
    case $argument in
        --long) long=yes ;;
        --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "check.sh: unknown argument '$argument'; allowed: --long, --help" >&2; exit 2 ;;
    esac
done

step() {
    printf '\n== %s\n' "$*"
}

# build PRESET: configures and builds it.
build() {
    step "build $1 (build/$1)"
    cmake --preset "$1" >build/configure.log || { cat build/configure.log; exit 1; }
    cmake --build --preset "$1" -- --quiet
}

step "packages"
tools/setup.sh --tests
mkdir -p build

step "format"
tools/format.sh
build dev
step "lint"
tools/lint.sh build/dev

if [ $long = yes ]; then
    build asan
    step "test asan"
    ctest --preset asan --output-on-failure
    build clang
    step "test clang"
    ctest --preset clang --output-on-failure
    build fuzz
    step "fuzz"
    tests/fuzz/run_night.sh build/fuzz 600
else
    # Parsers and process tests under the sanitizers; the whole suite is for --long.
    build asan
    step "test asan (short)"
    ctest --preset asan --output-on-failure -LE long --quiet
fi

step "test"
ctest --preset dev --output-on-failure
