#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs clang-tidy with the rules of .clang-tidy over the product's C files.
set -eu

usage() {
    cat <<'END'
usage: tools/lint.sh BUILD_DIR [FILE...]

BUILD_DIR     a folder made by cmake, with its compile_commands.json; what the
              build generates has to be there, so build first
FILE          files to check, as paths from here; without any, all .c files of
              proto, shaders, shard_node, coordinator and tools that are built

Exits with 1 when something was found. LINT_JOBS sets how many run at once
(default: all processors), CLANG_TIDY another program than clang-tidy-14.
END
}

case ${1:-} in
-h | --help)
    usage
    exit 0
    ;;
'' | -*)
    usage >&2
    exit 2
    ;;
esac

build=$1
shift
if [ ! -f "$build/compile_commands.json" ]; then
    echo "lint.sh: there is no compile_commands.json in $build; run cmake -B $build" >&2
    exit 2
fi
clang_tidy=${CLANG_TIDY:-clang-tidy-14}
if ! command -v "$clang_tidy" >/dev/null 2>&1; then
    echo "lint.sh: $clang_tidy is missing; Debian has it in the package clang-tidy-14" >&2
    exit 2
fi

build=$(cd "$build" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -eq 0 ]; then
    cd "$root"
    # A file that no target builds has no command, and would be read with a guessed one.
    # No file name here has a space or a newline in it.
    for file in $(find proto shaders shard_node coordinator tools -name '*.c' | sort); do
        if grep -q "\"file\": \"$root/$file\"" "$build/compile_commands.json"; then
            set -- "$@" "$file"
        else
            echo "lint.sh: $file is not part of this build; left out" >&2
        fi
    done
fi
if [ $# -eq 0 ]; then
    echo "lint.sh: no files to check" >&2
    exit 2
fi

# clang-tidy tells on stderr how many warnings of system headers it left out.
# That is noise, unless it could not do its work.
run_one='
    errors=$(mktemp)
    trap "rm -f \"$errors\"" EXIT
    if "$0" -p "$1" --quiet "$2" 2>"$errors"; then
        exit 0
    fi
    grep -v " warnings\{0,1\}\( and [0-9]* errors\{0,1\}\)\{0,1\} generated" "$errors" >&2
    echo "lint.sh: findings in $2" >&2
    exit 1
'
jobs=${LINT_JOBS:-$(nproc)}
if ! printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh -c "$run_one" "$clang_tidy" "$build"; then
    echo "lint.sh: clang-tidy has findings" >&2
    exit 1
fi
echo "lint.sh: $# files are clean"
