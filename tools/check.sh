#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check.sh - sets up, builds and tests reco; ends with ctest's summary.
#
# usage: tools/check.sh [--long]
#   --long  also what is meant for the night: the tests with clang, ten minutes of each fuzz
#           target, 100,000 damaged messages at each port, 10,000 cancels, 50 kills,
#           ThreadSanitizer, kernels of GPUs with cooperative matrices, every call of Vulkan failing,
#           arm64 under qemu, the demo on a Vulkan device, the head of reco-tiny made again, and what
#           it and its gate are worth
# What is built stays in build/, so a second run is quick. RECO_JOBS (default: every CPU) says how
# much is done at once.
set -eu

cd "$(dirname "$0")/.."
long=no
for argument in "$@"; do
    case $argument in
        --long) long=yes ;;
        --help) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "check.sh: unknown argument '$argument'; allowed: --long, --help" >&2; exit 2 ;;
    esac
done
jobs=${RECO_JOBS:-$(nproc)}

step() {
    printf '\n== %s (%d s)\n' "$*" "$SECONDS"
}

# tests PRESET: some time real processes, so each has a second try on a machine that stalls; ctest names those
# that took it. What failed twice is run again at the end, to be read there; that it failed stays.
tests() {
    ctest --preset "$1" -j "$jobs" --progress --repeat until-pass:2 && return
    step "what failed, once more"
    ctest --preset "$1" --rerun-failed --output-on-failure || true
    exit 8
}

# build PRESET: configures and builds it.
build() {
    step "build $1, into build/$1"
    cmake --preset "$1" >build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
    cmake --build --preset "$1" -j "$jobs" -- --quiet
}

step "packages"
tools/setup.sh --tests
mkdir -p build
step "format"
tools/format.sh
build dev
step "lint: clang-tidy"
tools/lint.sh build/dev
build asan
step "test under AddressSanitizer and UndefinedBehaviorSanitizer"
tests asan
if [ $long = yes ]; then
    step "what takes longest under AddressSanitizer"
    ctest --test-dir build/asan -R '^(e2e_(eval|round_trip|snapshots|disk_full)|cli_(bf16|device|index))$' \
        -j "$jobs" --progress --output-on-failure
    build clang
    step "test clang"
    ctest --preset clang -j "$jobs" --progress
    step "kernels of GPUs with cooperative matrices, on a newer software device"
    if tools/newer_vulkan.sh build/newer-vulkan; then
        cmake -C build/newer-vulkan/reco.cmake -B build/newer -G Ninja >build/configure.log
        cmake --build build/newer -j "$jobs" --target reco_gpu_tests test_gpu_canary test_ops test_ops_topk \
            test_clip_small test_golden_clip_{tiny,b32,l14-2} -- --quiet
        VK_LAYER_PATH=$PWD/build/newer-vulkan/sysroot/usr/share/vulkan/explicit_layer.d \
            VK_DRIVER_FILES=$PWD/build/newer-vulkan/lavapipe.json \
            ctest --test-dir build/newer -R '^test_(gpu_(rows|attention|products|topk|canary)|ops.*_vulkan|clip_small_vulkan|golden_clip.*_vulkan.*)$' \
            -j "$jobs" --progress --timeout 3000
    else
        echo "check: left out, Debian 13's packages are not to be had here"
    fi
    step "every call of Vulkan made to fail"
    (cd build/dev && RECO_FAULTS=all ctest -R '^test_gpu_clip_faults$' --output-on-failure)
    step "arm64: everything is built, what computes is tested under qemu"
    tools/setup.sh --arm64
    if tools/arm64.sh build/arm64-root; then
        cmake -B build/arm64 -G Ninja --toolchain build/arm64-root/arm64.cmake -DRECO_WERROR=ON >build/configure.log
        cmake --build build/arm64 -j "$jobs" -- --quiet
        ctest --test-dir build/arm64 -j "$jobs" --progress \
            -R '^test_(half|hash|log|distance|index_simd|kernels|dense|image_resize)$'
        qemu-aarch64 -L build/arm64-root/sysroot build/arm64/bin/test_index --filter '*/is_the_same_with_every_*'
    else
        echo "check: left out, the libraries of arm64 are not to be had here"
    fi
    step "the demo on a Vulkan device"
    python3 tests/e2e/device_labels.py build/dev/bin --demo || [ $? = 77 ]
    step "the head of reco-tiny made again"
    python3 tests/e2e/head_again.py build/dev/bin || [ $? = 77 ]
    step "what the head and its gate are worth"
    python3 tools/demo/claims.py build/dev/bin
    step "what they are worth to drawings of a second style"
    python=/usr/bin/python3 # Debian's Pillow is this one's
    $python -c 'import PIL' 2>/dev/null || python=python3
    modules=$(mktemp -d)
    if $python -c 'import PIL' && npm install --prefix "$modules" --silent --ignore-scripts --no-audit --no-fund \
        @iconify-json/openmoji@1.2.29; then
        # 1: not all promises hold; tools/demo/README.md says which
        $python tools/demo/claims.py build/dev/bin --openmoji "$modules/node_modules" || [ $? = 1 ]
    else
        echo "check: left out, npm or Pillow are not to be had here"
    fi
    rm -r "$modules"
    step "50 kills around an index"
    (cd build/dev && RECO_KILLS=50 bin/test_node_kill_index --verbose=1)
    step "10,000 cancels and deadlines"
    RECO_CANCELS=10000 build/dev/bin/test_coordinator_cancel --verbose=1
    build fuzz
    step "nodes and coordinator under clang's sanitizers, which also see zero added to a null pointer"
    ctest --preset fuzz -j "$jobs" --progress \
        -R '^test_(coordinator_(classify|filter|query|records|write)|node|node_hide|node_ingest)$'
    step "interop: clients in Go and JavaScript"
    python=/usr/bin/python3 # Debian's grpcio is this one's
    [ -x $python ] || python=python3
    $python tests/e2e/interop.py build/dev/bin --install
    step "fuzz"
    tests/fuzz/run_night.sh build/fuzz 600
    step "damaged messages"
    python=$(sed -n 's/^RECO_GRPC_PYTHON:INTERNAL=//p' build/dev/CMakeCache.txt)
    "$python" tests/e2e/mutated_node.py build/dev/bin 100000
    "$python" tests/e2e/mutated_front.py build/dev/bin 100000
    build tsan
    step "races"
    "$python" tests/e2e/races.py build/tsan/bin 120
    TSAN_OPTIONS=suppressions=$PWD/tests/tsan.supp python3 tests/e2e/cli_train.py build/tsan/bin \
        Train.test_known_pairs_give_the_head_a_gate_that_a_kill_does_not_change
fi
step "test"
tests dev
