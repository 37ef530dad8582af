#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# setup.sh - installs what reco needs to build (and, with --tests, to be tested) on Debian.
#
# usage: tools/setup.sh [--tests] [--arm64]
#        tools/setup.sh --libraries
#   --tests      also what tests need
#   --arm64      also what building for arm64 on another machine needs (tools/arm64.sh)
#   --libraries  installs nothing; prints the packages of the libraries that reco is built with
# Quick, and needs no network, when everything is there already.
set -eu

usage() {
    sed -n '3,10s/^# \{0,1\}//p' "$0"
}

build="gcc g++ cmake ninja-build pkg-config libgrpc-dev protobuf-compiler libprotobuf-dev libprotobuf-c-dev
protobuf-c-compiler libzmq3-dev libsodium-dev librocksdb-dev libdnnl-dev libjpeg-dev libpng-dev libwebp-dev
libgif-dev libvulkan-dev glslang-tools spirv-tools libmicrohttpd-dev libutf8proc-dev libjansson-dev libinih-dev libxxhash-dev libarchive-dev zlib1g-dev
python3"
tests="libcriterion-dev clang-14 libclang-rt-14-dev clang-format-14 clang-tidy-14 python3-grpcio
mesa-vulkan-drivers vulkan-validationlayers libonnx-testdata
librsvg2-dev openssl man-db mandoc python3-prometheus-client python3-pil zsh fish systemd curl"
arm64="gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user"

wanted=$build
for argument in "$@"; do
    case $argument in
        --tests) wanted="$wanted $tests" ;;
        --arm64) wanted="$wanted $arm64" ;;
        --libraries) tr ' ' '\n' <<<"$build" | grep -- '-dev$'; exit 0 ;;
        --help) usage; exit 0 ;;
        *) echo "setup.sh: unknown argument '$argument'; allowed: --tests, --arm64, --libraries, --help" >&2; exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup.sh: this is not Debian or Ubuntu, so nothing was installed. reco needs, by Debian's names:"
    echo "$wanted" | tr '\n' ' ' | fold -s -w 90
    echo
    echo "Going on; CMake will name what it misses."
    exit 0
fi

missing=
for package in $wanted; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "setup: every package is there"
    exit 0
fi

become=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup.sh: these packages are missing, and only root may install them:$missing" >&2
        exit 1
    fi
    become=sudo
fi
echo "setup: installing$missing"
$become apt-get update -qq
# shellcheck disable=SC2086 # one word each
$become env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
echo "setup: done"
