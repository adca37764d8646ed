#!/bin/sh
# Installs, from Debian alone, what building, testing and demonstrating Bailey needs. `build` (the default): to build and run;
# `test`: also what the tests run; `bench`: also the peers the benchmarks compare with. Does nothing when all is there.
set -eu

build='gcc libc6-dev linux-libc-dev make meson ninja-build pkg-config python3 libseccomp-dev libcyaml-dev libyaml-dev musl-tools libssl-dev libzstd-dev'
test="$build libcmocka-dev busybox-static dash ed git perl xz-utils zstd sqlite3 file util-linux procps
  vim-tiny tmux restic libpython3.11-testsuite bc attr acl"
bench="$test bubblewrap hyperfine"

case "${1:-build}" in
build) packages=$build ;;
test) packages=$test ;;
bench) packages=$bench ;;
*) echo "usage: $0 [build|test|bench]" >&2; exit 2 ;;
esac

missing=
for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "these Debian packages are missing, and there is no sudo to install them:$missing" >&2
        exit 1
    }
    sudo=sudo
fi
echo "Installing:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
