#!/bin/sh
# Checks the contract: it is well formed, documented, and breaks nobody.
#
#   proto/check.sh [BASE]
#
# BASE is the commit to stay compatible with. Left out, it is the latest release; before there is
# one, the point where this branch left origin/main; on main itself, whatever the contract was
# before its last change. Where history has none of these, as at the beginning or in a shallow
# clone, only the present files are checked, and the script says so.
#
# Writes nothing to the repository. Needs git, and either buf or Python 3 to install it with.
set -eu

BUF_VERSION=1.75.0

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

# Prints a commit to compare with, or nothing.
base() {
    if tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD 2>/dev/null); then
        git rev-parse "$tag^{commit}"
        return
    fi
    head=$(git rev-parse HEAD)
    fork=$(git merge-base HEAD origin/main 2>/dev/null || true)
    if [ -n "$fork" ] && [ "$fork" != "$head" ]; then
        echo "$fork"
    elif ! git diff --quiet HEAD -- proto/lictor; then
        echo "$head"
    else
        changed=$(git log -1 --format=%H -- proto/lictor)
        git rev-parse --verify --quiet "$changed^{commit}~1" || true
    fi
}

# Sets `buf` to a program, installed beside the build if there is none.
find_buf() {
    buf=$(command -v buf || true)
    [ -z "$buf" ] || return 0
    tools=${CARGO_TARGET_DIR:-$root/target}/buf-$BUF_VERSION
    buf=$tools/bin/buf
    [ ! -x "$buf" ] || return 0
    echo "installing buf $BUF_VERSION into $tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check "buf-bin==$BUF_VERSION"
}

if [ $# -gt 0 ]; then
    base=$(git rev-parse --verify "$1^{commit}")
else
    base=$(git rev-parse --verify --quiet HEAD >/dev/null && base || true)
fi

find_buf
"$buf" lint proto
"$buf" build proto -o /dev/null
echo "contract: well formed and documented"

if [ -z "$base" ] || ! git cat-file -e "$base:proto/lictor" 2>/dev/null; then
    echo "contract: nothing earlier in this clone to compare with, so compatibility was not checked"
    exit 0
fi
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$base" proto | tar -x -C "$old"
"$buf" breaking proto --against "$old/proto"
echo "contract: compatible with $(git log -1 --format='%h (%s)' "$base")"
