#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# arm64.sh - brings what reco needs to be built for arm64 and tested on this machine into a folder.
#
# usage: tools/arm64.sh FOLDER
#
# The libraries are those of Debian 12 (packages_into.sh, about 100 MB are loaded, once); the compiler and
# qemu, which runs the tests, are this machine's: tools/setup.sh --arm64 installs them.
#
# Then:  cmake -B build/arm64 -G Ninja --toolchain FOLDER/arm64.cmake && cmake --build build/arm64
#        ctest --test-dir build/arm64 -R 'test_(half|distance|index)'
# Needed by tests only, never by a user: on an arm64 machine reco is built like anywhere.
set -eu

case ${1:-} in
    --help) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    "" | -*) echo "arm64.sh: one argument, the folder to fill, is needed" >&2; exit 2 ;;
esac
for program in qemu-aarch64 aarch64-linux-gnu-gcc aarch64-linux-gnu-g++; do
    if ! command -v $program >/dev/null; then
        echo "arm64.sh: $program is missing; tools/setup.sh --arm64 installs it" >&2
        exit 1
    fi
done
emulator=$(command -v qemu-aarch64)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
# shellcheck disable=SC2046 # one word each
tools/packages_into.sh "$folder" arm64 bookworm libc6-dev libstdc++-12-dev libcriterion-dev \
    $(tools/setup.sh --libraries)

cat >"$folder/arm64.cmake" <<END
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_SYSROOT $folder/sysroot)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR $emulator -L $folder/sysroot)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} $folder/sysroot)
set(ENV{PKG_CONFIG_LIBDIR} $folder/sysroot/usr/lib/aarch64-linux-gnu/pkgconfig:$folder/sysroot/usr/share/pkgconfig)
END
echo "arm64: $(aarch64-linux-gnu-gcc --version | head -n 1), $("$emulator" --version | head -n 1), libraries in $folder"
