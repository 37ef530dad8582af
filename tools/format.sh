#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that every C file is formatted as .clang-format says, or formats it.
set -eu

usage() {
    cat <<'END'
usage: tools/format.sh [--fix] [FILE...]

Without --fix: tells which lines are not formatted and exits with 1.
With --fix:    rewrites the files.
Without FILE:  all .c and .h files of the repository.

CLANG_FORMAT names another program than clang-format-14. Other versions format
differently.
END
}

fix=no
while [ $# -gt 0 ]; do
    case $1 in
    --fix) fix=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    --)
        shift
        break
        ;;
    -*)
        echo "format.sh: unknown option $1" >&2
        usage >&2
        exit 2
        ;;
    *) break ;;
    esac
    shift
done

clang_format=${CLANG_FORMAT:-clang-format-14}
if ! command -v "$clang_format" >/dev/null 2>&1; then
    echo "format.sh: $clang_format is missing; Debian has it in the package clang-format-14" >&2
    exit 2
fi

root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -eq 0 ]; then
    cd "$root"
    # No file name here has a space or a newline in it.
    # shellcheck disable=SC2046
    set -- $(find proto shaders shard_node coordinator tools tests -name '*.[ch]' | sort)
fi

if [ "$fix" = yes ]; then
    exec "$clang_format" -i "$@"
fi
if ! "$clang_format" --dry-run -Werror "$@"; then
    echo "format.sh: tools/format.sh --fix mends this" >&2
    exit 1
fi
