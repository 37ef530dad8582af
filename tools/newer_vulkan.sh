#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# newer_vulkan.sh - brings a GLSL compiler and a software Vulkan device of Debian 13 into a folder.
#
# usage: tools/newer_vulkan.sh PREFIX
#
# Debian 12's glslang cannot compile cooperative matrices and its lavapipe cannot run them;
# those of Debian 13 and its backports can. They run beside Debian 12's libraries by their
# own dynamic loader. packages_into.sh gets them, and nothing of the system changes. About 80 MB are
# loaded, once.
#
# Then:  cmake -C PREFIX/reco.cmake -B build/newer -G Ninja && cmake --build build/newer
#        VK_DRIVER_FILES=PREFIX/lavapipe.json ctest --test-dir build/newer -R gpu
# builds with that compiler and runs on that device. Needed by tests only, never by a user.
set -eu

case ${1:-} in
    --help) sed -n '3,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    "" | -*) echo "newer_vulkan.sh: one argument, the folder to fill, is needed" >&2; exit 2 ;;
esac
if [ "$(dpkg --print-architecture)" != amd64 ]; then
    echo "newer_vulkan.sh: this knows the loader of amd64 only" >&2
    exit 1
fi
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
root=$prefix/sysroot
libraries=$root/usr/lib/x86_64-linux-gnu
packages="glslang-tools spirv-tools libvulkan1 vulkan-validationlayers mesa-vulkan-drivers/trixie-backports
libc6 libstdc++6 libgcc-s1"

# shellcheck disable=SC2086 # one word each
tools/packages_into.sh "$prefix" amd64 "trixie trixie-backports" $packages

# Programs by the loader of the folder; glslang is called by its full name or by an older one.
loader=$(readlink -f "$libraries/ld-linux-x86-64.so.2")
mkdir -p "$prefix/bin"
for program in glslang spirv-val; do
    printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$loader" "$libraries" "$root/usr/bin/$program" \
        >"$prefix/bin/$program"
    chmod +x "$prefix/bin/$program"
done
printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.4.0"}}\n' \
    "$libraries/libvulkan_lvp.so" >"$prefix/lavapipe.json"
cat >"$prefix/reco.cmake" <<END
set(RECO_GLSLANG $prefix/bin/glslang CACHE FILEPATH "")
set(RECO_SPIRV_VAL $prefix/bin/spirv-val CACHE FILEPATH "")
set(CMAKE_EXE_LINKER_FLAGS "-Wl,--dynamic-linker=$loader,-rpath,$libraries,--disable-new-dtags,--allow-shlib-undefined" CACHE STRING "")
END
echo "newer_vulkan: $("$prefix/bin/glslang" --version | head -n 1) in $prefix"
