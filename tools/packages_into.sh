#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# packages_into.sh - unpacks packages of Debian, with all they depend on, into a folder.
#
# usage: tools/packages_into.sh FOLDER ARCHITECTURE "SUITE..." PACKAGE...
#
# They come from the archive that this machine's apt uses, checked with Debian's keys, and lie under
# FOLDER/sysroot afterwards. apt has lists and a state of its own for it, so nothing of the system changes, and
# nothing of what the packages would run at their installation is run. Done once: FOLDER/complete says so.
set -eu

case ${1:-} in
    --help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
if [ $# -lt 4 ]; then
    echo "packages_into.sh: folder, architecture, suites and packages are needed; see --help" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
architecture=$2
suites=$3
shift 3
[ ! -e "$folder/complete" ] || exit 0

mkdir -p "$folder"/apt/{lists,archives}/partial
: >"$folder/apt/status" # nothing is installed: every dependency is loaded too
# shellcheck disable=SC2016 # apt's variables, not the shell's
archive=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    sed -n 's/ \(bookworm\|trixie\)$//p' | head -n 1)
if [ -z "$archive" ]; then
    echo "packages_into.sh: apt here uses no archive of Debian 12 or 13" >&2
    exit 1
fi
for suite in $suites; do
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$archive" "$suite"
done >"$folder/apt/sources.list"
get() {
    apt-get -q -o APT::Architecture="$architecture" -o APT::Architectures::="$architecture" \
        -o Dir::Etc::SourceList="$folder/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$folder/apt/lists" -o Dir::State::Status="$folder/apt/status" \
        -o Dir::Cache="$folder/apt" -o Dir::Cache::Archives="$folder/apt/archives" \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 "$@" >"$folder/apt/log" 2>&1 ||
        { tail -n 20 "$folder/apt/log" >&2; exit 1; }
}
get update
get install -y --no-install-recommends --download-only "$@"
for deb in "$folder"/apt/archives/*.deb; do
    dpkg-deb -x "$deb" "$folder/sysroot"
done
rm -r "$folder/apt"
touch "$folder/complete"
